"""How often one host is asked, by whom, and when it is left alone because it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

# Hosts remembered before those at rest are forgotten.
_MAX_IDLE_HOSTS = 1024
# A host that fails so many times in a row is left alone for a while: ten thousand links to a dead
# server would otherwise cost a timeout each.
MAX_FAILURES_IN_A_ROW = 8
_REST_S = 60.0
# A slow server is given more time between two requests, but not more than this.
_MAX_ADAPTIVE_DELAY_S = 60.0


class HostLeases(Protocol):
    """Which hosts this process may visit: no two processes visit one at a time."""

    async def hold(self, host: str) -> bool:
        """Return whether this process holds `host` (a netloc, lower case) now.

        It is taken if it is free, and renewed if it is about to run out. Cheap when held: it is
        asked before every request.
        """

    def visit(self, host: str) -> AbstractContextManager[None]:
        """Return what a request to a host that is held is made in: it is not given back meanwhile."""

    def rest(self, host: str, seconds: float) -> None:
        """Have whoever visits `host` next, in whatever process, leave it alone for that long.

        Told after every request (its Crawl-delay) and when the host asks for a pause.
        """


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    users: int = 0
    """Requests that hold or await a slot."""
    next_start: float = 0.0
    """On the monotonic clock: no request starts before it."""
    last_start: float = 0.0
    """On the monotonic clock."""
    introduced: bool = False
    """Whether its robots.txt, and so its Crawl-delay, is known."""
    crawl_delay_s: float = 0.0
    adaptive_delay_s: float = 0.0
    failures: int = 0
    """In a row."""
    rests_until: float = 0.0
    """On the monotonic clock: nothing is asked of it before."""


class HostGates:
    """A gate for each host; only requests to the same host wait for one another.

    Between two starts at a host lies the longest of three delays: the policy's, its robots.txt's,
    and one that follows its answers as Scrapy's AutoThrottle does: a host that takes long to answer
    is asked less often, and none is asked more often than the first two allow.
    """

    def __init__(
        self,
        *,
        concurrency_per_host: int,
        delay_s: float,
        on_introduced: Callable[[str], None] = lambda host: None,
    ) -> None:
        self._concurrency = concurrency_per_host
        self._delay_s = delay_s
        self._on_introduced = on_introduced
        self._hosts: dict[str, _Host] = {}

    def opens_in(self, host: str) -> float | None:
        """Return the seconds until one more request may start; None when one has to end before.

        A host that is met for the first time is asked one thing, until its robots.txt is known, and
        one that has just failed, until it answers: else each of its slots would fail in turn.
        One that rests is open: who asks for it is to be told so at once.
        """
        gate = self._gate(host)
        if gate.rests_until > time.monotonic():
            return 0.0
        if gate.users >= (self._concurrency if gate.introduced and not gate.failures else 1):
            return None
        return max(0.0, gate.next_start - time.monotonic())

    def claim(self, host: str) -> None:
        """Become one of the host's users, from a start that `opens_in` has allowed, to `release`."""
        gate = self._gate(host)
        gate.users += 1
        gate.last_start = time.monotonic()
        self._started(gate)

    def release(self, host: str) -> None:
        """Be one of the host's users no more."""
        self._gate(host).users -= 1

    @asynccontextmanager
    async def slot(
        self, host: str, *, crawl_delay_s: float = 0.0, claimed: bool = False
    ) -> AsyncIterator[None]:
        """Wait for this host's turn and hold one of its slots.

        A turn that was `claimed` waits only where robots.txt, which has just been read for it,
        turns out to ask for a delay: reading it was a request, too.
        """
        gate = self._gate(host)
        gate.crawl_delay_s = crawl_delay_s
        gate.users += not claimed
        try:
            async with gate.slots:
                if not claimed:
                    await self._wait(gate, gate.next_start)
                elif crawl_delay_s and not gate.introduced:
                    await self._wait(gate, time.monotonic() + crawl_delay_s)
                if not gate.introduced:
                    gate.introduced = True
                    self._on_introduced(host)
                yield
        finally:
            gate.users -= not claimed

    def answered(self, host: str, seconds: float, *, well: bool) -> None:
        """Note that `host` took so long to answer; only where it did so `well` may it speed us up."""
        gate = self._gate(host)
        wanted = seconds / self._concurrency
        delay_s = min(max(wanted, (gate.adaptive_delay_s + wanted) / 2), _MAX_ADAPTIVE_DELAY_S)
        if well or delay_s > gate.adaptive_delay_s:
            gate.adaptive_delay_s = delay_s

    def succeeded(self, host: str) -> None:
        """Note that `host` answered."""
        self._gate(host).failures = 0

    def failed(self, host: str, *, weight: int = 1) -> None:
        """Note that `host` did not answer, or only with an error of its own."""
        gate = self._gate(host)
        gate.failures += weight
        if gate.failures >= MAX_FAILURES_IN_A_ROW:
            self.rest(host, _REST_S)

    def rest(self, host: str, seconds: float) -> None:
        """Leave `host` alone for that long."""
        gate = self._gate(host)
        gate.rests_until = max(gate.rests_until, time.monotonic() + seconds)

    def rests(self, host: str) -> bool:
        """Return whether `host` is left alone now."""
        return self._gate(host).rests_until > time.monotonic()

    def delay(self, host: str, seconds: float) -> None:
        """Start nothing new at `host` for that long; what waits for it goes on waiting."""
        gate = self._gate(host)
        gate.next_start = max(gate.next_start, time.monotonic() + seconds)

    async def _wait(self, gate: _Host, start: float) -> None:
        self._started(gate, max(start, time.monotonic()))
        await asyncio.sleep(start - time.monotonic())
        # A process that was kept busy wakes all those up together whose turns have come meanwhile.
        while (early_s := gate.last_start + self._asked_for_s(gate) - time.monotonic()) > 0:  # noqa: ASYNC110 - for time alone
            await asyncio.sleep(early_s)
        gate.last_start = time.monotonic()

    def _asked_for_s(self, gate: _Host) -> float:
        return max(self._delay_s, gate.crawl_delay_s)

    def _started(self, gate: _Host, at: float | None = None) -> None:
        delay_s = max(self._asked_for_s(gate), gate.adaptive_delay_s)
        gate.next_start = max(gate.next_start, (at or time.monotonic()) + delay_s)

    def _gate(self, host: str) -> _Host:
        if (gate := self._hosts.get(host)) is not None:
            return gate
        if len(self._hosts) >= _MAX_IDLE_HOSTS:
            now = time.monotonic()
            self._hosts = {
                name: gate
                for name, gate in self._hosts.items()
                if gate.users or max(gate.next_start, gate.rests_until) > now
            }
        gate = self._hosts[host] = _Host(slots=asyncio.Semaphore(self._concurrency))
        return gate
