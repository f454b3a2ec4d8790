"""Exact search among 64-bit hashes: what lies within so many bits of what.

N hashes held, Q hashes asked for, P pairs
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crawler.hamming_join import near_values

HASH_BITS = 64

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]
"""(P, 2): a row is two positions."""

_BANDS = 4
_BAND_BITS = HASH_BITS // _BANDS
_BAND_MASK = np.uint64((1 << _BAND_BITS) - 1)
# Hashes that were added of late lie in small segments; one is merged into the next when it has
# grown to a quarter of it. A hash is thus sorted again about log4(N) times.
_MERGE_RATIO = 4
# Up to here, comparing all is faster than looking bands up.
_SCANNED = 4096
# Candidates that are compared at once: 8 MB of hashes, the memory of a query.
_AT_ONCE = 1 << 20


class HammingIndex:
    """Hashes that can be added to and searched, exactly, within any Hamming distance.

    Pigeonhole (multi-index hashing, Norouzi, Punjani and Fleet 2012): of four bands of 16 bits, two
    hashes within `max_distance` agree in at least one but for a quarter of that. So it is enough to
    look the bands up, with so many bits flipped, in a list sorted by that band. Positions count from
    0 in the order of adding. Takes 48 bytes a hash.
    """

    def __init__(self) -> None:
        self._segments: list[_Segment] = []

    def __len__(self) -> int:
        return sum(len(each.hashes_N) for each in self._segments)

    def add(self, hashes: Hashes) -> None:
        """Append hashes; they take the next positions."""
        added = np.asarray(hashes, dtype=np.uint64)
        if not len(added):
            return
        while self._segments and len(self._segments[-1].hashes_N) <= _MERGE_RATIO * len(added):
            added = np.concatenate([self._segments.pop().hashes_N, added])
        self._segments.append(_Segment.of(added))

    def query(self, hashes: Hashes, max_distance: int) -> Pairs:
        """Return every (position in `hashes`, position in the index) within `max_distance` bits.

        int64 (P, 2), each pair once, sorted.
        """
        _check(max_distance)
        asked_Q = np.asarray(hashes, dtype=np.uint64)
        found = [np.zeros((0, 2), dtype=np.int64)]
        start = 0
        for segment in self._segments:
            found.extend(_offset(pairs, 0, start) for pairs in segment.near(asked_Q, max_distance))
            start += len(segment.hashes_N)
        # A pair that is near in several bands was found several times; unique() sorts as well.
        return np.unique(np.concatenate(found), axis=0)

    def self_join(self, max_distance: int) -> Pairs:
        """Return every pair (i, j), i < j, of positions within `max_distance` bits: (P, 2), sorted."""
        _check(max_distance)
        held_N = np.concatenate(
            [np.zeros(0, dtype=np.uint64), *(each.hashes_N for each in self._segments)]
        )
        values, inverse, counts = np.unique(held_N, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")  # positions by value
        starts = np.cumsum(counts) - counts
        near = np.concatenate(
            [
                np.repeat(np.flatnonzero(counts > 1)[:, None], 2, axis=1),
                near_values(values, max_distance),
            ]
        )
        found = [np.zeros((0, 2), dtype=np.int64)]
        left, right = near[:, 0], near[:, 1]
        for lefts, rights in _products(starts[left], counts[left], starts[right], counts[right]):
            first, second = order[lefts], order[rights]
            # Of equal hashes both orders come, and each with itself.
            once = (first < second) | (inverse[first] != inverse[second])
            found.append(np.sort(np.column_stack([first[once], second[once]]), axis=1))
        pairs = np.concatenate(found)
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def distances(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Return in how many bits each differs, 0 to 64; shapes are broadcast."""
    bits: NDArray[np.uint8] = np.bitwise_count(first ^ second)
    return bits


def _offset(pairs: Pairs, first: int, second: int) -> Pairs:
    return pairs + np.array([first, second], dtype=np.int64)


def _check(max_distance: int) -> None:
    if not 0 <= max_distance < HASH_BITS:
        raise ValueError(f"max_distance is {max_distance}, and should be 0 to {HASH_BITS - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """One segment's hashes, sorted by 16 of their bits."""

    shift: int
    hashes_N: Hashes
    order_N: NDArray[np.uint32]
    """The positions that they had."""
    starts: NDArray[np.int64]
    """(65,537,): where the hashes of each value of the band begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    hashes_N: Hashes
    bands: tuple[_Band, ...]
    """Empty for a segment that is scanned."""

    @classmethod
    def of(cls, hashes_N: Hashes) -> _Segment:
        shifts = range(0, HASH_BITS, _BAND_BITS) if len(hashes_N) > _SCANNED else ()
        return cls(hashes_N=hashes_N, bands=tuple(_band(hashes_N, shift) for shift in shifts))

    def near(self, asked_Q: Hashes, max_distance: int) -> Iterator[Pairs]:
        """Yield (position in `asked_Q`, position here) of what is near, some pairs repeatedly."""
        # Radii of the bands: two hashes that are beyond all of them differ in max_distance + 1 bits.
        radius, wider = divmod(max_distance + 1, _BANDS)
        radii = [radius if at < wider else radius - 1 for at in range(_BANDS)]
        flips = [_flips(each) for each in radii]
        if not self.bands or sum(map(len, flips)) > 1 << (_BAND_BITS - 1):
            yield from _scanned(asked_Q, self.hashes_N, max_distance)
            return
        for band, flips_F in zip(self.bands, flips, strict=True):
            if len(flips_F):
                yield from _looked_up(asked_Q, band, flips_F, max_distance)


def _band(hashes_N: Hashes, shift: int) -> _Band:
    keys_N = ((hashes_N >> np.uint64(shift)) & _BAND_MASK).astype(np.uint16)
    order_N = np.argsort(keys_N, kind="stable").astype(np.uint32)
    sizes = np.bincount(keys_N, minlength=1 << _BAND_BITS)
    return _Band(
        shift=shift,
        hashes_N=hashes_N[order_N],
        order_N=order_N,
        starts=np.concatenate([[0], np.cumsum(sizes)]),
    )


@functools.cache
def _flips(radius: int) -> NDArray[np.uint16]:
    """Return every way to flip at most `radius` bits of a band; none for -1."""
    return np.array(
        [
            sum(1 << bit for bit in bits)
            for count in range(min(radius, _BAND_BITS) + 1)
            for bits in itertools.combinations(range(_BAND_BITS), count)
        ],
        dtype=np.uint16,
    )


def _scanned(asked_Q: Hashes, held_N: Hashes, max_distance: int) -> Iterator[Pairs]:
    held_at_once = _AT_ONCE
    for at in range(0, len(held_N), held_at_once):
        held = held_N[at : at + held_at_once]
        step = max(1, _AT_ONCE // len(held))
        for start in range(0, len(asked_Q), step):
            hit = distances(asked_Q[start : start + step, None], held) <= max_distance
            yield _offset(np.argwhere(hit).astype(np.int64), start, at)


def _looked_up(
    asked_Q: Hashes, band: _Band, flips_F: NDArray[np.uint16], max_distance: int
) -> Iterator[Pairs]:
    keys_Q = ((asked_Q >> np.uint64(band.shift)) & _BAND_MASK).astype(np.uint16)
    step = max(1, _AT_ONCE // len(flips_F))
    for start in range(0, len(asked_Q), step):
        probes = (keys_Q[start : start + step, None] ^ flips_F).ravel().astype(np.int64)
        begins = band.starts[probes]
        counts = band.starts[probes + 1] - begins
        asked = np.repeat(np.arange(start, min(start + step, len(asked_Q))), len(flips_F))
        for rows, held in _expanded(begins, counts):
            lefts = asked[rows]
            hit = distances(asked_Q[lefts], band.hashes_N[held]) <= max_distance
            yield np.column_stack([lefts[hit], band.order_N[held[hit]].astype(np.int64)])


def _expanded(
    begins: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield every (row, begins[row] + 0 .. counts[row] - 1), in blocks of bounded size."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _AT_ONCE):
        at = np.arange(start, min(start + _AT_ONCE, total))
        rows = np.searchsorted(ends, at, side="right")
        yield rows, begins[rows] + at - (ends[rows] - counts[rows])


def _products(
    left: NDArray[np.int64],
    left_counts: NDArray[np.int64],
    right: NDArray[np.int64],
    right_counts: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for every row, each of the left run with each of the right one, in bounded blocks."""
    for rows, cells in _expanded(np.zeros_like(left), left_counts * right_counts):
        yield left[rows] + cells // right_counts[rows], right[rows] + cells % right_counts[rows]
