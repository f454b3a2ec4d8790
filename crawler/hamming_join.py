"""Every pair of near hashes among many, without looking at most pairs.

The bits are cut into blocks, `max_distance` of them more than `_MATCHED`: two near hashes agree in
at least `_MATCHED` whole blocks, wherever their bits differ (Manku, Jain and Das Sarma 2007). For
each choice of blocks the hashes are sorted with those bits first, and what agrees in them lies side
by side. Sorting values, and comparing a sorted array with itself shifted by one, by two and so on,
run at the speed of memory in numpy; looking candidates up one by one, as an index does, is ten
times slower.

    N hashes, P pairs
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_HASH_BITS = 64
# Hashes are compared in parts that stay in the processor's second cache.
_PART = 16_384
# More than so many that agree in the chosen blocks (skewed hashes do) are joined by their other bits.
_MAX_RUN = 2048
# What a hash costs, in ns: to be sorted anew, and to be compared with one other. Measured with 1
# million; the choice of how many blocks to match needs no more than their ratio.
_SORT_NS, _COMPARE_NS = 30.0, 1.0
_TABLE_NS = 300_000.0  # for a choice of blocks, however few hashes there are
_SAMPLE = 65_536

Values = NDArray[np.uint64]
Moves = list[tuple[int, int, int]]
"""(from bit, to bit, how many bits)."""


def near_values(values_N: Values, max_distance: int) -> NDArray[np.int64]:
    """Return every pair of positions, first < second, within `max_distance` bits: int64 (P, 2).

    `values_N` are sorted and distinct. Each pair comes once, in no fixed order.
    """
    found = [np.zeros((0, 2), dtype=np.uint64), *_near(values_N, _HASH_BITS, max_distance)]
    return np.searchsorted(values_N, np.sort(np.concatenate(found), axis=1))


def _near(values_N: Values, bits: int, max_distance: int) -> Iterator[Values]:
    """Yield the near pairs of distinct values that differ in their lowest `bits` alone: (P, 2)."""
    if len(values_N) < 2:
        return
    weights = _information(values_N, bits)
    matched = _blocks_to_match(len(values_N), float(weights.sum()), bits, max_distance)
    if matched == 0:
        yield from _compared(values_N, 1, len(values_N), max_distance)
        return
    blocks = max_distance + matched
    # The bits are dealt out, the most telling first, so that all blocks tell about as much.
    by_weight = np.argsort(-weights, kind="stable")
    dealt = [by_weight[at::blocks].tolist() for at in range(blocks)]
    edges = [0, *itertools.accumulate(map(len, dealt))]
    spread = [(bit, at, 1) for at, bit in enumerate(itertools.chain.from_iterable(dealt))]
    prefix = (values_N[0] >> np.uint64(bits - 1)) >> np.uint64(1)
    prefix = (prefix << np.uint64(bits - 1)) << np.uint64(1)  # in two steps: bits may be 64
    values_N = _moved(values_N, spread)
    for chosen in itertools.combinations(range(blocks), matched):
        # What is matched goes to the top, so that sorting brings together what agrees in it.
        moves: Moves = []
        to = 0
        for at in (*(at for at in range(blocks) if at not in chosen), *chosen):
            moves.append((edges[at], to, len(dealt[at])))
            to += len(dealt[at])
        rest = bits - sum(len(dealt[at]) for at in chosen)
        for pairs in _agreeing(np.sort(_moved(values_N, moves)), rest, max_distance):
            found = _moved(pairs, _back(moves))
            found = found[_first_agreement(found[:, 0] ^ found[:, 1], edges, chosen)]
            yield _moved(found, _back(spread)) | prefix


def _agreeing(sorted_N: Values, rest: int, max_distance: int) -> Iterator[Values]:
    """Yield the near pairs of those that agree above their lowest `rest` bits, and some others."""
    keys = sorted_N >> np.uint64(rest)
    bounds = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))
    lengths = np.diff(bounds)
    for run in np.flatnonzero(lengths > _MAX_RUN).tolist():
        yield from _near(sorted_N[bounds[run] : bounds[run + 1]], rest, max_distance)
    lengths[lengths > _MAX_RUN] = 0
    longest = int(lengths.max(initial=0))
    length_N = np.repeat(lengths, np.diff(bounds))
    lag = 1
    while lag < longest:  # with neighbours 1, 2 to 3, 4 to 7, ... away, where a run is so long
        inside = length_N > lag
        if not inside.all():
            sorted_N, length_N = sorted_N[inside], length_N[inside]
        yield from _compared(sorted_N, lag, min(2 * lag, longest), max_distance)
        lag *= 2


def _compared(values_N: Values, low: int, high: int, max_distance: int) -> Iterator[Values]:
    """Yield the near pairs among values that lie `low` to `high` - 1 places apart: (P, 2)."""
    differing = np.empty(_PART, dtype=np.uint64)
    counts = np.empty(_PART, dtype=np.uint8)
    for start in range(0, len(values_N) - low, _PART):
        for lag in range(low, min(high, len(values_N) - start)):
            right = values_N[start + lag : start + lag + _PART]
            left = values_N[start : start + len(right)]
            xor, bits = differing[: len(right)], counts[: len(right)]
            np.bitwise_xor(left, right, out=xor)
            np.bitwise_count(xor, out=bits)
            if bits.min() <= max_distance:
                near = np.flatnonzero(bits <= max_distance)
                yield np.column_stack([left[near], right[near]])


def _first_agreement(
    differing_P: Values, edges: list[int], chosen: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return for which pairs `chosen` are the first blocks that they agree in.

    A pair comes up for every choice of blocks that it agrees in; so it is taken once.
    """
    earlier = np.zeros(len(differing_P), dtype=np.int64)
    all_chosen = np.ones(len(differing_P), dtype=np.bool_)
    for at in range(chosen[-1] + 1):
        mask = np.uint64((1 << edges[at + 1]) - (1 << edges[at]))
        agree = (differing_P & mask) == 0
        earlier += agree
        if at in chosen:
            all_chosen &= agree
    first: NDArray[np.bool_] = all_chosen & (earlier == len(chosen))
    return first


def _information(values_N: Values, bits: int) -> NDArray[np.float64]:
    """Return how much each of the lowest bits tells two values apart: 0 to 1, (bits,)."""
    sample = values_N[:: max(1, len(values_N) // _SAMPLE)]
    ones = np.array(
        [np.count_nonzero(sample & np.uint64(1 << bit)) / len(sample) for bit in range(bits)]
    )
    return np.asarray(-np.log2(ones**2 + (1 - ones) ** 2))


def _blocks_to_match(count: int, information: float, bits: int, max_distance: int) -> int:
    """Return in how many blocks agreement is asked for; 0 where all pairs are better compared."""
    costs = {0: count * count / 2 * _COMPARE_NS}
    for matched in range(1, min(6, bits - max_distance + 1)):
        blocks = max_distance + matched
        agreeing = count / 2 ** (information * matched / blocks)
        # All are compared with neighbours as far away as the longest runs reach.
        neighbours = agreeing + 4 * agreeing**0.5
        a_table = _TABLE_NS + count * (_SORT_NS + neighbours * _COMPARE_NS)
        costs[matched] = math.comb(blocks, matched) * a_table
    return min(costs, key=costs.__getitem__)


def _moved(values: Values, moves: Moves) -> Values:
    moved = np.zeros_like(values)
    for source, to, width in moves:
        mask = np.uint64((1 << width) - 1)
        moved |= ((values >> np.uint64(source)) & mask) << np.uint64(to)
    return moved


def _back(moves: Moves) -> Moves:
    return [(to, source, width) for source, to, width in moves]
