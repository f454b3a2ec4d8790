"""Which link is fetched next: hosts take turns, and a slow one holds up nobody but itself."""

from __future__ import annotations

import heapq
import itertools
import math
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from crawler.pages import ImageLink
from crawler.politeness import HostGates

LOOK_AHEAD = 4096
"""Links that are read ahead in search of one whose host is free; about a kilobyte each."""


# As urlsplit() has it, which is too slow to be asked twice a link.
_NETLOC = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Turn:
    """A link on its way, and what it has cost so far."""

    link: ImageLink
    host: str
    """Its netloc, lower case; "" for an address that no host is asked for."""
    attempt: int = 1
    spent_s: float = 0.0
    """In requests; what was spent waiting for a turn is not counted."""


class Schedule:
    """Hands out links whose host may be asked now, host by host, in the order of `links` in each.

    No more is read ahead of `links` than is needed to find one, and at most `LOOK_AHEAD`.
    """

    def __init__(self, links: Iterable[ImageLink], gates: HostGates) -> None:
        self._source = iter(links)
        self._gates = gates
        self._queues: dict[str, deque[Turn]] = {}
        self._waiting = 0
        self._count = itertools.count()  # parts what is due at the same time, in order of arrival
        self._hosts: list[tuple[float, int, str]] = []
        """Heap: when to look at a host that has something queued."""
        self._due: dict[str, float] = {}
        """The one entry of each host that counts; those that it had before are passed over."""
        self._later: list[tuple[float, int, Turn]] = []
        """Heap: turns to be tried again, by time."""
        self._refused: dict[str, float] = {}
        """Hosts that another worker visits, and since when we know."""

    def next(self) -> Turn | None:
        """Return a turn that may start now; None when there is none, or not yet."""
        while self._later and self._later[0][0] <= time.monotonic():
            self._queue(heapq.heappop(self._later)[2], first=True)
        while (turn := self._open()) is None:
            if self._waiting >= LOOK_AHEAD or (link := next(self._source, None)) is None:
                return None
            self._queue(Turn(link=link, host=_host(link.url)))
        return turn

    def opens_in(self) -> float | None:
        """Return the seconds until `next` should be asked again; None: when a turn has ended."""
        due = [heap[0][0] for heap in (self._hosts, self._later) if heap]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def is_empty(self) -> bool:
        """Return whether nothing is left that was taken from `links`; `next` looks for more."""
        return not self._queues and not self._later

    def ended(self, turn: Turn) -> None:
        """Note that `turn` has ended, so that its host may have room for another."""
        self._refused.pop(turn.host, None)
        self.look_at(turn.host)

    def again(self, turn: Turn, after_s: float) -> None:
        """Take `turn` back, to be tried again."""
        heapq.heappush(self._later, (time.monotonic() + after_s, next(self._count), turn))
        self.look_at(turn.host)

    def refused(self, turn: Turn, after_s: float) -> None:
        """Take `turn` back, whose host another worker visits now."""
        self._refused.setdefault(turn.host, time.monotonic())
        self._gates.delay(turn.host, after_s)
        self._queue(turn, first=True)
        self.look_at(turn.host)

    def given_up(self, patience_s: float) -> list[Turn]:
        """Return, and forget, all turns if each has been refused for `patience_s`; else none."""
        if not self._queues or self._later or self._queues.keys() - self._refused.keys():
            return []
        if time.monotonic() - max(self._refused[host] for host in self._queues) < patience_s:
            return []
        turns = [turn for queue in self._queues.values() for turn in queue]
        self._queues.clear()
        self._waiting = 0
        return turns

    def look_at(self, host: str, after_s: float = 0.0) -> None:
        """Ask the gate of `host` anew, if something is queued for it."""
        at = time.monotonic() + after_s
        if host in self._queues and self._due.get(host, math.inf) > at:
            self._due[host] = at
            heapq.heappush(self._hosts, (at, next(self._count), host))

    def _open(self) -> Turn | None:
        """Return the next turn of a host that may be asked now, and put off hosts that may not."""
        while self._hosts and self._hosts[0][0] <= time.monotonic():
            at, _, host = heapq.heappop(self._hosts)
            if self._due.get(host) != at:
                continue
            del self._due[host]
            if host not in self._queues:
                continue
            opens_in = self._gates.opens_in(host) if host else 0.0
            if opens_in is None:
                continue  # `ended` will look at it again
            if opens_in > 0:
                self.look_at(host, opens_in)
                continue
            queue = self._queues[host]
            turn = queue.popleft()
            self._waiting -= 1
            if queue:
                self.look_at(host)  # behind all others that are due
            else:
                del self._queues[host]
            return turn
        return None

    def _queue(self, turn: Turn, *, first: bool = False) -> None:
        queue = self._queues.get(turn.host)
        if queue is None:
            queue = self._queues[turn.host] = deque()
            self.look_at(turn.host)
        self._waiting += 1
        (queue.appendleft if first else queue.append)(turn)


def _host(url: str) -> str:
    found = _NETLOC.match(url)
    return found[1].lower() if found else ""  # what is no web address is for the guard to refuse
