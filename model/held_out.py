"""Which pictures a head is judged on, and what is chosen from the scores it gives them.

How a number is kept honest. Few pictures are dealt into folds that never part kin, several times
over; in each, every picture is scored by a head fitted on the other folds. Many pictures keep the
side that the hash of their bytes gives them, however the set grows: 70 % are fitted on, and the
rest, on two sides, is scored. Whatever is then chosen by looking at scores (the strength of the
pull, the calibration, the thresholds) is chosen for one fold or side from the others' alone.

Shapes: N examples, L labels, K strengths, C classes (no, yes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.classifier import Floats
from model.data import grouped_folds

FITTED_ON = -1
"""The side of pictures that no score is held out for."""

_SIDES_FROM = 20_000  # examples; with fewer, a seventh of them says too little of a rare label
_SIDE_SHARE = 0.15
_SIDE_ANSWERS = 20  # of either kind that each label needs on each held-out side
_ONE_REPEAT_FROM = 2_000  # examples; with so many, another deal of the cards changes nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deal:
    """One way to hold pictures out: the fold or side of each, and what is fitted to score which."""

    side_N: NDArray[np.int64]  # 0, 1, ...; FITTED_ON where no score is held out
    parts: tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...]  # fitted on, scored

    @property
    def sides(self) -> int:
        """How many folds, or held-out sides, there are."""
        return int(self.side_N.max()) + 1


def deal_folds(
    targets_NL: NDArray[np.float32], groups: Sequence[str], *, folds: int, repeats: int, seed: int
) -> list[Deal]:
    """Deal all pictures into folds, `repeats` times, but once where they are many."""
    deals = []
    for repeat in range(1 if len(targets_NL) >= _ONE_REPEAT_FROM else repeats):
        fold_N = grouped_folds(targets_NL, groups, folds=folds, seed=seed + repeat)
        parts = tuple((fold_N != fold, fold_N == fold) for fold in range(folds))
        deals.append(Deal(side_N=fold_N, parts=parts))
    return deals


def judge_unseen(deal: Deal, unseen_N: NDArray[np.bool_]) -> Deal:
    """Return a deal of the unseen examples as one of all, in which the others are always fitted on."""
    side_N = np.full(len(unseen_N), FITTED_ON)
    side_N[unseen_N] = deal.side_N
    parts = tuple((side_N != side, side_N == side) for side in range(deal.sides))
    return Deal(side_N=side_N, parts=parts)


def unseen_rows(
    groups: Sequence[str], sha256s: Sequence[str], seen: Collection[str]
) -> NDArray[np.bool_]:
    """Return which examples are neither among `seen`, what the encoder was fitted on, nor their kin."""
    known = {group for group, sha256 in zip(groups, sha256s, strict=True) if sha256 in seen}
    return np.array([group not in known for group in groups], bool)


def deal_sides(
    targets_NL: NDArray[np.float32], groups: Sequence[str], sha256s: Sequence[str]
) -> Deal | None:
    """Hold out the pictures whose bytes say so; None where that leaves too few of some answer.

    A group on more than one side stays where its first held-out picture is, and its other pictures
    take no part: moving them would let a picture change sides when kin of it are found.
    """
    if len(targets_NL) < _SIDES_FROM:
        return None
    own_N = np.array([_own_side(sha256) for sha256 in sha256s])
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    side_G = np.full(int(group_N.max()) + 1, FITTED_ON)
    held_out = np.flatnonzero(own_N != FITTED_ON)[::-1]
    side_G[group_N[held_out]] = own_N[held_out]  # in reverse: the first one stands
    side_N = np.where(own_N == side_G[group_N], own_N, FITTED_ON)
    fitted_N = (own_N == FITTED_ON) & (side_G[group_N] == FITTED_ON)
    for side in (0, 1):
        answers_NL = targets_NL[side_N == side]
        if min((answers_NL == 1).sum(0).min(), (answers_NL == 0).sum(0).min()) < _SIDE_ANSWERS:
            return None
    return Deal(side_N=side_N, parts=((fitted_N, side_N != FITTED_ON),))


def _own_side(sha256: str) -> int:
    # Of the id again: ids may be sorted into runs or shards by their first digits.
    share = int.from_bytes(hashlib.sha256(f"side {sha256}".encode()).digest()[:4], "big") / 2**32
    return int(share / _SIDE_SHARE) if share < 2 * _SIDE_SHARE else FITTED_ON


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Sums over held-out logits: all that strengths and calibration are chosen by.

    `sums_3KLC` holds count, sum and sum of squares, for each strength, label and class (no, yes).
    Sums of several folds add up, so a fold is left out by leaving it out.
    """

    sums_3KLC: Floats

    @classmethod
    def of(cls, logits_KNL: NDArray[np.float32], targets_NL: NDArray[np.float32]) -> HeldOut:
        """Sum the logits of each strength (K, N, L) by their targets; nan takes no part."""
        sums = []
        for answer_NL in (targets_NL == 0, targets_NL == 1):
            counted_NL = answer_NL.astype(np.float64)
            counts = np.broadcast_to(counted_NL.sum(0), logits_KNL.shape[::2])
            first, second = (
                np.stack([(power(logits_NL) * counted_NL).sum(0) for logits_NL in logits_KNL])
                for power in (np.asarray, np.square)
            )
            sums.append(np.stack([counts, first, second]))
        return cls(np.stack(sums, axis=-1))

    @classmethod
    def sum(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """Return what all the parts hold together."""
        return cls(np.sum([part.sums_3KLC for part in parts], axis=0))

    def best_strengths(self, default: int) -> NDArray[np.intp]:
        """Return the index (L,) of the strength that parts yes from no best, for every label.

        What counts is d', the distance between their means over the spread within them: unlike
        log loss it does not mind overconfidence, which calibration mends, and unlike average
        precision it is smooth in a few dozen pictures. A label's own d' counts by how many of its
        rarer answer there are, the mean over the labels makes up the rest, and the strength
        `default` is left only for one that is better by more than few pictures could feign.
        """
        gap_KL, variance_KL, _ = self._discriminant()
        separation_KL = gap_KL / np.sqrt(variance_KL)
        rarer_L = self.sums_3KLC[0, 0].min(-1)
        own_L = rarer_L / (rarer_L + _HALF_OWN)
        judged_KL = own_L * separation_KL + (1 - own_L) * separation_KL.mean(1, keepdims=True)
        judged_KL[default] += _FEIGNED / (own_L * rarer_L + (1 - own_L) * rarer_L.sum()).clip(min=1)
        best_L: NDArray[np.intp] = np.argmax(judged_KL, axis=0)
        return best_L

    def calibration(self, choice_L: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return slope and shift (L,) that make the chosen strengths' logits log odds.

        Linear discriminant analysis, classes weighed equally: held-out logits of one class are
        taken as normal, with one variance.
        """
        gap_L, variance_L, middle_L = (
            np.take_along_axis(each_KL, choice_L[None], 0)[0] for each_KL in self._discriminant()
        )
        # A label that nothing tells apart keeps its order, on scores near a half.
        slope_L = np.clip(gap_L / variance_L, 0.05, 20)
        return slope_L, -slope_L * middle_L

    def _discriminant(self) -> tuple[Floats, Floats, Floats]:
        """Return the gap between the classes' means, the variance within, the middle; each (K, L)."""
        count_KLC, sum_KLC, square_KLC = self.sums_3KLC
        mean_KLC = sum_KLC / count_KLC.clip(min=1)
        variance_KLC = square_KLC / count_KLC.clip(min=1) - mean_KLC**2
        gap_KL = mean_KLC[..., 1] - mean_KLC[..., 0]
        return gap_KL, variance_KLC.mean(2).clip(min=1e-9), mean_KLC.mean(2)


_HALF_OWN = 20  # answers of the rarer kind at which a label's own d' counts as much as the mean
_FEIGNED = 2.0  # d' that one answer could feign; of n, a share of n
