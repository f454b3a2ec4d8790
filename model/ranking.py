"""How well scores rank and how far they can be read as probabilities: what no threshold changes.

Scores are calibrated as if yes and no were equally common, so calibration is judged like that: the
reviewed yes weigh a half in all, the reviewed no the other half.

Shapes: N examples, R draws, G groups of kin, B bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.intervals import ENOUGH_DRAWS, Draws, Floats, Interval, area, mean_of_draws

_BINS = 10
_NO_NOISE = 1e-9  # as a part of what is seen: nothing is there to be inferred
_LUCK = 0.05
_NEARLY_NORMAL = 1000.0  # of a chi-square's mean, or where it is asked for
_MAX_CELLS = 2_000_000  # draw x example: what is held at once, 16 MiB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """One label's measures, and the values of the draws behind the first two (nan where undefined)."""

    average_precision: Interval
    roc_auc: Interval
    calibration_error: Interval
    average_precision_R: Floats
    roc_auc_R: Floats


def average_precision(scores_N: Floats, positive_N: NDArray[np.bool_]) -> float:
    """Return the mean, over positives, of the precision at each one's score; ties share theirs.

    This is scikit-learn's `average_precision_score`. nan when there is no positive.
    """
    ranked = _Ranked.of(scores_N, positive_N)
    return float(ranked.measure(np.ones((1, len(scores_N))))[0][0])


def roc_auc(scores_N: Floats, positive_N: NDArray[np.bool_]) -> float:
    """Return how often a positive scores above a negative; ties count a half.

    This is scikit-learn's `roc_auc_score`. nan when one of the answers is missing.
    """
    ranked = _Ranked.of(scores_N, positive_N)
    return float(ranked.measure(np.ones((1, len(scores_N))))[1][0])


def measure_ranking(scores_N: Floats, positive_N: NDArray[np.bool_], draws: Draws) -> Ranking:
    """Return the measures of one label's reviewed pictures, row n of which is row n of `draws`.

    Without a positive, average precision is 0 within [0, 1], and ROC AUC one half within [0, 1]
    when either answer is missing; the calibration error is then 0 within [0, 1].
    """
    nothing = np.full(len(draws.weight_RG), np.nan)
    if not positive_N.any() or positive_N.all():
        known = float(positive_N.any())
        return Ranking(
            average_precision=Interval(value=known, low=0.0, high=1.0),
            roc_auc=Interval(value=0.5, low=0.0, high=1.0),
            calibration_error=Interval(value=0.0, low=0.0, high=1.0),
            average_precision_R=nothing,
            roc_auc_R=nothing,
        )
    ranked = _Ranked.of(scores_N, positive_N)
    # Each draw is a walk along the ranking: of many pictures, only as many as a spread needs.
    most = min(len(draws.weight_RG), max(ENOUGH_DRAWS, _MAX_CELLS // len(scores_N)))
    chunk = max(1, _MAX_CELLS // len(scores_N))
    drawn_2R = np.concatenate(
        [
            np.stack(
                ranked.measure(draws.weight_RG[start : min(start + chunk, most), draws.group_N])
            )
            for start in range(0, most, chunk)
        ],
        axis=1,
    )
    value, auc = (float(each[0]) for each in ranked.measure(np.ones((1, len(scores_N)))))
    average_R = drawn_2R[0, ~np.isnan(drawn_2R[0])]
    positives, negatives = draws.groups_in(positive_N), draws.groups_in(~positive_N)
    variance = _auc_variance(ranked, auc, draws, positives, negatives)
    return Ranking(
        average_precision=mean_of_draws(value, average_R, positives),
        roc_auc=area(auc, variance, positives, negatives),
        calibration_error=_calibration_error(scores_N, positive_N, draws),
        average_precision_R=drawn_2R[0],
        roc_auc_R=drawn_2R[1],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """The order of falling score, and where ties end and begin in it."""

    order: NDArray[np.intp]
    last_of_tie_N: NDArray[np.intp] | None  # None without ties
    first_of_tie_N: NDArray[np.intp] | None
    positive_N: NDArray[np.bool_]  # in that order

    @classmethod
    def of(cls, scores_N: Floats, positive_N: NDArray[np.bool_]) -> _Ranked:
        order = np.argsort(-scores_N, kind="stable")
        ranked = -scores_N[order]
        last = np.searchsorted(ranked, ranked, side="right") - 1
        if np.array_equal(last, np.arange(len(last))):
            return cls(order, None, None, positive_N[order])
        return cls(order, last, np.searchsorted(ranked, ranked, side="left"), positive_N[order])

    def placements(self) -> Floats:
        """Return the share of the other answer that each picture is on the right side of (N,)."""
        yes_N = self.positive_N.astype(float)
        hits_N, misses_N = (self._above(np.cumsum(each)[None])[0] for each in (yes_N, 1 - yes_N))
        placement_N: Floats = np.where(
            self.positive_N, 1 - misses_N / (1 - yes_N).sum(), hits_N / yes_N.sum()
        )
        return placement_N

    def measure(self, weight_RN: Floats) -> tuple[Floats, Floats]:
        """Return average precision and ROC AUC (R,) of rows that count `weight_RN` times."""
        ranked_RN = weight_RN[:, self.order]
        hit_RN = ranked_RN * self.positive_N
        seen_RN, hits_RN = np.cumsum(ranked_RN, axis=1), np.cumsum(hit_RN, axis=1)
        total_R, positives_R = seen_RN[:, -1].copy(), hits_RN[:, -1].copy()
        above_RN = self._above(seen_RN - hits_RN)
        if self.last_of_tie_N is not None:
            seen_RN, hits_RN = seen_RN[:, self.last_of_tie_N], hits_RN[:, self.last_of_tie_N]
        hits_RN /= np.where(seen_RN > 0, seen_RN, 1)
        precision_R = np.einsum("rn,rn->r", hit_RN, hits_RN)
        inversions_R = np.einsum("rn,rn->r", hit_RN, above_RN)
        pairs_R = positives_R * (total_R - positives_R)
        return (
            _or_nan(precision_R, positives_R),
            1 - _or_nan(inversions_R, pairs_R),
        )

    def _above(self, other_RN: Floats) -> Floats:
        """Return how many of the other answer are above, from their running sums; ties count a half."""
        if self.last_of_tie_N is None or self.first_of_tie_N is None:
            return other_RN  # at an answer without ties, all others so far are above it
        before = np.maximum(self.first_of_tie_N - 1, 0)
        above_RN: Floats = np.where(self.first_of_tie_N > 0, other_RN[:, before], 0)
        return (above_RN + other_RN[:, self.last_of_tie_N]) / 2


def _auc_variance(
    ranked: _Ranked, auc: float, draws: Draws, positives: int, negatives: int
) -> float:
    """Return the variance of ROC AUC (DeLong et al. 1988), kin taken together (Obuchowski 1997)."""
    of_yes, of_no = (
        np.sqrt(groups / max(groups - 1, 1)) / answers
        for groups, answers in (
            (positives, ranked.positive_N.sum()),
            (negatives, (~ranked.positive_N).sum()),
        )
    )
    apart_N = (ranked.placements() - auc) * np.where(ranked.positive_N, of_yes, of_no)
    return float((np.bincount(draws.group_N[ranked.order], apart_N) ** 2).sum())


def _or_nan(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """The reliability diagram: per bin the mean score, the share of yes, and its balanced weight."""

    score_B: Floats
    share_B: Floats
    weight_B: Floats


def reliability(scores_N: Floats, positive_N: NDArray[np.bool_]) -> Reliability:
    """Return the diagram of reviewed pictures, yes and no weighing a half each, in ten equal bins."""
    sums_B4 = _binned(scores_N, positive_N).sum(0)
    return Reliability(**_shares(sums_B4))


def _binned(scores_N: Floats, positive_N: NDArray[np.bool_]) -> Floats:
    """Return yes, no, score of a yes, score of a no, of each picture in its bin, (N, B, 4)."""
    bin_N = np.minimum((scores_N * _BINS).astype(int), _BINS - 1)
    counts = np.zeros((len(scores_N), _BINS, 4))
    rows = np.arange(len(scores_N))
    counts[rows, bin_N, 0], counts[rows, bin_N, 1] = positive_N, ~positive_N
    counts[rows, bin_N, 2], counts[rows, bin_N, 3] = scores_N * positive_N, scores_N * ~positive_N
    return counts


def _shares(sums_B4: Floats) -> dict[str, Floats]:
    totals = sums_B4[..., :2].sum(-2, keepdims=True)
    per = 0.5 / np.where(totals > 0, totals, 1)
    yes, no = np.moveaxis(sums_B4[..., :2] * per, -1, 0)
    scores = (sums_B4[..., 2:] * per).sum(-1)
    weight = yes + no
    safe = np.where(weight > 0, weight, 1)
    return {"score_B": scores / safe, "share_B": yes / safe, "weight_B": weight}


def _calibration_error(scores_N: Floats, positive_N: NDArray[np.bool_], draws: Draws) -> Interval:
    """Return the root mean square calibration error in ten equal bins, less its bias.

    A handful of pictures in a bin looks uncalibrated by chance alone. The mean of squares is too
    large by their variance (Kumar, Liang and Ma 2019). The bootstrap over groups shows it, n / (n - 1)
    times too small in a bin of n groups; of fewer than two, as many as two are taken. The mean of
    squares is then about a multiple of a noncentral chi-square with two moments as estimated, and the
    ends are those true errors that would show so much, or so little, once in 40 times. With fewer
    than two of the rarer answer a bin, many bins show nothing of it: then the lower end is 0, for
    nothing speaks against scores that are right.
    """
    sums_GB4 = draws.by_group(_binned(scores_N, positive_N))
    gap_B = _gaps(sums_GB4.sum(0))
    apart_RB = _gaps(draws.drawn(sums_GB4))
    apart_RB -= apart_RB.mean(0)
    covariance_BB = apart_RB.T @ apart_RB / len(apart_RB)
    crowd_B = np.minimum(_concentration(sums_GB4), 0.5)  # 1 / n
    # Unbiased for a variance is n / (n - 1), for its square no more than n^2 / (n^2 - 1).
    fair_BB = covariance_BB / np.sqrt(np.outer(1 - crowd_B, 1 - crowd_B))
    squares_BB = covariance_BB**2 / np.sqrt(np.outer(1 - crowd_B**2, 1 - crowd_B**2))
    plain, bias = float(gap_B @ gap_B), float(np.trace(fair_BB))
    low, high = _true_squares(plain, bias, float(squares_BB.sum()), float(gap_B @ fair_BB @ gap_B))
    if min(draws.groups_in(positive_N), draws.groups_in(~positive_N)) < 2 * _BINS:
        low = 0.0
    square = max(plain - bias, 0.0)
    low, value, high = np.sqrt([min(low, square), square, max(high, square)]).tolist()
    return Interval(value=value, low=low, high=high)


def _true_squares(plain: float, bias: float, squares: float, along: float) -> tuple[float, float]:
    """Return the least and the greatest true mean of squares of which `plain` is no surprise.

    Its mean is the true one and the `bias`; its variance that of noise alone, 2 `squares`, and that
    along the gaps, 4 `along`, in proportion to how large they truly are. Less than noise alone would
    show but for once in 20 times is luck, and read as so much: no luck proves that the error is 0.
    """
    if bias <= _NO_NOISE * plain:
        return plain, plain
    from scipy.optimize import brentq
    from scipy.special import chdtri

    noise = squares / bias
    seen = max(plain, noise * float(chdtri(bias / noise, 1 - _LUCK)))

    def below(true: float, chance: float) -> float:
        scale = (squares + 2 * true * along / seen) / (bias + 2 * true)
        return _noncentral_below(seen / scale, bias / scale, true / scale) - chance

    def true_at(chance: float) -> float:
        if below(0, chance) <= 0:
            return 0.0
        return 1.0 if below(1, chance) >= 0 else float(brentq(below, 0, 1, (chance,)))

    return true_at(0.975), true_at(0.025)


def _noncentral_below(value: float, freedom: float, noncentrality: float) -> float:
    """Return how much of a noncentral chi-square lies below `value`."""
    from scipy.special import chndtr, ndtr

    if max(value, freedom + noncentrality) < _NEARLY_NORMAL:
        return float(chndtr(value, freedom, noncentrality))
    # There scipy's sum has no end, and nan for it; Sankaran's cube root is right to 1 in 10,000.
    mean, twice = freedom + noncentrality, freedom + 2 * noncentrality
    power = 1 - 2 * mean * (freedom + 3 * noncentrality) / (3 * twice**2)
    relative = twice / mean**2
    middle = 1 + power * (power - 1) * relative
    return float(ndtr(((value / mean) ** power - middle) / (power * math.sqrt(2 * relative))))


def _concentration(sums_GB4: Floats) -> Floats:
    """Return the sum of squares of the groups' shares of each bin (B,): 1 / n of n equal ones."""
    totals = sums_GB4[..., :2].sum((0, 1))
    weight_GB = (sums_GB4[..., :2] * (0.5 / totals)).sum(-1)
    weight_B = weight_GB.sum(0)
    share: Floats = (weight_GB**2).sum(0) / np.where(weight_B > 0, weight_B, 1) ** 2
    return share


def _gaps(sums_B4: Floats) -> Floats:
    """Return by how much the mean score of each bin is too large, by the root of its weight."""
    shares = _shares(sums_B4)
    gap: Floats = np.sqrt(shares["weight_B"]) * (shares["score_B"] - shares["share_B"])
    return gap
