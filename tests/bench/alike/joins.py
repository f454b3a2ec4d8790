"""How fast near hashes are found among a million, of three kinds of crowding."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from crawler.hamming import HammingIndex
from tests.bench.report import Row

_HALF: NDArray[np.uint64] | np.uint64 = np.uint64(0x5555_5555_5555_5555)


def index() -> list[Row]:
    """Return the CPU seconds of self-joins of a million, and queries a second."""
    rng = np.random.default_rng(0)
    uniform = rng.integers(0, 2**64, 1_000_000, dtype=np.uint64)
    skewed = uniform & (rng.integers(0, 2**64, len(uniform), dtype=np.uint64) | _HALF)
    # Half of them share 24 bits with one of 100 prototypes: a million pairs within 10 bits.
    prototypes = rng.integers(0, 2**64, 100, dtype=np.uint64)
    masks = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, 24, replace=False)) for _ in prototypes],
        dtype=np.uint64,
    )
    of = rng.integers(0, len(prototypes), len(uniform) // 2)
    clustered = uniform.copy()
    half = clustered[: len(of)]
    half ^= (half ^ prototypes[of]) & masks[of]
    _joined(uniform[:5000], 7)  # compiles, or loads what was compiled
    rows = []
    for name, held in (("uniform", uniform), ("skewed", skewed), ("clustered", clustered)):
        for distance, target in ((7, 10), (10, 60)):
            started = time.process_time()
            _joined(held, distance)
            rows.append(
                Row(
                    name=f"self-join of 1,000,000 {name}, distance {distance}",
                    unit="CPU s",
                    value=time.process_time() - started,
                    target=target,
                    at_least=False,
                )
            )
    large = HammingIndex()
    large.add(uniform)
    large.query(uniform[:1], 7)
    started = time.process_time()
    large.query(rng.integers(0, 2**64, 20_000, dtype=np.uint64), 7)
    rate = 20_000 / (time.process_time() - started)
    rows.append(
        Row(name="query of 1,000,000, distance 7", unit="hashes/CPU s", value=rate, target=20_000)
    )
    growing = HammingIndex()
    started = time.process_time()
    for part in np.array_split(uniform[:200_000], 200):
        growing.query(part, 7)
        growing.add(part)
    rate = 200_000 / (time.process_time() - started)
    rows.append(
        Row(
            name="query and add, to 200,000, distance 7",
            unit="hashes/CPU s",
            value=rate,
            target=20_000,
        )
    )
    return rows


def _joined(hashes: NDArray[np.uint64], distance: int) -> int:
    held = HammingIndex()
    held.add(hashes)
    return sum(len(block) for block in held.self_join_blocks(distance))
