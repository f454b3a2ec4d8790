"""How often one host is asked, and when it is left alone because it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

# Hosts remembered before those at rest are forgotten.
_MAX_IDLE_HOSTS = 1024
# A host that fails so many times in a row is left alone for a while: ten thousand links to a dead
# server would otherwise cost a timeout each.
MAX_FAILURES_IN_A_ROW = 8
_REST_S = 60.0


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    users: int = 0
    """Requests that hold or await a slot."""
    next_start: float = 0.0
    """On the monotonic clock: no request starts before it."""
    failures: int = 0
    """In a row."""
    rests_until: float = 0.0
    """On the monotonic clock: nothing is asked of it before."""


class HostGates:
    """A gate for each host; only requests to the same host wait for one another."""

    def __init__(self, *, concurrency_per_host: int, delay_s: float) -> None:
        self._concurrency = concurrency_per_host
        self._delay_s = delay_s
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def slot(self, host: str, *, crawl_delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for this host's turn and hold one of its slots."""
        gate = self._gate(host)
        gate.users += 1
        try:
            async with gate.slots:
                start = max(gate.next_start, time.monotonic())
                gate.next_start = start + max(self._delay_s, crawl_delay_s)
                await asyncio.sleep(start - time.monotonic())
                yield
        finally:
            gate.users -= 1

    def succeeded(self, host: str) -> None:
        """Note that `host` answered."""
        self._gate(host).failures = 0

    def failed(self, host: str) -> None:
        """Note that `host` did not answer, or only with an error of its own."""
        gate = self._gate(host)
        gate.failures += 1
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

    def _gate(self, host: str) -> _Host:
        if len(self._hosts) >= _MAX_IDLE_HOSTS and host not in self._hosts:
            now = time.monotonic()
            self._hosts = {
                name: gate
                for name, gate in self._hosts.items()
                if gate.users or max(gate.next_start, gate.rests_until) > now
            }
        return self._hosts.setdefault(host, _Host(slots=asyncio.Semaphore(self._concurrency)))
