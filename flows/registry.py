"""Trained models in the bucket, and which of them is in production.

    models/<name>/<version>/head.safetensors, out_of_fold.json, card.html, card.json
    models/<name>/aliases.json               {"production": version, "history": [...]}

A version is a function of what it was trained on and how, so publishing one twice writes the same
bytes. `card.json` is written last: a version without it is not there. The alias changes by
conditional put alone, so two promotions at once cannot both believe that they won.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import TypeAdapter

# pydantic reads TypedDict from here before Python 3.12.
from typing_extensions import TypedDict

from flows.errors import Permanent, Transient
from flows.objects import ObjectStore
from model.card import ModelCard
from model.checkpoint import TrainedModel, from_files, to_files

CARD = "card.json"
PAGE = "card.html"
FILES = ("head.safetensors", "out_of_fold.json", CARD)


class Promotion(TypedDict):
    """One change of what is in production."""

    version: str
    instead_of: str | None
    at: str
    reason: str


class _Aliases(TypedDict):
    production: str | None
    history: list[Promotion]


_ALIASES = TypeAdapter(_Aliases)


class Registry:
    """The versions of one project's model."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._prefix = f"models/{name}"

    def has(self, version: str) -> bool:
        """Say whether that version has been published whole."""
        return self._store.head(f"{self._prefix}/{version}/{CARD}") is not None

    def publish(self, model: TrainedModel, *, page: str | None = None) -> None:
        """Write every file of the model, and its page for people, the card last."""
        files = to_files(model)
        if page is not None:
            self._store.put(f"{self._prefix}/{model.card.version}/{PAGE}", page.encode())
        for name in FILES:
            self._store.put(f"{self._prefix}/{model.card.version}/{name}", files[name])

    def load(self, version: str) -> TrainedModel:
        """Return that version. Raises NotFound when it does not exist."""
        return from_files(
            {name: self._store.get(f"{self._prefix}/{version}/{name}") for name in FILES}
        )

    def card(self, version: str) -> ModelCard:
        """Return that version's card alone."""
        return ModelCard.from_json(self._store.get(f"{self._prefix}/{version}/{CARD}").decode())

    def page(self, version: str) -> str:
        """Return that version's page. Raises NotFound when it was published without one."""
        return self._store.get(f"{self._prefix}/{version}/{PAGE}").decode()

    def versions(self) -> Iterator[str]:
        """Yield the versions that have been published whole, in no order that means anything."""
        for info in self._store.list(f"{self._prefix}/"):
            version, _, name = info.key.removeprefix(f"{self._prefix}/").partition("/")
            if name == CARD:
                yield version

    def production(self) -> str | None:
        """Return the version in production, or None before the first promotion."""
        aliases, _ = self._aliases()
        return aliases["production"]

    def promotions(self) -> list[Promotion]:
        """Return every promotion so far, oldest first."""
        aliases, _ = self._aliases()
        return aliases["history"]

    def promote(self, version: str, *, instead_of: str | None, reason: str) -> None:
        """Put `version` into production in place of `instead_of` (None: there was none).

        Raises Transient when something else was promoted in the meantime: compare again.
        """
        if not self.has(version):
            raise Permanent(f"there is no model version {version} to promote")
        aliases, etag = self._aliases()
        if aliases["production"] != instead_of:
            raise Transient(
                f"version {aliases['production']} was promoted while {version} was compared "
                f"with {instead_of}; compare and promote again"
            )
        step = Promotion(
            version=version,
            instead_of=instead_of,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
        )
        changed = _Aliases(production=version, history=[*aliases["history"], step])
        body = _ALIASES.dump_json(changed, indent=2)
        key = f"{self._prefix}/aliases.json"
        won = (
            self._store.put_once(key, body)
            if etag is None
            else self._store.replace(key, body, etag)
        )
        if not won:
            raise Transient(f"another promotion came between; compare {version} again")

    def _aliases(self) -> tuple[_Aliases, str | None]:
        """Return the aliases and the ETag to replace them by; no ETag when there are none yet."""
        key = f"{self._prefix}/aliases.json"
        # The ETag is asked first: if the body is newer than it, the conditional put fails safely.
        info = self._store.head(key)
        if info is None:
            return _Aliases(production=None, history=[]), None
        return _ALIASES.validate_json(self._store.get(key)), info.etag
