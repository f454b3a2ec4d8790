"""Duplicate pictures: the same pixels, or so near that a person would call them the same picture.

A perceptual match has to pass three looks, each blind where another sees: pHash (coarse
structure), dHash (edges), and the tiny picture (colour, and small parts that hashes average away).

    N fingerprints, P pairs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crawler.decode import Fingerprint
from crawler.hamming import HammingIndex, distances
from crawler.hashes import TINY_LUMA_SIDE, VIEW_COUNT, symmetries
from crawler.second_look import Overlay, show_the_same

Found = Literal["same pixels", "perceptual", "second look"]

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

MAX_VIEW_DISTANCE = 8
"""Bits by which a view of one picture differs from the whole of another, or from it turned.

Such a pair is proposed, and the second look decides. Within 8 bits lay every crop, border, rotation
and mirroring of 140 photographs, and none of 19,460 pairs of different ones.
"""

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Gives the thumbnails (JPEG) of those ids; what it leaves out is not looked at, nor merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A picture that another one stands for, and why."""

    sha256: str
    how: Found
    distance: int
    """pHash bits that differ from the kept picture's; many where it was cropped or turned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """One picture that is kept, and its duplicates in the order of their ids."""

    kept: str
    duplicates: tuple[Duplicate, ...]


def group_duplicates(
    fingerprints: Sequence[Fingerprint], *, thumbnails: Thumbnails | None = None
) -> list[DuplicateGroup]:
    """Return the groups of two or more, sorted by the kept id; the same for every order of input.

    The best pictures come first (most pixels, then most bytes, then the lowest id): each that no
    better one has claimed is kept, and claims whatever is left near it. A group therefore hangs on
    its kept picture, to which every member is near; a chain of small steps cannot grow one.
    Repeated ids count once. With `thumbnails`, pictures that were cropped, framed, written on or
    turned are found too: those of a few borderline pairs are asked for.
    """
    unique = {each.sha256: each for each in fingerprints}
    ranked = sorted(
        unique.values(), key=lambda each: (-each.width * each.height, -each.size_bytes, each.sha256)
    )
    same_pixels = _by_pixels(ranked)
    leaders = [members[0] for members in same_pixels]
    near = _perceptual_neighbours([ranked[leader] for leader in leaders], thumbnails)
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
        for other, how in near.get(at, ()):
            if claimed[other] or other < at:
                continue
            claimed[other] = True
            found.extend(
                Duplicate(
                    sha256=ranked[member].sha256,
                    how=how,
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


def _perceptual_neighbours(
    fingerprints: Sequence[Fingerprint], thumbnails: Thumbnails | None
) -> dict[int, list[tuple[int, Found]]]:
    """Return, for each position, the later positions that show the same picture, in order."""
    hashable_N = np.array(
        [at for at, each in enumerate(fingerprints) if each.hashable], dtype=np.int64
    )
    found: dict[tuple[int, int], Found] = {}
    for first, second in _near_as_they_are(fingerprints, hashable_N):
        if _look_alike(fingerprints[first], fingerprints[second]):
            found[first, second] = "perceptual"
    if thumbnails is not None:
        proposed = {
            pair: overlay
            for pair, overlay in _near_in_part(fingerprints, hashable_N).items()
            if pair not in found
        }
        ids = {fingerprints[at].sha256 for pair in proposed for at in pair}
        pictures = thumbnails(sorted(ids)) if ids else {}
        for (first, second), overlay in proposed.items():
            one = pictures.get(fingerprints[first].sha256)
            other = pictures.get(fingerprints[second].sha256)
            if one and other and show_the_same(one, other, overlay):
                found[first, second] = "second look"
    near: defaultdict[int, list[tuple[int, Found]]] = defaultdict(list)
    for (first, second), how in sorted(found.items()):
        near[first].append((second, how))
    return near


def _near_as_they_are(
    fingerprints: Sequence[Fingerprint], hashable_N: NDArray[np.int64]
) -> list[list[int]]:
    phash_N = np.array([fingerprints[at].phash for at in hashable_N], dtype=np.uint64)
    dhash_N = np.array([fingerprints[at].dhash for at in hashable_N], dtype=np.uint64)
    index = HammingIndex()
    index.add(phash_N)
    pairs = index.self_join(MAX_PHASH_DISTANCE)
    near = distances(dhash_N[pairs[:, 0]], dhash_N[pairs[:, 1]]) <= MAX_DHASH_DISTANCE
    found: list[list[int]] = hashable_N[pairs[near]].tolist()
    return found


def _near_in_part(
    fingerprints: Sequence[Fingerprint], hashable_N: NDArray[np.int64]
) -> dict[tuple[int, int], Overlay]:
    """Return the pairs of which one is near a part of the other, or the other turned, and how."""
    size = 8 * VIEW_COUNT
    viewed_N = hashable_N[[len(fingerprints[at].views) == size for at in hashable_N]]
    if not len(viewed_N):
        return {}
    views_NV = np.frombuffer(
        b"".join(fingerprints[at].views for at in viewed_N), dtype="<u8"
    ).reshape(-1, VIEW_COUNT)
    turned_N7 = symmetries(views_NV[:, 0])[1:].T
    index = HammingIndex()
    columns = VIEW_COUNT + turned_N7.shape[1]
    index.add(np.concatenate([views_NV, turned_N7], axis=1).ravel())
    pairs = index.self_join(MAX_VIEW_DISTANCE)
    pictures_P2, column_P2 = np.divmod(pairs, columns)
    # A whole picture, or one without its margins, against any part; a whole one against one turned.
    asked_P2 = (column_P2 == 0) | (column_P2 == VIEW_COUNT - 1)
    turned_P2 = column_P2 >= VIEW_COUNT
    sensible_P = (asked_P2.any(axis=1) & ~turned_P2.any(axis=1)) | (
        (column_P2 == 0).any(axis=1) & turned_P2.any(axis=1)
    )
    sensible_P &= pictures_P2[:, 0] != pictures_P2[:, 1]
    overlays: dict[tuple[int, int], Overlay] = {}
    for (first, second), (view, other) in zip(
        viewed_N[pictures_P2[sensible_P]].tolist(), column_P2[sensible_P].tolist(), strict=True
    ):
        # Turning one is undone by turning the other: which of the two is all the same for those
        # that are their own inverse, and a quarter turn's inverse comes up as the other pair.
        overlay = Overlay(
            view=view if view < VIEW_COUNT else 0,
            other_view=other if other < VIEW_COUNT else 0,
            symmetry=max(other - VIEW_COUNT + 1, 0) or _inverse(max(view - VIEW_COUNT + 1, 0)),
        )
        overlays.setdefault((first, second), overlay)
    return overlays


def _inverse(symmetry: int) -> int:
    """Return what undoes a symmetry: all undo themselves but for the two quarter turns."""
    return {5: 6, 6: 5}.get(symmetry, symmetry)


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
