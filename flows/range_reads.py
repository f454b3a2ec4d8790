"""Pictures that lie beside one another in a shard are read with one request."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

from flows.catalog import Catalog
from flows.shards import Place

MOST_BYTES = 2**20
"""In one request; what the pictures of a few of them take is in memory at a time."""

MOST_GAP_BYTES = 16 * 2**10
"""Between two pictures, read for nothing: a shard has headers there, and what is known of a picture."""


@dataclasses.dataclass(slots=True, eq=False)
class _Range:
    """A stretch of a shard, and how many of its pictures have not been taken yet."""

    shard: str
    start: int
    stop: int
    left: int = 0
    data: bytes | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class RangeReader:
    """Reads those pictures, each once; safe to share between threads.

    `sha256s` is the order in which they are best asked for: as they lie in the store, those that
    nothing is known of last. Asked in it, few stretches are in memory at a time.
    """

    def __init__(self, catalog: Catalog, sha256s: Sequence[str]) -> None:
        self._catalog = catalog
        self._places = catalog.places(sha256s)
        known = sorted(self._places, key=lambda each: _order(self._places[each]))
        self.sha256s = [*known, *(each for each in sha256s if each not in self._places)]
        self._ranges: dict[str, _Range] = {}
        latest: _Range | None = None
        for sha256 in known:
            place = self._places[sha256]
            if latest is None or not _fits(latest, place):
                latest = _Range(place.shard, place.offset, place.offset)
            latest.stop = max(latest.stop, place.offset + place.size)
            latest.left += 1
            self._ranges[sha256] = latest

    def read(self, sha256: str) -> bytes:
        """Return the original bytes, checked. Raises as `Catalog.read_image_bytes`."""
        among = self._ranges.pop(sha256, None)
        if among is None:
            return self._catalog.read_image_bytes(sha256)
        place = self._places[sha256]
        with among.lock:
            among.left -= 1
            if among.data is None:
                whole = Place(shard=among.shard, offset=among.start, size=among.stop - among.start)
                among.data = self._catalog.read_place(whole)
            start = place.offset - among.start
            data = among.data[start : start + place.size]
            if not among.left:
                among.data = None
        return self._catalog.checked(sha256, place, data)


def _order(place: Place) -> tuple[str, int]:
    return place.shard, place.offset


def _fits(among: _Range, place: Place) -> bool:
    return (
        place.shard == among.shard
        and place.offset <= among.stop + MOST_GAP_BYTES
        and place.offset + place.size <= among.start + MOST_BYTES
    )
