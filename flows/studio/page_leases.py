"""Who has which pictures of a queue on the screen, so that two reviewers are not asked the same.

    screens/<label>.json      {"<tab>": {"who": ..., "ends": ..., "sha256s": [...]}}

One small object a label lies in the bucket and is changed by conditional puts alone: of two studios
that deal out pages at once the store lets one have its way, and the other looks again.

A lease is advice. It runs out by itself, an answer without one counts like any other, and while the
store does not answer a studio goes by what it knew last. `ends` is by the studios' own clocks: what
they differ by is nothing to `LEASE_S`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from flows.errors import CratedigError, NotFound
from flows.objects import ObjectStore

LEASE_S = 600.0
"""From the last page that the tab has asked for."""

MAX_HELD = 500
"""Pictures of one tab; of more, those that it was asked about last."""

_TRIES = 4
_PAUSE_S = 5.0  # after a failure of the store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What one browser tab has been given."""

    who: str
    ends: float
    """In seconds since 1970."""
    sha256s: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The pictures of a label that are on a screen, as one tab sees it."""

    mine: tuple[str, ...]
    others: Mapping[str, str]
    """Ids to who has them."""


T = TypeVar("T")

_SCREENS = TypeAdapter(dict[str, Screen])


class PageLeases:
    """The screens of all studios on one bucket; safe to use from several threads."""

    def __init__(self, *, lease_s: float = LEASE_S) -> None:
        self._lease_s = lease_s
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, dict[str, Screen]] = {}
        self._pause_ends = 0.0

    def deal(
        self,
        store: ObjectStore,
        label: str,
        tab: str,
        choose: Callable[[Held], tuple[T, Iterable[str]]],
        *,
        who: str,
    ) -> T:
        """Return what `choose` makes of what is held; `tab` holds from now on the ids beside it.

        `choose` is called again when another studio was faster. A tab without a name, "", holds
        nothing.
        """

        def changed(screens: dict[str, Screen]) -> tuple[T, dict[str, Screen]]:
            mine = screens.get(tab)
            others = {
                sha256: screen.who
                for name, screen in screens.items()
                if name != tab
                for sha256 in screen.sha256s
            }
            found, ids = choose(Held(mine=mine.sha256s if mine else (), others=others))
            held = tuple(dict.fromkeys(ids))[-MAX_HELD:]
            rest = {name: screen for name, screen in screens.items() if name != tab}
            if tab and held:
                rest[tab] = Screen(who=who, ends=time.time() + self._lease_s, sha256s=held)
            return found, rest

        return self._change(store, label, changed)

    def release(self, store: ObjectStore, label: str, tab: str) -> None:
        """Let go of what `tab` holds: it is being closed."""
        self._change(
            store, label, lambda screens: (None, _without(screens, lambda name: name == tab))
        )

    def claim(self, store: ObjectStore, label: str, tab: str) -> None:
        """Let go of what all others hold, so that `tab` is given it when it asks."""
        self._change(
            store, label, lambda screens: (None, _without(screens, lambda name: name != tab))
        )

    def _change(
        self,
        store: ObjectStore,
        label: str,
        change: Callable[[dict[str, Screen]], tuple[T, dict[str, Screen]]],
    ) -> T:
        with self._locks.setdefault(label, threading.Lock()):
            for _ in range(_TRIES):
                stored, etag = self._read(store, label)
                found, screens = change(_current(stored))
                self._known[label] = screens
                if screens == stored or self._write(store, label, screens, etag):
                    break
            # Others were faster each time: two reviewers may be asked the same for once.
            return found

    def _read(self, store: ObjectStore, label: str) -> tuple[dict[str, Screen], str | None]:
        """Return the screens and their object's etag, "" while the store does not answer."""
        if time.monotonic() >= self._pause_ends:
            try:
                data, etag = store.get_with_etag(_key(label))
                return _SCREENS.validate_json(data), etag
            except NotFound:
                return {}, None
            except CratedigError:
                self._pause_ends = time.monotonic() + _PAUSE_S
        return self._known.get(label, {}), ""

    def _write(
        self, store: ObjectStore, label: str, screens: dict[str, Screen], etag: str | None
    ) -> bool:
        """Return whether there is no need to look again."""
        if etag == "":
            return True
        data = _SCREENS.dump_json(screens)
        try:
            if etag is None:
                return store.put_once(_key(label), data)
            return store.replace(_key(label), data, etag)
        except CratedigError:
            self._pause_ends = time.monotonic() + _PAUSE_S
            return True


def _current(screens: dict[str, Screen]) -> dict[str, Screen]:
    now = time.time()
    return {name: screen for name, screen in screens.items() if screen.ends > now}


def _without(screens: dict[str, Screen], gone: Callable[[str], bool]) -> dict[str, Screen]:
    return {name: screen for name, screen in screens.items() if not gone(name)}


def _key(label: str) -> str:
    return f"screens/{quote(label, safe='')}.json"
