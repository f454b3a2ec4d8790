"""What a run is doing now, in one line, and what it can say afterwards of the hosts it waited for."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from urllib.parse import urlsplit

from crawler.rejections import Rejected
from flows.progress import Progress

MAX_HOSTS = 10_000
"""Hosts that are told apart; what comes from further ones is counted together."""

OTHER_HOSTS = "(other hosts)"

_RATE_OVER_S = 10.0


@dataclasses.dataclass(slots=True)
class HostTimes:
    """How one host answered, on the monotonic clock; a host's first and last outcome."""

    first: float
    last: float
    outcomes: int = 0
    bytes: int = 0
    transient: int = 0
    """Of `outcomes`, failures that may pass."""

    @property
    def seconds(self) -> float:
        """For how long outcomes of this host came."""
        return self.last - self.first


class Live:
    """Counts what comes, and goes to `progress` at each outcome: its text is the live line."""

    def __init__(self, progress: Progress, *, done: int = 0, total: int | None = None) -> None:
        self._progress = progress
        self._done = done
        self._total = total
        self._kept = self._unchanged = self._same = self._rejected = 0
        self._uncommitted = 0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        """(time, bytes so far), some ten seconds back at most: for a rate that follows."""
        self.bodies = 0
        """Read in full by this process, of pictures kept or rejected."""
        self.bytes = 0
        """Of pictures that were kept."""
        self.hosts: dict[str, HostTimes] = {}
        self._failing: set[str] = set()
        """Hosts whose last outcome was a failure that may pass: the fetcher is backing off there."""

    def kept(self, url: str, size: int) -> None:
        """Count a picture that decodes."""
        self.bodies += 1
        self.bytes += size
        self._kept += 1
        self._uncommitted += 1
        self._at(url).bytes += size

    def unchanged(self, url: str) -> None:
        """Count a picture of which the server says that it is the one we have."""
        self._unchanged += 1
        self._at(url)

    def rejected(self, rejected: Rejected) -> None:
        """Count what was not taken."""
        self.bodies += rejected.sha256 is not None
        self._rejected += 1
        self._at(rejected.url, failed=rejected.transient)

    def same(self, count: int) -> None:
        """Count pictures whose bytes we had already."""
        self._same += count

    def committed(self) -> None:
        """Note that nothing is held in memory any longer."""
        self._uncommitted = 0

    def tell(self, outcomes: int = 1) -> None:
        """Let whoever watches know that so many more links have come to their end."""
        self._done += outcomes
        self._progress(self._done, self._total, self)

    @property
    def waiting(self) -> int:
        """Return how many links have not come to their end; 0 while their number is unknown."""
        return 0 if self._total is None else max(0, self._total - self._done)

    def __str__(self) -> str:
        """Return the live line."""
        said = [f"kept {self._kept}"]
        counts = (
            ("unchanged", self._unchanged),
            ("same bytes", self._same),
            ("rejected", self._rejected),
            ("to be stored", self._uncommitted),
            ("hosts failing", len(self._failing)),
        )
        said += [f"{name} {count}" for name, count in counts if count]
        if self._total is not None:
            said.append(f"queue {self.waiting}")
        return f"{', '.join(said)}, {self._megabytes_per_s():.1f} MB/s"

    def _megabytes_per_s(self) -> float:
        now = time.monotonic()
        self._recent.append((now, self.bytes))
        while len(self._recent) > 2 and now - self._recent[0][0] > _RATE_OVER_S:
            self._recent.popleft()
        began, before = self._recent[0]
        return (self.bytes - before) / max(now - began, 0.1) / 1e6

    def _at(self, url: str, *, failed: bool = False) -> HostTimes:
        host = host_of(url)
        if host not in self.hosts and len(self.hosts) >= MAX_HOSTS:
            host = OTHER_HOSTS
        now = time.monotonic()
        times = self.hosts.setdefault(host, HostTimes(first=now, last=now))
        times.last = now
        times.outcomes += 1
        times.transient += failed
        (self._failing.add if failed else self._failing.discard)(host)
        return times


def host_of(url: str) -> str:
    """Return the host of an address, as people name it; for others, such as archives, their scheme."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no address)"
    return parts.netloc.rpartition("@")[2].lower() or f"{parts.scheme or 'no address'}:"
