"""The thresholds that turn scores into answers, for what the user aims at.

Shapes: N examples, L labels, J cuts on a grid of log odds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from model.intervals import Floats

_CUT_J = np.arange(-10, 10.0001, 0.025)  # log odds; 0 is a score of a half
_BANDWIDTH = 0.5  # of the spread within a class, for one answer; less for more of them
_SLACK = 0.02  # of F1, for one answer: what a handful of pictures cannot tell apart
_EXPECTED = 100  # answers of the rarer kind at which counts weigh as much as expectations


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What thresholds are chosen for: best F1, a floor under precision or recall, or least cost.

    `floor` is that of precision or recall; for "costs", how many false no one false yes costs.
    """

    kind: Literal["f1", "precision", "recall", "costs"]
    floor: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Aim:
        """Read "f1", "precision >= 0.95", "recall >= 0.9" or "costs 5:1"; ValueError says so."""
        if text.strip() == "f1":
            return cls(kind="f1")
        if found := re.fullmatch(r"\s*(precision|recall)\s*>=\s*(0?\.\d+|1(?:\.0*)?)\s*", text):
            kind: Literal["precision", "recall"] = (
                "precision" if found[1] == "precision" else "recall"
            )
            return cls(kind=kind, floor=float(found[2]))
        number = r"(\d+(?:\.\d+)?)"
        found = re.fullmatch(rf"\s*costs\s+{number}\s*:\s*{number}\s*", text)
        if found and float(found[1]) > 0 and float(found[2]) > 0:
            return cls(kind="costs", floor=float(found[1]) / float(found[2]))
        raise ValueError(
            f'aim {text!r} is not known: take "f1", "precision >= 0.95" or "recall >= 0.9" '
            '(above 0, at most 1), or "costs 5:1" (a false yes to a false no)'
        )


def choose_thresholds(
    scores_NL: NDArray[np.floating], targets_NL: NDArray[np.floating], aim: Aim | str = "f1"
) -> NDArray[np.float32]:
    """Return the threshold of every label, (L,); a score at or above it is a yes.

    "f1" and "costs": the best of smoothed counts, and of those that the pictures cannot tell from
    the best, the one nearest 0.5. "precision >= p": the lowest that has it, so that recall is as
    high as can be, or the most precise if none has. "recall >= r": the highest that has it; these
    two lie halfway between two scores that occur. Choose them on scores of pictures that the model
    was not fitted on. A label without a reviewed positive gets 0.5.
    """
    aim = Aim.parse(aim) if isinstance(aim, str) else aim
    columns = zip(scores_NL.T, targets_NL.T, strict=True)
    return np.array([_choose_threshold(s, t, aim) for s, t in columns], np.float32)


def _choose_threshold(scores_N: NDArray[np.floating], targets_N: Floats, aim: Aim) -> float:
    reviewed = ~np.isnan(targets_N)
    scores = scores_N[reviewed].astype(np.float32)
    positive = targets_N[reviewed] == 1
    if not positive.any():
        return 0.5
    if aim.kind in ("precision", "recall"):
        return _with_floor(scores, positive, aim)
    return _smoothed_best(scores, positive, aim)


def _with_floor(scores: NDArray[np.float32], positive: NDArray[np.bool_], aim: Aim) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))  # cuts fall between ties
    upper, lower = scores[ends], np.append(scores[ends[1:]], np.float32(0))
    middle = (upper + lower) / 2
    cuts = np.where(middle > lower, middle, upper)  # two neighbours of float32 have no middle
    if aim.kind == "recall":
        return float(cuts[hits[ends] / hits[-1] >= aim.floor].max())
    precision = hits[ends] / (ends + 1)
    return float(cuts[precision >= min(aim.floor, precision.max())].min())


def _smoothed_best(scores: NDArray[np.float32], positive: NDArray[np.bool_], aim: Aim) -> float:
    """Return the best cut as it would be if every picture stood for more like it.

    The answers to a few dozen pictures have a best cut by chance, which another few dozen do not
    have. So each counts as a normal of log odds; where answers are few, most of what is counted is
    what calibrated scores and the share of yes lead to expect; and a cut moves away from 0.5 only
    for a gain that so few answers could not feign.
    """
    odds = logit(np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6))
    yes, no = odds[positive], odds[~positive]
    fewer = min(len(yes), max(len(no), 1))
    within = np.sqrt((yes.var() + (no.var() if len(no) else 0)) / 2)
    bandwidth = max(_BANDWIDTH * within * fewer**-0.2, 1e-3)
    chance = expit(odds + np.log(len(yes) / max(len(no), 0.5)))  # scores are of balanced answers
    share = _EXPECTED / (_EXPECTED + fewer)
    true_yes_J, false_yes_J = (
        share * _counts_above(odds, bandwidth / 10, expected)
        + (1 - share) * _counts_above(counted, bandwidth)
        for expected, counted in ((chance, yes), (1 - chance, no))
    )
    if aim.kind == "f1":
        worth_J = 2 * true_yes_J / (true_yes_J + false_yes_J + len(yes))
    else:
        cost_J = aim.floor * false_yes_J + len(yes) - true_yes_J
        worth_J = -cost_J / (aim.floor * len(no) + len(yes))
    good = worth_J >= worth_J.max() - _SLACK / np.sqrt(fewer)
    cuts = _CUT_J[good]
    return float(expit(cuts[np.argmin(np.abs(cuts))]))


def _counts_above(odds: Floats, bandwidth: float, weights: Floats | None = None) -> Floats:
    """Return how much of `odds`, each spread by `bandwidth`, lies above each cut (J,)."""
    step = _CUT_J[1] - _CUT_J[0]
    held = np.clip(np.rint((odds - _CUT_J[0]) / step).astype(int), 0, len(_CUT_J) - 1)
    histogram_J = np.bincount(held, weights, minlength=len(_CUT_J)).astype(np.float64)
    above = ndtr(np.arange(1 - len(_CUT_J), len(_CUT_J)) * step / bandwidth)
    return np.convolve(histogram_J, above[::-1])[len(_CUT_J) - 1 : 2 * len(_CUT_J) - 1]
