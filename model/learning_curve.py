"""How much better a head would be with more pictures, from fits to parts of those there are.

Shapes: N examples, D embedding, L labels, S shares, R repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.classifier import FittingProblem, Floats, Strength
from model.data import grouped_folds
from model.intervals import Interval
from model.ranking import average_precision

_SHARES = (0.4, 0.6, 0.8, 1.0)
_MOST = 4_000  # examples; more only repeat what these say
_FOLDS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearningCurve:
    """One label's mean number of positives fitted on (S,), and what new pictures showed (R, S)."""

    label: str
    positives_S: Floats
    recall_RS: Floats
    average_precision_RS: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What `more` positives (and negatives in proportion) would do to recall, at a score of 0.5."""

    label: str
    more: int
    now: float
    then: Interval


def learning_curves(
    embeddings_ND: NDArray[np.float32],
    targets_NL: NDArray[np.float32],
    *,
    labels: Sequence[str],
    groups: Sequence[str],
    strengths: Sequence[Strength],
    text_LD: NDArray[np.float32] | None,
    seed: int,
    repeats: int = 8,
) -> tuple[LearningCurve, ...]:
    """Return the curve of every label: shares of two thirds of the kin, judged on the last third.

    `strengths` are the labels' own, as the model has them. Needs three groups or more.
    """
    if len(targets_NL) > _MOST:
        kept = np.sort(np.random.default_rng(seed).permutation(len(targets_NL))[:_MOST])
        embeddings_ND, targets_NL = embeddings_ND[kept], targets_NL[kept]
        groups = [groups[row] for row in kept]
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    shape = (repeats, len(_SHARES), len(labels))
    positives, recall, precision = np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan)
    for repeat in range(repeats):
        fold_N = grouped_folds(targets_NL, groups, folds=_FOLDS, seed=seed + repeat)
        pool_N, out_N = fold_N != 0, fold_N == 0
        rank_G = np.random.default_rng(seed + repeat).permutation(int(group_N.max()) + 1)
        rank_N = rank_G[group_N]
        for at, share in enumerate(_SHARES):
            part_N = pool_N & (rank_N < np.quantile(rank_N[pool_N], share) + 1e-9)
            problem = FittingProblem.of(embeddings_ND[part_N], targets_NL[part_N], text_LD)
            weight_LD, bias_L = problem.solve_each(strengths)
            logits_NL = embeddings_ND[out_N] @ weight_LD.T + bias_L
            positives[repeat, at] = (targets_NL[part_N] == 1).sum(0)
            for column in range(len(labels)):
                target_N = targets_NL[out_N, column]
                reviewed_N = ~np.isnan(target_N)
                positive_N = target_N[reviewed_N] == 1
                if positive_N.any():
                    logits_N = logits_NL[reviewed_N, column]
                    recall[repeat, at, column] = (logits_N[positive_N] >= 0).mean()
                    precision[repeat, at, column] = average_precision(logits_N, positive_N)
    return tuple(
        LearningCurve(
            label=label,
            positives_S=positives[:, :, column].mean(0),
            recall_RS=recall[:, :, column],
            average_precision_RS=precision[:, :, column],
        )
        for column, label in enumerate(labels)
    )


def forecast(curve: LearningCurve, positives: int, more: int) -> Forecast | None:
    """Return the recall to expect of `more` positives beyond `positives`; None if nothing is known.

    Misses fall as a power of the number of pictures (Hestness et al. 2017): in each repeat a line
    through the logarithms is carried on, never upward. The interval is that of the repeats, which
    differ in what is fitted on and in what is judged on.
    """
    kept_RS = curve.recall_RS[~np.isnan(curve.recall_RS).any(1)]
    count_S = curve.positives_S
    if len(kept_RS) < 3 or count_S[0] < 1 or np.ptp(count_S) == 0:
        return None
    # Half a picture of doubt: without it a repeat that misses none would promise perfection.
    doubt = 0.5 / max(count_S[-1], 1)
    miss_RS = np.log(1 - kept_RS + doubt)
    x_S = np.log(count_S) - np.log(count_S).mean()
    slope = min(0.0, float((miss_RS * x_S).sum() / (len(kept_RS) * (x_S**2).sum())))
    now_R = kept_RS[:, -2:].mean(1)
    change = (positives + more) / positives
    then_R = 1 - (1 - now_R + doubt) * change**slope + doubt
    each_R = np.clip((miss_RS * x_S).sum(1) / (x_S**2).sum(), -1, 0)
    spread_R = np.clip(1 - (1 - now_R + doubt) * change**each_R + doubt, 0, 1)
    then = float(np.clip(then_R.mean(), 0, 1))
    half = 2 * float(spread_R.std(ddof=1))
    return Forecast(
        label=curve.label,
        more=more,
        now=float(now_R.mean()),
        then=Interval(value=then, low=max(0.0, then - half), high=min(1.0, then + half)),
    )
