"""How good a classifier is, with 95 % intervals (`model.intervals`).

Every function takes scores (N, L) in [0, 1] and targets (N, L): 1 yes, 0 no, nan unreviewed;
unreviewed answers take no part. `groups` names the kin group of each row: whole groups are drawn in
every bootstrap. F1 = 2J / (1 + J) gets its interval by way of the proportion J = TP / (TP + FP + FN).
Thresholds are taken as given.

Shapes: N examples, L labels, R draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.intervals import Draws, Floats, Interval, proportion
from model.ranking import Ranking, measure_ranking


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
    roc_auc: Interval
    calibration_error: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a model is: by label, and the unweighted means over the labels."""

    labels: tuple[LabelMetrics, ...]
    macro_f1: Interval
    macro_precision: Interval
    macro_recall: Interval
    mean_average_precision: Interval
    mean_roc_auc: Interval


def rank_labels(
    scores_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    *,
    groups: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> tuple[Ranking, ...]:
    """Return what no threshold changes, for `evaluate` to be called with several."""
    draws = Draws.of(groups, seed, resamples)
    rankings = []
    for scores_N, targets_N in zip(scores_NL.T, targets_NL.T, strict=True):
        reviewed = ~np.isnan(targets_N)
        rankings.append(
            measure_ranking(
                scores_N[reviewed].astype(np.float64),
                targets_N[reviewed] == 1,
                Draws(draws.group_N[reviewed], draws.weight_RG),
            )
        )
    return tuple(rankings)


def evaluate(
    scores_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    thresholds: NDArray[np.floating] | float,
    *,
    labels: Sequence[str],
    groups: Sequence[str],
    seed: int,
    resamples: int = 1000,
    rankings: Sequence[Ranking] | None = None,
) -> Evaluation:
    """Return every label's measures and their means, with their intervals.

    `thresholds` is one number, one a label (L,), or one an answer (N, L) when they were
    cross-fitted; then `LabelMetrics.threshold` is their median. Where nothing is answered yes,
    precision is 0 with the interval [0, 1], as scikit-learn has it with `zero_division=0`. A label
    without reviewed positives has no recall: its value is 0 within [0, 1], too. `rankings` are
    those of `rank_labels` for the same pictures and seed, measured here if they are not given.
    """
    if rankings is None:
        rankings = rank_labels(scores_NL, targets_NL, groups=groups, seed=seed, resamples=resamples)
    thresholds_NL = np.broadcast_to(np.asarray(thresholds, np.float32), scores_NL.shape)
    counts_NL3 = _confusion(scores_NL, targets_NL, thresholds_NL)
    draws = Draws.of(groups, seed, resamples)
    counts_GL3 = draws.by_group(counts_NL3)
    counts_RL3 = draws.drawn(counts_GL3)
    metrics = []
    for column, (label, ranking) in enumerate(zip(labels, rankings, strict=True)):
        reviewed = ~np.isnan(targets_NL[:, column])
        positive = targets_NL[:, column] == 1
        tp_G, fp_G, fn_G = counts_GL3[:, column].T
        metrics.append(
            LabelMetrics(
                label=label,
                positives=int(positive.sum()),
                negatives=int((reviewed & ~positive).sum()),
                threshold=float(np.median(thresholds_NL[:, column])),
                precision=proportion(tp_G, tp_G + fp_G),
                recall=proportion(tp_G, tp_G + fn_G),
                f1=_f1_from_jaccard(proportion(tp_G, tp_G + fp_G + fn_G)),
                average_precision=ranking.average_precision,
                roc_auc=ranking.roc_auc,
                calibration_error=ranking.calibration_error,
            )
        )
    average_RL = np.column_stack([each.average_precision_R for each in rankings])
    auc_RL = np.column_stack([each.roc_auc_R for each in rankings])
    return Evaluation(
        labels=tuple(metrics),
        macro_f1=_mean([each.f1 for each in metrics], _f1(counts_RL3)),
        macro_precision=_mean([each.precision for each in metrics], _precision(counts_RL3)),
        macro_recall=_mean([each.recall for each in metrics], _recall(counts_RL3)),
        mean_average_precision=_mean([each.average_precision for each in metrics], average_RL),
        mean_roc_auc=_mean([each.roc_auc for each in metrics], auc_RL),
    )


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
    draws = Draws.of(groups, seed, resamples)
    macro_R, whole = [], []
    for scores_NL, thresholds in (
        (challenger_NL, challenger_thresholds),
        (champion_NL, champion_thresholds),
    ):
        thresholds_NL = np.broadcast_to(np.asarray(thresholds, np.float32), scores_NL.shape)
        counts_NL3 = _confusion(scores_NL, targets_NL, thresholds_NL)
        macro_R.append(_f1(draws.drawn(draws.by_group(counts_NL3))).mean(1))
        whole.append(float(_f1(counts_NL3.sum(0)).mean()))
    low, high = np.quantile(macro_R[0] - macro_R[1], [0.025, 0.975])
    return Interval(value=whole[0] - whole[1], low=float(low), high=float(high))


def _confusion(
    scores_NL: NDArray[np.floating],
    targets_NL: NDArray[np.floating],
    thresholds_NL: NDArray[np.float32],
) -> Floats:
    """Return whether each answer is a true positive, a false positive, a false negative (N, L, 3)."""
    yes = scores_NL.astype(np.float32) >= thresholds_NL
    true, false = targets_NL == 1, targets_NL == 0  # an unreviewed answer is neither
    return np.stack([yes & true, yes & false, ~yes & true], axis=2).astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, and 0 where the whole is 0."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return ratio


def _f1(counts_L3: Floats) -> Floats:
    """Return F1 from counts of true positives, false positives, false negatives in the last axis."""
    tp, fp, fn = np.moveaxis(counts_L3, -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _precision(counts: Floats) -> Floats:
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 1])


def _recall(counts: Floats) -> Floats:
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 2])


def _f1_from_jaccard(jaccard: Interval) -> Interval:
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Interval(value=value, low=low, high=high)


def _mean(intervals: Sequence[Interval], drawn_RL: Floats) -> Interval:
    """Return the mean over labels with the wider, on each side, of two intervals.

    The bootstrap sees that labels share pictures but is too narrow on tiny counts; the labels' own
    intervals, combined as for independent means (MOVER: Zou and Donner, 2008), are not.
    """
    value = float(np.mean([i.value for i in intervals]))
    below = float(np.sqrt(sum((i.value - i.low) ** 2 for i in intervals))) / len(intervals)
    above = float(np.sqrt(sum((i.high - i.value) ** 2 for i in intervals))) / len(intervals)
    drawn_R = drawn_RL.mean(1)
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    low, high = np.quantile(drawn_R, [0.025, 0.975]) if len(drawn_R) else (value, value)
    return Interval(
        value=value, low=min(float(low), value - below), high=max(float(high), value + above)
    )
