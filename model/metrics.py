"""How good a classifier is, with 95 % intervals, and the thresholds that turn scores into answers.

Every function takes scores (N, L) in [0, 1] and targets (N, L): 1 yes, 0 no, nan unreviewed;
unreviewed answers take no part. `groups` names the kin group of each row: whole groups are drawn in
every bootstrap, because kin are right or wrong together.

**Intervals.** Precision, recall and average precision are proportions, or means of numbers in
[0, 1]; F1 = 2J / (1 + J) goes by way of the proportion J = TP / (TP + FP + FN). The bootstrap over
groups tells how many independent trials the pictures are worth, v (1 - v) / variance, and Wilson's
score interval for that many is given: percentiles of the bootstrap alone are too narrow near 1, and
[1, 1] for 12 of 12. Where fewer than 10 groups are counted, or where the draws do not differ, the
groups themselves are the trials (for average precision, those of the positives, as in Boyd, Eng and
Page, Area under the precision-recall curve, 2013). Thresholds are taken as given.

Shapes: N examples, L labels, G groups, R resamples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_Z95 = 1.959963984540054
_TINY = 10  # counted groups below which the bootstrap says little
_MAX_CELLS = 20_000_000  # draw x group, or draw x example: what is held at once, 160 MiB
_ENOUGH_DRAWS = 200  # for a spread; with so many its own error is 5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A measured value and the 95 % interval it lies in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMetrics:
    """How good one label is; `positives` and `negatives` are reviewed pictures."""

    label: str
    positives: int
    negatives: int
    threshold: float
    precision: Interval
    recall: Interval
    f1: Interval
    average_precision: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a model is: by label, and the unweighted mean of the labels' F1."""

    labels: tuple[LabelMetrics, ...]
    macro_f1: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What thresholds are chosen for: best F1, or a floor under precision or under recall."""

    kind: str  # "f1", "precision" or "recall"
    floor: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Aim:
        """Read "f1", "precision >= 0.95" or "recall >= 0.9"; ValueError says what is allowed."""
        if text.strip() == "f1":
            return cls(kind="f1")
        found = re.fullmatch(r"\s*(precision|recall)\s*>=\s*(0?\.\d+|1(?:\.0*)?)\s*", text)
        if not found:
            raise ValueError(
                f"aim {text!r} is not known: "
                'take "f1", "precision >= 0.95" or "recall >= 0.9" (above 0, at most 1)'
            )
        return cls(kind=found[1], floor=float(found[2]))


def average_precision(scores_N: Floats, positive_N: NDArray[np.bool_]) -> float:
    """Return the mean, over positives, of the precision at each one's score; ties share theirs.

    This is scikit-learn's `average_precision_score`. nan when there is no positive.
    """
    order, last_of_tie_N = _ranking(scores_N)
    weight_RN = np.ones((1, len(scores_N)))
    return float(_average_precisions(weight_RN, positive_N, order, last_of_tie_N)[0])


def choose_thresholds(
    scores_NL: NDArray[np.floating], targets_NL: NDArray[np.floating], aim: Aim | str = "f1"
) -> NDArray[np.float32]:
    """Return the threshold of every label, (L,); a score at or above it is a yes.

    "f1": the best F1; of equals, the one nearest 0.5. "precision >= p": the lowest that has it, so
    that recall is as high as can be, or the most precise if none has. "recall >= r": the highest
    that has it. Thresholds lie halfway between two scores that occur. Choose them on scores of
    pictures that the model was not fitted on. A label without a reviewed positive gets 0.5.
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
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))  # cuts fall between ties
    true_positives = hits[ends]
    precision = true_positives / (ends + 1)
    recall = true_positives / hits[-1]
    upper, lower = scores[ends], np.append(scores[ends[1:]], np.float32(0))
    middle = (upper + lower) / 2
    cuts = np.where(middle > lower, middle, upper)  # two neighbours of float32 have no middle
    if aim.kind == "precision":
        good = precision >= min(aim.floor, precision.max())
        return float(cuts[good].min())
    if aim.kind == "recall":
        return float(cuts[recall >= aim.floor].max())
    f1 = 2 * true_positives / (ends + 1 + hits[-1])
    best = cuts[f1 >= f1.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def evaluate(
    scores_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    thresholds: NDArray[np.floating] | float,
    *,
    labels: Sequence[str],
    groups: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> Evaluation:
    """Return every label's precision, recall, F1 and average precision, with their intervals.

    `thresholds` is one number, one a label (L,), or one an answer (N, L) when they were
    cross-fitted; then `LabelMetrics.threshold` is their median. Where nothing is answered yes,
    precision is 0 with the interval [0, 1], as scikit-learn has it with `zero_division=0`. A label
    without reviewed positives has no recall: its value is 0 within [0, 1], too.
    """
    thresholds_NL = np.broadcast_to(np.asarray(thresholds, np.float32), scores_NL.shape)
    counts_NL3 = _confusion(scores_NL, targets_NL, thresholds_NL)
    group_N, weight_RG = _resample_groups(groups, seed, resamples)
    counts_RL3 = _drawn_counts(counts_NL3, group_N, weight_RG)
    metrics = []
    for column, label in enumerate(labels):
        reviewed = ~np.isnan(targets_NL[:, column])
        positive = targets_NL[:, column] == 1
        told = counts_NL3[:, column]
        tp, fp, fn = told.sum(0)
        trials = {
            "precision": _groups_in(group_N, told[:, 0] + told[:, 1] > 0),
            "recall": _groups_in(group_N, positive),
            "f1": _groups_in(group_N, told.sum(1) > 0),
        }
        drawn = counts_RL3[:, column]
        metrics.append(
            LabelMetrics(
                label=label,
                positives=int(positive.sum()),
                negatives=int((reviewed & ~positive).sum()),
                threshold=float(np.median(thresholds_NL[:, column])),
                precision=_proportion(
                    float(_ratio(tp, tp + fp)),
                    _ratio(drawn[:, 0], drawn[:, 0] + drawn[:, 1]),
                    trials["precision"],
                ),
                recall=_proportion(
                    float(_ratio(tp, tp + fn)),
                    _ratio(drawn[:, 0], drawn[:, 0] + drawn[:, 2]),
                    trials["recall"],
                ),
                f1=_f1_from_jaccard(
                    _proportion(
                        float(_ratio(tp, tp + fp + fn)),
                        _ratio(drawn[:, 0], drawn.sum(1)),
                        trials["f1"],
                    )
                ),
                average_precision=_average_precision_interval(
                    scores_NL[reviewed, column].astype(np.float64),
                    positive[reviewed],
                    group_N[reviewed],
                    weight_RG,
                ),
            )
        )
    return Evaluation(labels=tuple(metrics), macro_f1=_macro_f1(metrics, counts_RL3))


def paired_difference(
    challenger_NL: NDArray[np.floating],
    champion_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    *,
    challenger_thresholds: NDArray[np.floating] | float,
    champion_thresholds: NDArray[np.floating] | float,
    groups: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """Return the macro F1 of the challenger less that of the champion, on the same pictures.

    Both are judged on the same draws of groups, so that what is hard for both cancels out. Neither
    may have been fitted on these pictures. Thresholds as in `evaluate`.
    """
    if challenger_NL.shape != champion_NL.shape or challenger_NL.shape != targets_NL.shape:
        raise ValueError(
            f"scores {challenger_NL.shape} and {champion_NL.shape} "
            f"and targets {targets_NL.shape} are not of the same pictures"
        )
    group_N, weight_RG = _resample_groups(groups, seed, resamples)
    macro_R, whole = [], []
    for scores_NL, thresholds in (
        (challenger_NL, challenger_thresholds),
        (champion_NL, champion_thresholds),
    ):
        thresholds_NL = np.broadcast_to(np.asarray(thresholds, np.float32), scores_NL.shape)
        counts_NL3 = _confusion(scores_NL, targets_NL, thresholds_NL)
        macro_R.append(_f1(_drawn_counts(counts_NL3, group_N, weight_RG)).mean(1))
        whole.append(float(_f1(counts_NL3.sum(0)).mean()))
    low, high = np.quantile(macro_R[0] - macro_R[1], [0.025, 0.975])
    return Interval(value=whole[0] - whole[1], low=float(low), high=float(high))


def wilson(value: float, trials: float) -> Interval:
    """Return Wilson's score interval of a proportion `value` seen in `trials`; [0, 1] without any."""
    if trials == 0:
        return Interval(value=value, low=0.0, high=1.0)
    share = _Z95**2 / trials
    middle = (value + share / 2) / (1 + share)
    half = _Z95 * np.sqrt(value * (1 - value) / trials + share / (4 * trials)) / (1 + share)
    return Interval(
        value=value,
        low=min(value, max(0.0, float(middle - half))),
        high=max(value, min(1.0, float(middle + half))),
    )


def _confusion(
    scores_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    thresholds_NL: NDArray[np.float32],
) -> Floats:
    """Return whether each answer is a true positive, a false positive, a false negative (N, L, 3)."""
    yes = scores_NL.astype(np.float32) >= thresholds_NL
    true, false = targets_NL == 1, targets_NL == 0  # an unreviewed answer is neither
    return np.stack([yes & true, yes & false, ~yes & true], axis=2).astype(np.float64)


def _resample_groups(
    groups: Sequence[str], seed: int, resamples: int
) -> tuple[NDArray[np.intp], Floats]:
    """Return the group number of each row (N,), and how often each draw holds each group (R, G)."""
    if not groups:
        raise ValueError("there is no picture to judge by")
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group_N.max()) + 1
    rng = np.random.default_rng(seed)
    draws = min(resamples, max(_ENOUGH_DRAWS, _MAX_CELLS // number))
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return group_N, drawn.astype(np.float64)


def _drawn_counts(counts_NL3: Floats, group_N: NDArray[np.intp], weight_RG: Floats) -> Floats:
    """Return true positives, false positives, false negatives of every draw (R, L, 3)."""
    counts_GL3 = np.zeros((weight_RG.shape[1], *counts_NL3.shape[1:]))
    np.add.at(counts_GL3, group_N, counts_NL3)
    drawn = weight_RG @ counts_GL3.reshape(len(counts_GL3), -1)
    return drawn.reshape(len(weight_RG), *counts_NL3.shape[1:])


def _groups_in(group_N: NDArray[np.intp], chosen_N: NDArray[np.bool_]) -> int:
    return len(np.unique(group_N[chosen_N]))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, and 0 where the whole is 0."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return ratio


def _f1(counts_L3: Floats) -> Floats:
    """Return F1 from counts of true positives, false positives, false negatives in the last axis."""
    tp, fp, fn = np.moveaxis(counts_L3, -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _proportion(value: float, drawn_R: Floats, trials: int) -> Interval:
    """Return Wilson's interval for as many independent trials as the bootstrap's spread is worth.

    `trials` are the groups that were counted; it stands alone where they are tiny or where the
    draws do not differ.
    """
    variance = float(np.var(drawn_R))
    worth = value * (1 - value) / variance if variance > 0 else 0.0
    if trials < _TINY or worth == 0:
        worth = float(trials)
    return wilson(value, worth)


def _f1_from_jaccard(jaccard: Interval) -> Interval:
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Interval(value=value, low=low, high=high)


def _average_precision_interval(
    scores_N: Floats,
    positive_N: NDArray[np.bool_],
    group_N: NDArray[np.intp],
    weight_RG: Floats,
) -> Interval:
    if not positive_N.any():
        return Interval(value=0.0, low=0.0, high=1.0)
    order, last_of_tie_N = _ranking(scores_N)
    # Each draw is a walk along the ranking: of many pictures, only as many as a spread needs.
    draws = max(_ENOUGH_DRAWS, 2_000_000 // len(scores_N))
    chunk = max(1, 2_000_000 // len(scores_N))
    drawn = np.concatenate(
        [
            _average_precisions(weight_DG[:, group_N], positive_N, order, last_of_tie_N)
            for weight_DG in (
                weight_RG[start : min(start + chunk, draws)]
                for start in range(0, min(draws, len(weight_RG)), chunk)
            )
        ]
    )
    drawn = drawn[~np.isnan(drawn)]  # a draw without a positive has no average precision
    value = average_precision(scores_N, positive_N)
    return _proportion(value, drawn, _groups_in(group_N, positive_N))


def _ranking(scores_N: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order of falling score, and for each place the last place of the same score."""
    order = np.argsort(-scores_N, kind="stable")
    ranked = -scores_N[order]
    return order, np.searchsorted(ranked, ranked, side="right") - 1


def _average_precisions(
    weight_RN: Floats,
    positive_N: NDArray[np.bool_],
    order: NDArray[np.intp],
    last_of_tie_N: NDArray[np.intp],
) -> Floats:
    """Return the average precision (R,) of rows that count `weight_RN` times."""
    ranked_RN = weight_RN[:, order]
    hit_RN = ranked_RN * positive_N[order]
    precision_RN = _ratio(
        np.cumsum(hit_RN, axis=1)[:, last_of_tie_N], np.cumsum(ranked_RN, axis=1)[:, last_of_tie_N]
    )
    positives_R = hit_RN.sum(1)
    summed_R = (hit_RN * precision_RN).sum(1)
    average_R: Floats = np.divide(
        summed_R, positives_R, out=np.full(len(summed_R), np.nan), where=positives_R > 0
    )
    return average_R


def _macro_f1(metrics: Sequence[LabelMetrics], counts_RL3: Floats) -> Interval:
    """Return the mean F1 with the wider, on each side, of two intervals.

    The bootstrap sees that labels share pictures but is too narrow on tiny counts; the labels' own
    intervals, combined as for independent means (MOVER: Zou and Donner, 2008), are not.
    """
    f1 = [label.f1 for label in metrics]
    value = float(np.mean([i.value for i in f1]))
    low, high = np.quantile(_f1(counts_RL3).mean(1), [0.025, 0.975])
    below = float(np.sqrt(sum((i.value - i.low) ** 2 for i in f1))) / len(f1)
    above = float(np.sqrt(sum((i.high - i.value) ** 2 for i in f1))) / len(f1)
    return Interval(
        value=value, low=min(float(low), value - below), high=max(float(high), value + above)
    )
