"""How many bytes of bodies may be in memory, of those being read and those that wait to be taken."""

from __future__ import annotations

import asyncio

MAX_HELD_BYTES = 128 * 2**20
"""Of bodies; the one that has been read for longest may go beyond, so that one always can end."""

# What a body is taken to be before any has come; then the mean of those that did.
_FIRST_GUESS_BYTES = 2**20
_NEWEST_WEIGHT = 0.05


class MemoryBudget:
    """Counts the bytes held, and says when to start no more and when to read no further."""

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._reading: dict[object, int] = {}
        """Bytes by reader, oldest first."""
        self._mean_bytes = float(_FIRST_GUESS_BYTES)
        self._freed = asyncio.Event()

    def has_room_for(self, running: int) -> bool:
        """Return whether one more body may be asked for beside those of `running` requests."""
        return not running or self._held + running * self._mean_bytes < self._max_bytes

    def read(self, reader: object, count: int) -> bool:
        """Count what `reader` has read; return whether it may read on without `room`."""
        self._reading[reader] = self._reading.get(reader, 0) + count
        self._held += count
        return self._may_go_on(reader)

    async def room(self, reader: object) -> None:
        """Return when `reader` may read on."""
        while not self._may_go_on(reader):
            self._freed.clear()
            await self._freed.wait()

    def kept(self, reader: object) -> None:
        """Note that the body of `reader` is whole: it is held until it is `handed_out`."""
        size = self._reading.pop(reader, 0)
        self._mean_bytes += _NEWEST_WEIGHT * (size - self._mean_bytes)
        self._freed.set()

    def abandoned(self, reader: object) -> None:
        """Note that what `reader` has read so far, if it did not keep it, is no longer held."""
        self.handed_out(self._reading.pop(reader, 0))

    def handed_out(self, count: int) -> None:
        """Note that `count` bytes are no longer ours to hold."""
        self._held -= count
        self._freed.set()

    def _may_go_on(self, reader: object) -> bool:
        return self._held <= self._max_bytes or next(iter(self._reading)) is reader
