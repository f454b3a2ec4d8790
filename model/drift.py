"""Whether pictures that come now are other than those that a model was trained on.

Two samples of unit embeddings are compared by their maximum mean discrepancy under a Gaussian
kernel as wide as the median distance (Gretton, Borgwardt, Rasch, Scholkopf and Smola, A Kernel
Two-Sample Test, JMLR 2012: unbiased squared MMD, equation 3), and by chance: how often does a random
division of the same pictures give as large a one? Scores of one label are compared by the
two-sample Kolmogorov-Smirnov test, rates of rejection by Fisher's exact test. Where several tests
are made, `adjusted` keeps the chance of any false alarm (Holm, 1979).

Shapes: N pictures now, M in training, T = N + M, P permutations, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, ks_2samp

MIN_PICTURES = 20
"""With fewer on a side nothing is tested: hardly any change could be told from chance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far two samples are apart, in the measure's own unit, and how likely by chance alone."""

    value: float
    p: float


def mmd(
    now_ND: NDArray[np.float32],
    then_MD: NDArray[np.float32],
    *,
    seed: int = 0,
    permutations: int = 500,
) -> Shift:
    """Return the unbiased squared MMD of two samples of unit rows, and its p by permutation.

    p is (1 + larger) / (1 + permutations): never 0, and below any level no more often than that
    level when nothing has changed. ValueError with fewer than two rows in either. 500 against 500
    take about half a second.
    """
    if len(now_ND) < 2 or len(then_MD) < 2:
        raise ValueError(f"two pictures at least on each side, not {len(now_ND)}, {len(then_MD)}")
    kernel_TT = _kernel(np.concatenate([now_ND, then_MD]))
    number, total = len(now_ND), len(kernel_TT)
    rng = np.random.default_rng(seed)
    # Row 0 is the division as it is; the others are drawn.
    now_PT = np.zeros((permutations + 1, total))
    now_PT[0, :number] = 1
    now_PT[1:] = rng.permuted(np.broadcast_to(now_PT[0], (permutations, total)), axis=1)
    within_PT = now_PT @ kernel_TT
    same_now_P = (within_PT * now_PT).sum(1)
    across_P = within_PT.sum(1) - same_now_P
    same_then_P = kernel_TT.sum() - same_now_P - 2 * across_P
    rest = total - number
    mmd_P = (
        same_now_P / (number * (number - 1))
        + same_then_P / (rest * (rest - 1))
        - 2 * across_P / (number * rest)
    )
    # Two sums of the same numbers in another order differ by rounding: those count as equal.
    larger = int((mmd_P[1:] >= mmd_P[0] - 1e-12).sum())
    return Shift(value=float(mmd_P[0]), p=(1 + larger) / (1 + permutations))


def _kernel(rows_TD: NDArray[np.float32]) -> Floats:
    """Return exp(-distance^2 / (2 median^2)) of all pairs, 0 on the diagonal (T, T)."""
    squared_TT = np.clip(2 - 2 * (rows_TD @ rows_TD.T).astype(np.float64), 0, None)
    width = float(np.median(squared_TT[np.triu_indices(len(squared_TT), 1)]))
    kernel_TT = np.exp(-squared_TT / (2 * max(width, 1e-12)))
    np.fill_diagonal(kernel_TT, 0)
    return kernel_TT


def score_shift(now_N: NDArray[np.floating], then_M: NDArray[np.floating]) -> Shift:
    """Return the largest distance of two samples' distributions, in [0, 1], and its p."""
    found = ks_2samp(now_N, then_M)
    return Shift(value=float(found.statistic), p=float(found.pvalue))


def rate_shift(now: tuple[int, int], then: tuple[int, int]) -> Shift:
    """Return by how much a rate has changed, and its p; each is (how many, of how many)."""
    (count, of), (before, of_before) = now, then
    table = [[count, of - count], [before, of_before - before]]
    change = count / max(of, 1) - before / max(of_before, 1)
    return Shift(value=change, p=float(fisher_exact(table).pvalue))


def adjusted(p: Sequence[float]) -> list[float]:
    """Return p-values for tests that are made together, in their order (Holm's step-down)."""
    found = [1.0] * len(p)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        found[index] = least
    return found


def furthest_out(
    now_ND: NDArray[np.float32], then_MD: NDArray[np.float32], count: int
) -> list[tuple[int, float]]:
    """Return rows of `now` that are least like anything in training, and 1 - the nearest cosine."""
    if not len(now_ND) or not len(then_MD):
        return []
    near_N = np.concatenate(
        [(part @ then_MD.T).max(1) for part in np.array_split(now_ND, len(now_ND) // 1024 + 1)]
    )
    order = np.argsort(near_N, kind="stable")[:count]
    return [(int(row), float(1 - near_N[row])) for row in order]
