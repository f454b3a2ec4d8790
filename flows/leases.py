"""Which worker visits which host: one small object in the bucket a registrable host.

    leases/<host>.json      {"owner": ..., "expires": ..., "rests_until": ...}

An object is made by put-if-absent and changed by put-if-unchanged alone, so of several workers that
want a host at once the store lets one have it. It is never deleted while workers run: a deletion
cannot be made conditional, and could take another's lease away.

All times in it are the store's, by its Date header, so the workers' clocks need not agree. What is
assumed: the clock that the store answers by is one clock, or several within a second of each other;
a worker's own monotonic clock runs as fast as it, within one part in a hundred; and a request that
has begun ends within a quarter of `ttl_s` after the store has become unreachable.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote

from pydantic import TypeAdapter

from crawler.hosts import registrable_host
from flows.errors import CratedigError, NotFound
from flows.objects import ObjectStore

SKEW_S = 2.0
"""What the store's clocks may differ by, and the second by which its Date header is rounded."""

MIN_TTL_S = 5.0
"""With less, the margins above and below leave no time between two renewals."""

_RENEWALS_PER_TTL = 3
_DRIFT = 0.01
# A lease is not counted on in its last quarter: a request that starts has as long as that to end.
_RESERVE = 0.25
# A deletion that takes longer than this could meet the next holder's lease.
_DROP_WITHIN_S = 300.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    """What lies in the bucket; times in seconds since 1970, by the store's clock."""

    owner: str
    expires: float
    rests_until: float = 0.0
    """Until when the host asked to be left alone; whoever comes next waits for it, too."""


_LEASE = TypeAdapter(_Lease)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Held:
    """A lease as its holder sees it."""

    ends: float
    """On the monotonic clock: from then on it is not counted on."""
    rests_until: float = 0.0
    """On the monotonic clock."""
    asked: float = math.inf
    """When it was last asked for, on the monotonic clock; infinite if it is kept to the end."""
    visits: int = 0
    """Requests under way."""


class BucketLeases:
    """The hosts that this worker may visit (a `crawler.politeness.HostLeases`); close it at the end.

    `owner` is for people who read the bucket; each instance is told apart besides. A lease lasts
    `ttl_s` seconds, is renewed in the background three times as often, and given back when this is
    closed, or no request has been made to the host for `ttl_s`; that of a worker that was killed
    runs out. A context manager.
    """

    def __init__(self, store: ObjectStore, owner: str, *, ttl_s: float = 120.0) -> None:
        if ttl_s < MIN_TTL_S:
            raise ValueError(f"a lease must last {MIN_TTL_S} s at least, not {ttl_s} s")
        self._store = store
        self._owner = f"{owner} {uuid.uuid4().hex}"
        self._ttl_s = ttl_s
        self._held: dict[str, _Held] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()  # guards the two above
        self._wake = threading.Event()
        self._closed = False
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def hold(self, host: str) -> bool:
        """Return whether this worker holds `host` (a netloc, or a name) now; take it if it is free.

        For the next request, which is made within a `visit`. Costs nothing when it is held; asks the
        store when it is not. Raises what `ObjectStore` does.
        """
        name, now = registrable_host(host), time.monotonic()
        if self._holds(name, now):
            return True
        return await asyncio.to_thread(self._take, name, now)

    def take(self, host: str) -> bool:
        """Do what `hold` does, without an event loop, and keep the host until this is closed."""
        return self._take(registrable_host(host), math.inf)

    def _take(self, name: str, asked: float) -> bool:
        with self._lock_of(name):
            if self._holds(name, asked):
                return True
            if self._closed:
                return False
            before = self._held.get(name)
            held = self._write(name, before)
            if held is not None:
                held.asked = asked if before is None else max(asked, before.asked)
                held.visits = 0 if before is None else before.visits
            with self._lock:
                if held is None:
                    self._held.pop(name, None)
                else:
                    self._held[name] = held
                    self._start_renewing()
            return held is not None

    @contextmanager
    def visit(self, host: str) -> Iterator[None]:
        """Keep a host that is held for as long as a request to it is under way."""
        name = registrable_host(host)
        self._count(name, 1)
        try:
            yield
        finally:
            self._count(name, -1)

    def _count(self, name: str, visits: int) -> None:
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                held.visits = max(0, held.visits + visits)  # it may have been taken anew since
                held.asked = max(held.asked, time.monotonic())

    def rest(self, host: str, seconds: float) -> None:
        """Have whoever visits `host` next leave it alone until `seconds` from now.

        For its Crawl-delay after each request, and when it answers with Retry-After: the next
        worker cannot know of either.
        """
        with self._lock:
            held = self._held.get(registrable_host(host))
            if held is None:
                return
            held.rests_until = max(held.rests_until, time.monotonic() + seconds)
        if seconds > self._ttl_s / 2:
            # Longer than the lease of a worker that is killed now would last.
            self._wake.set()

    def close(self) -> None:
        """Give every lease back, and stop renewing. One that the store cannot be told of runs out."""
        with self._lock:
            self._closed = True
            renewer, hosts = self._renewer, list(self._locks)
        self._wake.set()
        if renewer is not None:
            renewer.join()
        for host in hosts:
            # One that is being taken at this moment is waited for, and given back, too.
            with self._lock_of(host):
                held = self._held.pop(host, None)
                if held is None:
                    continue
                try:
                    self._write(host, held, released=True)
                except CratedigError:
                    # It runs out by itself, and an error here would hide the one that ends the run.
                    continue

    def _holds(self, host: str, asked: float) -> bool:
        with self._lock:
            held = self._held.get(host)
            if held is None or time.monotonic() >= held.ends - self._ttl_s * _RESERVE:
                return False
            held.asked = max(held.asked, asked)
            return True

    def _lock_of(self, host: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(host, threading.Lock())

    def _write(self, host: str, held: _Held | None, *, released: bool = False) -> _Held | None:
        """Take, renew or (`released`) give back the lease; None if another has it."""
        before = time.monotonic()
        now = self._store.clock().timestamp()
        found, etag = _read(self._store, host)
        ours = found is not None and found.owner == self._owner
        if found is not None and not ours and now < max(found.expires, found.rests_until):
            return None
        rests_until = 0.0 if held is None else held.rests_until
        # At most what the store's clock will show when ours shows `rests_until`.
        rests_at = now + SKEW_S + rests_until - before if rests_until else 0.0
        lease = _Lease(
            owner=self._owner,
            expires=now if released else now + self._ttl_s,
            rests_until=max(rests_at, found.rests_until if ours and found else 0.0),
        )
        if not _write(self._store, host, lease, etag):
            return None
        ends = before + (self._ttl_s - SKEW_S) * (1 - _DRIFT)
        return _Held(ends=ends, rests_until=rests_until)

    def _start_renewing(self) -> None:
        """Start the thread that renews, once; it does not hang on an event loop that is busy."""
        if self._renewer is None:
            self._renewer = threading.Thread(
                target=self._renew_until_closed, name="leases", daemon=True
            )
            self._renewer.start()

    def _renew_until_closed(self) -> None:
        while not self._closed:
            self._wake.wait(self._ttl_s / _RENEWALS_PER_TTL)
            self._wake.clear()
            with self._lock:
                hosts = list(self._held)
            for host in hosts:
                if not self._closed:
                    self._renew(host)

    def _renew(self, host: str) -> None:
        with self._lock_of(host):
            with self._lock:
                held = self._held.get(host)
                if held is None:
                    return
                idle = held.visits == 0 and time.monotonic() - held.asked > self._ttl_s
                if idle:
                    del self._held[host]
            try:
                renewed = self._write(host, held, released=idle)
            except CratedigError:
                return  # it is tried again; when it has run out, `hold` asks the store and raises
            if idle:
                return
            with self._lock:
                if renewed is None:
                    del self._held[host]
                else:
                    held.ends = renewed.ends  # it may have been told to rest meanwhile


def lease_key(host: str) -> str:
    """Return the key of the lease of a registrable host."""
    return f"leases/{quote(host, safe='')}.json"


def drop_leases(
    store: ObjectStore,
    *,
    idle_s: float,
    also: Callable[[str], bool] = lambda host: False,
) -> int:
    """Delete leases that ran out `idle_s` ago, and free ones of hosts that `also` names; count them.

    Each is taken over before it is deleted, so that no worker can have taken it in between.
    """
    now = store.clock().timestamp()
    dropped = 0
    for info in store.list("leases/"):
        host = unquote(info.key.removeprefix("leases/").removesuffix(".json"))
        found, etag = _read(store, host)
        if found is None or etag is None:
            continue
        free_since = max(found.expires, found.rests_until)
        if now < free_since + (0.0 if also(host) else idle_s):
            continue
        ours = _Lease(owner=f"sweep {uuid.uuid4().hex}", expires=now + _DROP_WITHIN_S)
        if _write(store, host, ours, etag):
            store.delete(info.key)
            dropped += 1
    return dropped


def _read(store: ObjectStore, host: str) -> tuple[_Lease | None, str | None]:
    """Return the lease and its etag; Nones if nobody has ever had it."""
    try:
        data, etag = store.get_with_etag(lease_key(host))
    except NotFound:
        return None, None
    return _LEASE.validate_json(data), etag


def _write(store: ObjectStore, host: str, lease: _Lease, etag: str | None) -> bool:
    """Write the lease if it is still as it was read; return whether this call wrote it."""
    data = _LEASE.dump_json(lease)
    if etag is None:
        return store.put_once(lease_key(host), data)
    return store.replace(lease_key(host), data, etag)
