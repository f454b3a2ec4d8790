"""The inner loops of `crawler.hamming`, compiled by numba on their first call and kept on disk.

numpy needs ten passes over memory for what is one popcount here: see crawler/NOTES.md. Importing this
module takes about a second, so that only those who search among many hashes do.

    N hashes held, Q hashes asked for, F flips
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def _popcount(_typing_context: Any, _value: Any) -> Any:  # noqa: ANN401  # numba's own types
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


# How many bits of a uint64 are set, in one instruction.
_ones: Any = intrinsic(_popcount)


@njit(cache=True, nogil=True)
def dealt(hashes_N: Hashes, places_64: NDArray[np.uint64]) -> Hashes:
    """Return the hashes with bit `i` moved to `places_64[i]`."""
    moved = np.zeros_like(hashes_N)
    for at in range(len(hashes_N)):
        value = np.uint64(0)
        for bit in range(64):
            one = (hashes_N[at] >> np.uint64(bit)) & np.uint64(1)
            value |= one << places_64[bit]
        moved[at] = value
    return moved


@njit(cache=True, nogil=True)
def _is_first(differing: np.uint64, band: int, radii: NDArray[np.int64]) -> bool:
    """Return whether two hashes are beyond the radii of all bands before `band`."""
    for earlier in range(band):
        bits = (differing >> np.uint64(16 * earlier)) & np.uint64(0xFFFF)
        if np.int64(_ones(bits)) <= radii[earlier]:
            return False
    return True


@njit(cache=True, nogil=True)
def join_band(
    hashes_N: Hashes,
    order_N: NDArray[np.uint32],
    starts: NDArray[np.int64],
    flips_F: NDArray[np.uint16],
    band: int,
    radii: NDArray[np.int64],
    max_distance: int,
    resume: int,
    found: NDArray[np.uint32],
) -> tuple[int, int]:
    """Write the near pairs of one band, from `resume` on; return where to go on, and how many.

    A pair is written in the first band that it is near in. Where `found`, (P, 2), is full, the unit of
    work (a key and a flip, counted through) that did not fit is left for the next call.
    """
    count = 0
    unit = resume
    units = 65_536 * len(flips_F)
    while unit < units:
        key = unit // len(flips_F)
        start, end = starts[key], starts[key + 1]
        if start == end:
            unit = (key + 1) * len(flips_F)
            continue
        other = key ^ np.int64(flips_F[unit % len(flips_F)])
        unit += 1
        if other < key:
            continue
        other_start, other_end = starts[other], starts[other + 1]
        before = count
        for left in range(start, end):
            one = hashes_N[left]
            for right in range(left + 1 if other == key else other_start, other_end):
                differing = one ^ hashes_N[right]
                if np.int64(_ones(differing)) <= max_distance and _is_first(differing, band, radii):
                    if count == len(found):
                        return unit - 1, before
                    found[count, 0] = order_N[left]
                    found[count, 1] = order_N[right]
                    count += 1
    return unit, count


@njit(cache=True, nogil=True)
def query_band(
    asked_Q: Hashes,
    hashes_N: Hashes,
    order_N: NDArray[np.uint32],
    starts: NDArray[np.int64],
    flips_F: NDArray[np.uint16],
    band: int,
    radii: NDArray[np.int64],
    max_distance: int,
    resume: int,
    found: NDArray[np.uint32],
) -> tuple[int, int]:
    """Write (position in `asked_Q`, position held) of the near pairs of one band, as `join_band`."""
    count = 0
    for asked in range(resume, len(asked_Q)):
        one = asked_Q[asked]
        key = np.int64((one >> np.uint64(16 * band)) & np.uint64(0xFFFF))
        before = count
        for flip in flips_F:
            other = key ^ np.int64(flip)
            for right in range(starts[other], starts[other + 1]):
                differing = one ^ hashes_N[right]
                if np.int64(_ones(differing)) <= max_distance and _is_first(differing, band, radii):
                    if count == len(found):
                        return asked, before
                    found[count, 0] = asked
                    found[count, 1] = order_N[right]
                    count += 1
    return len(asked_Q), count
