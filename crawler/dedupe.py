"""Duplicate pictures: the same pixels, or so near that a person would call them the same picture.

A perceptual match has to pass three looks, each blind where another sees: pHash (coarse
structure), dHash (edges), and the tiny picture (colour, and small parts that hashes average away).

    N fingerprints, P pairs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crawler.decode import Fingerprint
from crawler.hamming import HammingIndex, distances
from crawler.hashes import TINY_LUMA_SIDE, VIEW_COUNT, symmetries
from crawler.second_look import Overlay, compare
from crawler.verdicts import Sides, Verdict

Found = Literal["same pixels", "perceptual", "second look", "earlier", "a person"]
"""How a duplicate was found.

"earlier" is one that an earlier grouping found and this one did not; "a person" said so.
"""

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
and mirroring of 140 photographs; of 409,060 pairs of 905 photographs not used for that, 12.
"""

_MAX_OVERLAYS = 3

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
    fingerprints: Sequence[Fingerprint],
    *,
    thumbnails: Thumbnails | None = None,
    earlier: Mapping[str, str] | None = None,
    verdicts: Sequence[Verdict] = (),
) -> list[DuplicateGroup]:
    """Return the groups of two or more, sorted by the kept id; the same for every order of input.

    A group is a star: every member is near the kept picture, so that a chain of small steps cannot
    grow one. The best pictures come first: those with nothing around or over them that another
    rendition lacks, then most pixels, most bytes, the lowest id. Each that no better one has claimed
    is kept, and claims whatever is left near it.

    Stars alone could be split by an addition (a large picture that is near some of the members), so
    groups of earlier calls can be given: `earlier` is the kept id by duplicate. Those pictures stay
    together. A picture that is near the kept one joins them, and takes its place if it is better and
    near all the others too. So adding never splits; only removing the kept one, or leaving `earlier`
    out, groups anew, which then may depend on what was there and never on when it came.

    What people said stands above all of that (`verdicts`, oldest first): two that were said to be one
    picture are in one group, however little they are alike, and two that were said to be two never
    are, with whatever comes later. Of words that contradict each other the newest counts.

    Repeated ids count once. With `thumbnails`, pictures that were cropped, framed, written on or
    turned are found too: those of a few borderline pairs are asked for.
    """
    unique = {each.sha256: each for each in fingerprints}
    sides = Sides(verdicts)
    alike = _by_pixels(unique.values(), sides)
    looks, spoilt = _renditions([members[0] for members in alike], thumbnails)
    spoilt_pixels = {alike[at][0].pixel_sha256 for at in spoilt}

    def rank(each: Fingerprint) -> tuple[bool, int, int, str]:
        return (each.pixel_sha256 in spoilt_pixels, *_smallest_last(each))

    pictures = _pictures(unique.values(), sides, rank)
    at_id = {each.sha256: at for at, members in enumerate(pictures) for each in members}
    apart = _apart(pictures, sides)
    near = _near(alike, looks, at_id, apart)
    stars = _earlier_stars(at_id, earlier or {}, apart)
    for kept, others in stars.items():
        for other in others:
            near[kept].setdefault(other, "earlier")
            near[other].setdefault(kept, "earlier")
    ranked = sorted(range(len(pictures)), key=lambda at: rank(pictures[at][0]))
    groups = []
    for at, others in _grown(stars, ranked, near, apart).items():
        kept_one = pictures[at][0]
        found: list[Duplicate] = [
            _duplicate(
                each,
                kept_one,
                "same pixels" if each.pixel_sha256 == kept_one.pixel_sha256 else "a person",
            )
            for each in pictures[at][1:]
        ]
        found.extend(
            _duplicate(each, kept_one, near[at][other])
            for other in others
            for each in pictures[other]
        )
        if found:
            found.sort(key=lambda each: each.sha256)
            groups.append(DuplicateGroup(kept=kept_one.sha256, duplicates=tuple(found)))
    return sorted(groups, key=lambda group: group.kept)


def _duplicate(each: Fingerprint, kept: Fingerprint, how: Found) -> Duplicate:
    return Duplicate(sha256=each.sha256, how=how, distance=(kept.phash ^ each.phash).bit_count())


def _smallest_last(fingerprint: Fingerprint) -> tuple[int, int, str]:
    return (-fingerprint.width * fingerprint.height, -fingerprint.size_bytes, fingerprint.sha256)


def _by_pixels(fingerprints: Iterable[Fingerprint], sides: Sides) -> list[list[Fingerprint]]:
    """Return lists of those that share their pixels, best first within each, in no telling order.

    They are joined in `sides`, but for those that are held apart.
    """
    members: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for fingerprint in sorted(fingerprints, key=_smallest_last):
        members[fingerprint.pixel_sha256].append(fingerprint)
    for alike in members.values():
        for at, fingerprint in enumerate(alike):
            # The first joins nearly always: only a person holds equal pixels apart.
            any(sides.join(each.sha256, fingerprint.sha256) for each in alike[:at])
    return list(members.values())


def _pictures(
    fingerprints: Iterable[Fingerprint],
    sides: Sides,
    rank: Callable[[Fingerprint], tuple[bool, int, int, str]],
) -> list[list[Fingerprint]]:
    """Return lists of those that are one picture, best first within each."""
    members: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for fingerprint in sorted(fingerprints, key=rank):
        members[sides.side(fingerprint.sha256)].append(fingerprint)
    return list(members.values())


def _apart(pictures: Sequence[Sequence[Fingerprint]], sides: Sides) -> dict[int, set[int]]:
    """Return which positions are held apart from which; most are in it not at all."""
    if not sides.any_apart:
        return {}
    at_side = {sides.side(members[0].sha256): at for at, members in enumerate(pictures)}
    found = {
        at: {at_side[foe] for foe in sides.apart_from(side) if foe in at_side}
        for side, at in at_side.items()
    }
    return {at: foes for at, foes in found.items() if foes}


def _near(
    alike: Sequence[Sequence[Fingerprint]],
    looks: Mapping[int, Mapping[int, Found]],
    at_id: Mapping[str, int],
    apart: Mapping[int, set[int]],
) -> defaultdict[int, dict[int, Found]]:
    """Return which pictures are near which: what holds for equal pixels, for all who have them."""
    near: defaultdict[int, dict[int, Found]] = defaultdict(dict)
    pictures = [dict.fromkeys(at_id[each.sha256] for each in members) for members in alike]
    for first, others in looks.items():
        for second, how in others.items():
            for one in pictures[first]:
                for other in pictures[second]:
                    if one != other and other not in apart.get(one, ()):
                        near[one].setdefault(other, how)
    return near


def _earlier_stars(
    at_id: Mapping[str, int], earlier: Mapping[str, str], apart: Mapping[int, set[int]]
) -> dict[int, set[int]]:
    """Return the earlier groups whose kept picture is still there, as positions."""
    stars: defaultdict[int, set[int]] = defaultdict(set)
    placed: set[int] = set()
    for duplicate, kept in sorted(earlier.items(), key=lambda each: (each[1], each[0])):
        at, kept_at = at_id.get(duplicate), at_id.get(kept)
        if at is None or kept_at is None or at == kept_at or at in placed:
            continue
        if not apart.get(at, set()).isdisjoint({kept_at, *stars[kept_at]}):
            continue
        stars[kept_at].add(at)
        placed.add(at)
    return {kept: others for kept, others in stars.items() if others and kept not in placed}


def _grown(
    stars: Mapping[int, set[int]],
    ranked: Sequence[int],
    near: Mapping[int, Mapping[int, Found]],
    apart: Mapping[int, set[int]],
) -> dict[int, set[int]]:
    """Return all stars, kept -> others: the given ones grown, then new ones of what is left."""
    rank = {at: place for place, at in enumerate(ranked)}
    free = set(ranked) - stars.keys() - {other for others in stars.values() for other in others}

    def claimable(kept: int, others: set[int]) -> set[int]:
        """The free ones near `kept`, the best first where some are held apart."""
        if not apart:
            return near[kept].keys() & free
        found: set[int] = set()
        for each in sorted(near[kept].keys() & free, key=rank.__getitem__):
            if apart.get(each, set()).isdisjoint({kept, *others, *found}):
                found.add(each)
        return found

    waiting = sorted(stars, key=rank.__getitem__)
    grown: dict[int, set[int]] = {}
    while waiting:
        kept = waiting.pop(0)
        others = set(stars[kept])
        growing = True
        while growing:
            claimed = claimable(kept, others)
            for star in [each for each in waiting if {each, *stars[each]} <= near[kept].keys()]:
                joining = {star, *stars[star]}
                together = {kept, *others, *claimed}
                if any(not apart.get(each, set()).isdisjoint(together) for each in joining):
                    continue
                waiting.remove(star)
                claimed |= joining
            free -= claimed
            others |= claimed
            better = [
                each
                for each in others
                if rank[each] < rank[kept] and (others | {kept}) - {each} <= near[each].keys()
            ]
            if better:
                best = min(better, key=rank.__getitem__)
                others = (others | {kept}) - {best}
                kept = best
            growing = bool(claimed or better)
        grown[kept] = others
    for at in ranked:
        if at in free:
            free.discard(at)
            grown[at] = claimable(at, set())
            free -= grown[at]
    return grown


def _renditions(
    fingerprints: Sequence[Fingerprint], thumbnails: Thumbnails | None
) -> tuple[defaultdict[int, dict[int, Found]], set[int]]:
    """Return which positions show the same picture, both ways, and which are spoilt renditions."""
    hashable_N = np.array(
        [at for at, each in enumerate(fingerprints) if each.hashable], dtype=np.int64
    )
    near: defaultdict[int, dict[int, Found]] = defaultdict(dict)
    spoilt: set[int] = set()
    alike: set[tuple[int, int]] = set()
    for first, second in _near_as_they_are(fingerprints, hashable_N):
        if _look_alike(fingerprints[first], fingerprints[second]):
            alike.add((first, second))
            near[first][second] = near[second][first] = "perceptual"
    if thumbnails is None:
        return near, spoilt
    proposed = _near_in_part(fingerprints, hashable_N)
    # Of those that are alike, a thin frame may still be around one.
    looked_at = {
        pair: overlays
        for pair, overlays in proposed.items()
        if pair not in alike or _one_has_margins(fingerprints[pair[0]], fingerprints[pair[1]])
    }
    ids = {fingerprints[at].sha256 for pair in looked_at for at in pair}
    pictures = thumbnails(sorted(ids)) if ids else {}
    for (first, second), overlays in looked_at.items():
        one = pictures.get(fingerprints[first].sha256)
        other = pictures.get(fingerprints[second].sha256)
        if not one or not other:
            continue
        looks = (compare(one, other, overlay) for overlay in overlays)
        likeness = next((each for each in looks if each is not None), None)
        if likeness is None:
            continue
        near[first].setdefault(second, "second look")
        near[second].setdefault(first, "second look")
        spoilt |= {first} if likeness.first_spoilt else set()
        spoilt |= {second} if likeness.second_spoilt else set()
    return near, spoilt


def _one_has_margins(first: Fingerprint, second: Fingerprint) -> bool:
    return (first.views[:8] == first.views[-8:]) != (second.views[:8] == second.views[-8:])


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
) -> dict[tuple[int, int], list[Overlay]]:
    """Return the pairs of which one is near a part of the other, or the other turned, and how.

    At most `_MAX_OVERLAYS` of each pair, the nearest first.
    """
    size = 8 * VIEW_COUNT
    viewed_N = hashable_N[[len(fingerprints[at].views) == size for at in hashable_N]]
    if not len(viewed_N):
        return {}
    views_NV = np.frombuffer(
        b"".join(fingerprints[at].views for at in viewed_N), dtype="<u8"
    ).reshape(-1, VIEW_COUNT)
    # A whole picture, and one without its margins, against any part; a whole one against one turned.
    held_M = views_NV[:, [0, -1]].ravel()
    asked_A = np.concatenate([views_NV, symmetries(views_NV[:, 0])[1:].T], axis=1)
    columns = asked_A.shape[1]
    asked_A = asked_A.ravel()
    index = HammingIndex()
    index.add(held_M)
    pairs = index.query(asked_A, MAX_VIEW_DISTANCE)
    bits_P = distances(asked_A[pairs[:, 0]], held_M[pairs[:, 1]])
    picture_P, column_P = np.divmod(pairs[:, 0], columns)
    other_P, margins_P = np.divmod(pairs[:, 1], 2)
    turned_P = column_P >= VIEW_COUNT
    # Turning one is undone by turning the other, so that each such pair comes up from both sides.
    sensible_P = (picture_P != other_P) & (~turned_P | ((margins_P == 0) & (picture_P > other_P)))
    order = np.argsort(bits_P[sensible_P], kind="stable")
    overlays: defaultdict[tuple[int, int], list[Overlay]] = defaultdict(list)
    for at in np.flatnonzero(sensible_P)[order]:
        picture, other = int(viewed_N[picture_P[at]]), int(viewed_N[other_P[at]])
        column, other_view = int(column_P[at]), int(margins_P[at]) * (VIEW_COUNT - 1)
        if column >= VIEW_COUNT:
            overlay = Overlay(view=0, other_view=0, symmetry=column - VIEW_COUNT + 1)
        elif picture < other:
            overlay = Overlay(view=column, other_view=other_view)
        else:
            overlay = Overlay(view=other_view, other_view=column)
        found = overlays[min(picture, other), max(picture, other)]
        if len(found) < _MAX_OVERLAYS and overlay not in found:
            found.append(overlay)
    return overlays


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
