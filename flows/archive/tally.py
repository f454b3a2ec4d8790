"""How far a run over an archive has come."""

from __future__ import annotations

import threading

from flows.archive.plan import Shard
from flows.progress import Progress


class Stopped(Exception):
    """The run is ending; raised out of the shards that are under way."""


class Tally:
    """Counts pictures over all threads, and tells whoever watches.

    What was done before counts neither as done nor as to do, so that rate and time left are this
    run's. How many pictures lie in tars that are still to be read is taken from the mean of those
    that have been.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self._done = 0
        self._listed: int | None = None
        self._before = 0
        self._shards_before = 0
        self._unread = 0
        """Shards of an unknown number of pictures that are planned and not done."""
        self._read: list[int] = [0, 0]
        """Of such shards that are done: how many, and their pictures."""

    @property
    def done(self) -> int:
        """Pictures that this run has done."""
        return self._done

    def counted(self, count: int) -> None:
        """Note that so many more pictures are done; raises `Stopped` when nothing more should be."""
        if self.stopped.is_set():
            raise Stopped
        with self._lock:
            self._done += count
            self._tell()

    def was_done(self, shard: Shard) -> None:
        """Note a shard that was done before."""
        with self._lock:
            self._before += shard.pictures
            self._shards_before += 1
            self._tell()

    def begun(self, shard: Shard) -> None:
        """Note a shard that is to do."""
        if shard.pictures == 0:
            with self._lock:
                self._unread += 1

    def ended(self, shard: Shard, pictures: int) -> None:
        """Note that a shard is done, now that it is known how many pictures it holds."""
        if shard.pictures == 0:
            with self._lock:
                self._unread -= 1
                self._read[0] += 1
                self._read[1] += pictures

    def done_elsewhere(self, shard: Shard) -> None:
        """Note that another worker has done a shard that had begun to count here."""
        with self._lock:
            self._unread -= shard.pictures == 0
        self.was_done(shard)

    def all_listed(self, pictures: int) -> None:
        """Note that the listing has ended, and how many pictures it could count."""
        with self._lock:
            self._listed = pictures
            self._tell()

    def _total(self) -> int | None:
        shards, pictures = self._read
        if self._listed is None or (self._unread and not shards):
            return None
        guessed = self._unread * pictures // max(shards, 1)
        return self._listed - self._before + pictures + guessed

    def _tell(self) -> None:
        said = f"{self._shards_before} shards were done before" if self._shards_before else ""
        self._progress(self._done, self._total(), said)
