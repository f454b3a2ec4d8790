"""Exact search among 64-bit hashes: what lies within so many bits of what.

N hashes held, Q hashes asked for, P pairs, F flips
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
# Up to here, comparing all is faster than looking bands up, and than importing what does.
_SCANNED = 4096
# Pairs that are compared, or found, at once: the memory of a query.
_AT_ONCE = 1 << 20
_SAMPLE = 65_536


class HammingIndex:
    """Hashes that can be added to and searched, exactly, within any Hamming distance.

    Pigeonhole (multi-index hashing, Norouzi, Punjani and Fleet 2012): of four bands of 16 bits, two
    hashes within `max_distance` agree in at least one but for a quarter of that. So it is enough to
    look the bands up, with so many bits flipped, in a list sorted by that band. Which bits make a band
    is chosen for the hashes held, so that all bands tell about as much. Positions count from 0 in the
    order of adding. Takes 56 bytes a hash.
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
        self._segments.append(_Segment(added))

    def query(self, hashes: Hashes, max_distance: int) -> Pairs:
        """Return every (position in `hashes`, position in the index) within `max_distance` bits.

        int64 (P, 2), each pair once, sorted.
        """
        _check(max_distance)
        asked_Q = np.ascontiguousarray(hashes, dtype=np.uint64)
        found = [np.zeros((0, 2), dtype=np.int64)]
        start = 0
        for segment in self._segments:
            found.extend(
                pairs + np.array([0, start]) for pairs in segment.near(asked_Q, max_distance)
            )
            start += len(segment.hashes_N)
        return _sorted(np.concatenate(found))

    def self_join(self, max_distance: int) -> Pairs:
        """Return every pair (i, j), i < j, of positions within `max_distance` bits: (P, 2), sorted."""
        blocks = [np.zeros((0, 2), dtype=np.int64), *self.self_join_blocks(max_distance)]
        return _sorted(np.concatenate(blocks))

    def self_join_blocks(self, max_distance: int) -> Iterator[Pairs]:
        """Yield the pairs of `self_join` in blocks of about a million at most, in no order."""
        _check(max_distance)
        held_N = np.concatenate(
            [np.zeros(0, dtype=np.uint64), *(each.hashes_N for each in self._segments)]
        )
        # Equal hashes are one: a picture that lies in the index a thousand times is looked up once.
        values, inverse, counts = np.unique(held_N, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")  # positions by value
        starts = np.cumsum(counts) - counts
        equal = np.flatnonzero(counts > 1)
        for near in itertools.chain(
            [np.stack([equal, equal], axis=1)], _joined(values, max_distance)
        ):
            left, right = near[:, 0], near[:, 1]
            runs = (starts[left], counts[left], starts[right], counts[right])
            for lefts, rights in _products(*runs):
                first, second = order[lefts], order[rights]
                # Of equal hashes both orders come, and each with itself.
                once = (first < second) | (inverse[first] != inverse[second])
                yield np.sort(np.column_stack([first[once], second[once]]), axis=1)


def distances(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Return in how many bits each differs, 0 to 64; shapes are broadcast."""
    bits: NDArray[np.uint8] = np.bitwise_count(first ^ second)
    return bits


def _sorted(pairs: Pairs) -> Pairs:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _check(max_distance: int) -> None:
    if not 0 <= max_distance < HASH_BITS:
        raise ValueError(f"max_distance is {max_distance}, and should be 0 to {HASH_BITS - 1}")


def _radii(max_distance: int) -> list[int]:
    """Return, for each band, how far two near hashes may differ in it; -1 for not even none.

    Two that are beyond all of them differ in `max_distance` + 1 bits or more.
    """
    radius, wider = divmod(max_distance + 1, _BANDS)
    return [radius if at < wider else radius - 1 for at in range(_BANDS)]


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


def _is_worth_bands(count: int, max_distance: int) -> bool:
    flips = sum(len(_flips(radius)) for radius in _radii(max_distance))
    return count > _SCANNED and flips <= 1 << (_BAND_BITS - 1)


def _joined(values_N: Hashes, max_distance: int) -> Iterator[Pairs]:
    """Yield the near pairs of positions among distinct values, first < second or the reverse."""
    if not _is_worth_bands(len(values_N), max_distance):
        for pairs in _scanned(values_N, values_N, max_distance):
            yield pairs[pairs[:, 0] < pairs[:, 1]]
        return
    from crawler.hamming_kernels import dealt, join_band

    radii = _radii(max_distance)
    dealt_N = dealt(values_N, _places(values_N))
    for at, radius in enumerate(radii):
        flips_F = _flips(radius)
        band = _Band.of(dealt_N, at)  # one at a time: the memory of a join
        yield from _blocks(
            functools.partial(
                join_band,
                band.hashes_N,
                band.order_N,
                band.starts,
                flips_F,
                at,
                np.array(radii),
                max_distance,
            ),
            (1 << _BAND_BITS) * len(flips_F),
        )


def _blocks(kernel: Callable[[int, NDArray[np.uint32]], Any], units: int) -> Iterator[Pairs]:
    """Yield what a kernel finds, called again from where the buffer was full."""
    buffer = np.empty((_AT_ONCE, 2), dtype=np.uint32)
    unit = 0
    while unit < units:
        before = unit
        unit, count = kernel(unit, buffer)
        yield buffer[:count].astype(np.int64)
        if unit == before:  # one unit of work finds more than fit
            buffer = np.empty((2 * len(buffer), 2), dtype=np.uint32)


def _places(hashes_N: Hashes) -> NDArray[np.uint64]:
    """Return to which place each bit goes, so that each band gets its share of the telling bits."""
    sample = hashes_N[:: max(1, len(hashes_N) // _SAMPLE)]
    ones = np.array(
        [np.count_nonzero(sample & np.uint64(1 << bit)) / len(sample) for bit in range(HASH_BITS)]
    )
    places = np.empty(HASH_BITS, dtype=np.uint64)
    by_information = np.argsort(np.abs(ones - 0.5), kind="stable")
    for rank, bit in enumerate(by_information.tolist()):
        places[bit] = rank % _BANDS * _BAND_BITS + rank // _BANDS
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """Hashes sorted by 16 of their bits."""

    hashes_N: Hashes
    order_N: NDArray[np.uint32]
    """The positions that they had."""
    starts: NDArray[np.int64]
    """(65,537,): where the hashes of each value of the band begin."""

    @classmethod
    def of(cls, hashes_N: Hashes, band: int) -> _Band:
        keys_N = ((hashes_N >> np.uint64(band * _BAND_BITS)) & _BAND_MASK).astype(np.uint16)
        order_N = np.argsort(keys_N, kind="stable").astype(np.uint32)
        sizes = np.bincount(keys_N, minlength=1 << _BAND_BITS)
        return cls(
            hashes_N=hashes_N[order_N],
            order_N=order_N,
            starts=np.concatenate([[0], np.cumsum(sizes)]),
        )


class _Segment:
    """Hashes that were added together, and their bands if there are enough."""

    def __init__(self, hashes_N: Hashes) -> None:
        self.hashes_N = hashes_N
        self._places = _places(hashes_N)
        self._bands: tuple[_Band, ...] = ()

    def near(self, asked_Q: Hashes, max_distance: int) -> Iterator[Pairs]:
        """Yield (position in `asked_Q`, position here) of what is near, each once."""
        if not _is_worth_bands(len(self.hashes_N), max_distance):
            yield from _scanned(asked_Q, self.hashes_N, max_distance)
            return
        from crawler.hamming_kernels import dealt, query_band

        if not self._bands:
            dealt_N = dealt(self.hashes_N, self._places)
            self._bands = tuple(_Band.of(dealt_N, at) for at in range(_BANDS))
        radii = _radii(max_distance)
        dealt_Q = dealt(asked_Q, self._places)
        for at, (band, radius) in enumerate(zip(self._bands, radii, strict=True)):
            if radius >= 0:
                yield from _blocks(
                    functools.partial(
                        query_band,
                        dealt_Q,
                        band.hashes_N,
                        band.order_N,
                        band.starts,
                        _flips(radius),
                        at,
                        np.array(radii),
                        max_distance,
                    ),
                    len(asked_Q),
                )


def _scanned(asked_Q: Hashes, held_N: Hashes, max_distance: int) -> Iterator[Pairs]:
    for at in range(0, len(held_N), _AT_ONCE):
        held = held_N[at : at + _AT_ONCE]
        step = max(1, _AT_ONCE // len(held))
        for start in range(0, len(asked_Q), step):
            hit = distances(asked_Q[start : start + step, None], held) <= max_distance
            yield np.argwhere(hit).astype(np.int64) + np.array([start, at])


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
