"""Duplicate pictures: the same pixels, or so near that a person would call them the same picture.

A perceptual match has to pass three looks, each blind where another sees: pHash (coarse
structure), dHash (edges), and the tiny picture (colour, and small parts that hashes average away).

    N fingerprints, P pairs
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crawler.decode import TINY_LUMA_SIDE, Fingerprint

# Chosen on 149 real files (26 groups, 292 duplicate pairs, and guitars in one pose, buttons with
# other words, one player in three colours, which are not duplicates). Counting pairs:
#
#     pHash <= 8 alone                        264 found, 8 wrong    precision 0.971  recall 0.904
#     pHash <= 8, dHash <= 8                  261 found, 7 wrong    precision 0.974  recall 0.894
#     the two, then luma <= 40, chroma <= 20  253 found, 0 wrong    precision 1.000  recall 0.866
#     the same, in groups on a kept picture   251 found, 0 wrong    precision 1.000  recall 0.860
#
# What is missed is mirrored, rotated, cropped or made grey. A wrong merge loses a picture for good,
# a missed one costs a second look, so the last two have room: true renditions end at 37 and 6, the
# nearest lookalikes begin at 66 (a guitar) or, with less luma, 116 in chroma (a colour).
MAX_PHASH_DISTANCE = 8
MAX_DHASH_DISTANCE = 8
MAX_LUMA_DIFFERENCE = 40
MAX_CHROMA_DIFFERENCE = 20

_HASH_BITS = 64
# Bounds the memory of a join, and keeps a block (2 MB of hashes) in the processor's cache.
_PAIRS_AT_ONCE = 131_072

Pairs = NDArray[np.int64]
"""(P, 2): a row is two positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A picture that another one stands for, and why."""

    sha256: str
    how: Literal["same pixels", "perceptual"]
    distance: int
    """pHash bits that differ from the kept picture's, 0 to `MAX_PHASH_DISTANCE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """One picture that is kept, and its duplicates in the order of their ids."""

    kept: str
    duplicates: tuple[Duplicate, ...]


class HammingIndex:
    """Exact search for 64-bit hashes within a Hamming distance.

    Pigeonhole (multi-index hashing, Norouzi et al. 2012): cut 64 bits into `max_distance // 2 + 1`
    bands; two hashes within `max_distance` bits differ in at most one bit of at least one band. So
    it is enough to compare what lies within one bit in some band, found by looking each band's value
    and its one-bit neighbours up in the sorted values. Positions count from 0 in order of adding.
    """

    def __init__(self) -> None:
        self._hashes_N: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._hashes_N)

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Append hashes; they take the next positions."""
        self._hashes_N = np.concatenate([self._hashes_N, np.asarray(hashes, dtype=np.uint64)])

    def query(self, hashes: NDArray[np.uint64], max_distance: int) -> Pairs:
        """Return every (position in `hashes`, position in the index) within `max_distance` bits.

        int64 (P, 2), each pair once, sorted.
        """
        return _near_pairs(
            np.asarray(hashes, dtype=np.uint64), self._hashes_N, max_distance, within=False
        )

    def self_join(self, max_distance: int) -> Pairs:
        """Return every pair (i, j), i < j, of positions within `max_distance` bits: (P, 2), sorted."""
        return _near_pairs(self._hashes_N, self._hashes_N, max_distance, within=True)


def group_duplicates(fingerprints: Sequence[Fingerprint]) -> list[DuplicateGroup]:
    """Return the groups of two or more, sorted by the kept id; the same for every order of input.

    The best pictures come first (most pixels, then most bytes, then the lowest id): each that no
    better one has claimed is kept, and claims whatever is left near it. A group therefore hangs on
    its kept picture, to which every member is near; a chain of small steps cannot grow one.
    Repeated ids count once.
    """
    unique = {each.sha256: each for each in fingerprints}
    ranked = sorted(
        unique.values(), key=lambda each: (-each.width * each.height, -each.size_bytes, each.sha256)
    )
    same_pixels = _by_pixels(ranked)
    leaders = [members[0] for members in same_pixels]
    near = _perceptual_neighbours([ranked[leader] for leader in leaders])
    claimed = [False] * len(leaders)
    groups: list[DuplicateGroup] = []
    for at in range(len(leaders)):
        if claimed[at]:
            continue
        kept = ranked[leaders[at]]
        found: list[Duplicate] = [
            Duplicate(sha256=ranked[member].sha256, how="same pixels", distance=0)
            for member in same_pixels[at][1:]
        ]
        for other in near.get(at, ()):
            if claimed[other] or other < at:
                continue
            claimed[other] = True
            found.extend(
                Duplicate(
                    sha256=ranked[member].sha256,
                    how="perceptual",
                    distance=(kept.phash ^ ranked[member].phash).bit_count(),
                )
                for member in same_pixels[other]
            )
        if found:
            found.sort(key=lambda each: each.sha256)
            groups.append(DuplicateGroup(kept=kept.sha256, duplicates=tuple(found)))
    return sorted(groups, key=lambda group: group.kept)


def _by_pixels(ranked: Sequence[Fingerprint]) -> list[list[int]]:
    """Return positions in `ranked` that share their pixels, best first within and between lists."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for at, fingerprint in enumerate(ranked):
        members[fingerprint.pixel_sha256].append(at)
    return list(members.values())


def _perceptual_neighbours(fingerprints: Sequence[Fingerprint]) -> dict[int, list[int]]:
    """Return, for each position, the later positions that show the same picture, in order."""
    hashable = np.array(
        [at for at, each in enumerate(fingerprints) if each.hashable], dtype=np.int64
    )
    phash_N = np.array([fingerprints[at].phash for at in hashable], dtype=np.uint64)
    dhash_N = np.array([fingerprints[at].dhash for at in hashable], dtype=np.uint64)
    index = HammingIndex()
    index.add(phash_N)
    pairs = index.self_join(MAX_PHASH_DISTANCE)
    pairs = pairs[_distances(dhash_N[pairs[:, 0]], dhash_N[pairs[:, 1]]) <= MAX_DHASH_DISTANCE]
    near: defaultdict[int, list[int]] = defaultdict(list)
    for first, second in hashable[pairs].tolist():
        if _look_alike(fingerprints[first], fingerprints[second]):
            near[first].append(second)
    return near


def _look_alike(first: Fingerprint, second: Fingerprint) -> bool:
    """Return whether no spot of the two tiny pictures differs more than re-encoding can make it."""
    if len(first.tiny) != len(second.tiny) or not first.tiny:
        return False  # nothing to look at: not merging is the safe side
    difference = np.abs(
        np.frombuffer(first.tiny, dtype=np.uint8).astype(np.int16)
        - np.frombuffer(second.tiny, dtype=np.uint8)
    )
    luma, chroma = np.split(difference, [TINY_LUMA_SIDE * TINY_LUMA_SIDE])
    return bool(luma.max() <= MAX_LUMA_DIFFERENCE and chroma.max() <= MAX_CHROMA_DIFFERENCE)


def _near_pairs(
    left_N: NDArray[np.uint64], right_N: NDArray[np.uint64], max_distance: int, *, within: bool
) -> Pairs:
    """Return (left, right) positions within `max_distance`; only left < right if `within` one set."""
    if not 0 <= max_distance < _HASH_BITS:
        raise ValueError(f"max_distance is {max_distance}, and should be 0 to {_HASH_BITS - 1}")
    found = [np.zeros((0, 2), dtype=np.int64)]
    edges = np.linspace(0, _HASH_BITS, max_distance // 2 + 2).astype(int).tolist()
    for low, high in itertools.pairwise(edges):
        flips = [0] if max_distance == 0 else [0, *(1 << bit for bit in range(high - low))]
        found.extend(
            pairs[pairs[:, 0] < pairs[:, 1]] if within else pairs
            for pairs in _near_in_band(left_N, right_N, low, high - low, flips, max_distance)
        )
    # A pair that is near in several bands was found several times; unique() sorts as well.
    return np.unique(np.concatenate(found), axis=0)


def _near_in_band(
    left_N: NDArray[np.uint64],
    right_N: NDArray[np.uint64],
    shift: int,
    width: int,
    flips: Sequence[int],
    max_distance: int,
) -> Iterator[Pairs]:
    """Yield blocks of near pairs whose bits [shift, shift + width) agree after one of `flips`."""
    mask = np.uint64((1 << width) - 1)
    left_keys = (left_N >> np.uint64(shift)) & mask
    right_keys = (right_N >> np.uint64(shift)) & mask
    order = np.argsort(right_keys, kind="stable")
    right_keys, right_N = right_keys[order], right_N[order]
    for flip in flips:
        probes = left_keys ^ np.uint64(flip)
        starts = np.searchsorted(right_keys, probes, side="left")
        counts = np.searchsorted(right_keys, probes, side="right") - starts
        ends = np.cumsum(counts)
        at = 0
        while at < len(left_N):
            before = int(ends[at - 1]) if at else 0
            # At least one left position a block, then as many as keep it under the limit.
            stop = max(at + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
            block = counts[at:stop]
            # Each left position meets a run of the sorted right side: all the runs, end to end.
            runs = np.repeat(starts[at:stop] - (ends[at:stop] - block - before), block)
            runs += np.arange(len(runs))
            hit = _distances(np.repeat(left_N[at:stop], block), right_N[runs]) <= max_distance
            lefts = np.repeat(np.arange(at, stop), block)[hit]
            yield np.column_stack([lefts, order[runs[hit]]])
            at = stop


def _distances(first_P: NDArray[np.uint64], second_P: NDArray[np.uint64]) -> NDArray[np.uint8]:
    distances: NDArray[np.uint8] = np.bitwise_count(first_P ^ second_P)
    return distances
