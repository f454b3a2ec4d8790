"""Scores into probabilities: a scale and an offset per label, from a prior and from decisions.

    p = low + (1 - low - high) * sigmoid(scale * margin + offset)

Platt scaling (Platt 1999) with rates of exceptions, `low` for pictures that have the label and do
not look like it to CLIP and `high` the other way round: without them a few such pictures flatten
the whole curve (on `fruit_multilabel` and `hymenoptera`, model/NOTES.md). Guards against few and
one-sided decisions: the targets are Platt's own, (yes + 1) / (yes + 2) and 1 / (no + 2), so that
answers all alike do not drive a probability to 0 or 1; all four numbers are pulled towards a prior,
in units of how the margins of the project's pictures spread, because CLIPs differ tenfold in that;
and the scale stays above 0, so decisions never turn the ranking round. Which pictures were decided
on may depend on their margins (the highest first, the least sure first): the fit is conditional on
them.

Shapes: N decisions, P pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

# In units of the margins' spread: what a good zero-shot label does, and how little that is relied
# upon (deviations of the log of the slope, and of the log odds).
_SLOPE = 2.5
_LOG_SLOPE_DEVIATION = 1.0
_OFFSET_DEVIATION = 3.0
_MOST_EXCEPTIONS = 0.3
# Log odds within _MOST_EXCEPTIONS, for `low` and `high`: 4 and 1 in 100. CLIP misses what is there
# more often than it is sure of what is not.
_EXCEPTIONS = (-2.0, -3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A label's curve: `scale` above 0, `offset` in log odds, `low` and `high` in [0, 0.3].

    `decisions` is how many of them it was fitted on.
    """

    scale: float
    offset: float
    low: float = 0.0
    high: float = 0.0
    decisions: int = 0

    def probabilities(self, margin_P: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return probabilities, float32 (P,), increasing with the margin."""
        logit_P = self.scale * margin_P.astype(np.float64) + self.offset
        return (self.low + (1 - self.low - self.high) * _sigmoid(logit_P)).astype(np.float32)


def fit_calibration(
    prior: Calibration,
    margin_P: NDArray[np.floating[Any]],
    decided_N: NDArray[np.floating[Any]],
    yes_N: NDArray[np.bool_],
) -> Calibration:
    """Return the calibration that decisions and the prior make likely; `prior` without decisions.

    `margin_P` are the margins of all pictures of the project, decided or not; `decided_N` those of
    the decided ones, and `yes_N` the answers. The same input gives the same result.
    """
    if len(decided_N) == 0:
        return prior
    centre, spread = float(np.mean(margin_P)), max(float(np.std(margin_P)), 1e-6)
    z_N = (decided_N.astype(np.float64) - centre) / spread
    yes = int(yes_N.sum())
    target_N = np.where(yes_N, (yes + 1) / (yes + 2), 1 / (len(yes_N) - yes + 2))
    # Where the prior itself would put an average picture, kept within what odds in life are.
    usual = float(np.clip(prior.scale * centre + prior.offset, -_OFFSET_DEVIATION, 0.0))

    start = np.array([np.log(_SLOPE), usual, *_EXCEPTIONS])
    deviation = np.array([_LOG_SLOPE_DEVIATION, _OFFSET_DEVIATION, 1.0, 1.0])

    def loss(parameters: NDArray[np.float64]) -> float:
        low, high = _MOST_EXCEPTIONS * _sigmoid(parameters[2:])
        answer_N = _sigmoid(np.exp(parameters[0]) * z_N + parameters[1])
        p_N = np.clip(low + (1 - low - high) * answer_N, 1e-9, 1 - 1e-9)
        misfit = -np.sum(target_N * np.log(p_N) + (1 - target_N) * np.log1p(-p_N))
        return float(misfit + 0.5 * np.sum(((parameters - start) / deviation) ** 2))

    found = minimize(loss, start, method="L-BFGS-B").x
    slope, level = float(np.exp(found[0])), float(found[1])
    low, high = _MOST_EXCEPTIONS * _sigmoid(found[2:])
    return Calibration(
        scale=slope / spread,
        offset=level - slope * centre / spread,
        low=float(low),
        high=float(high),
        decisions=len(decided_N),
    )


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logit))  # without overflow
    return value


def expected_calibration_error(
    probability_N: NDArray[np.floating[Any]], yes_N: NDArray[np.bool_], *, bins: int = 10
) -> float:
    """Return the mean distance, in [0, 1], between how sure and how often right, over equal bins.

    As Guo et al. 2017, section 2, for a yes or no question: the mean probability of a bin against
    its share of yes, weighted by how many fall into it.
    """
    bin_N = np.minimum((probability_N * bins).astype(int), bins - 1)
    size = np.bincount(bin_N, minlength=bins)
    gap = np.bincount(bin_N, weights=probability_N - yes_N, minlength=bins)
    return float(np.abs(gap).sum() / size.sum())
