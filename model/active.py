"""What to ask people next about one label: the pictures whose answers would teach it most.

A picture is worth the product of four things, each of which alone is known to fail: it ranks high
for the label (alone, all answers are yes), the model is in doubt about it (alone, all are of one
corner), nothing like it has been decided or picked (alone, outliers; Sener and Savarese, 2018),
and much of the pool is like it (alone, what is known already; Hacohen et al., 2022). Picks are made
greedily, one after the other, as each makes its neighbours worth less. Scores count by their rank,
since pre-labels of a new project are of no certain scale. Before any answer the first few are of
both ends: a likely yes and a likely no part the two, where prompts are wrong as well as where they
are right. tests/bench/active.py measured the rest.

Shapes: N pictures of the pool, M decided, C candidates, R a random part of the pool, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Why = Literal["unsure", "unlike what is decided", "typical"]

Floats = NDArray[np.float64]

MAX_CANDIDATES = 2_000
"""Among so many the variety is looked at, half of them drawn by lot: scores are blind to some."""

MAX_COMPARED = 2_000
"""So many decided pictures, and so many of the pool, are compared with; a random part of more."""

NEIGHBOURS = 10
"""By the mean cosine with so many of the nearest it is told whether much of the pool is alike."""

TYPICAL = 1.0
"""The power of that mean cosine."""

DOUBT_FLOOR = 0.3
"""What a picture about which the model is certain is still worth, beside 1 for one at 0.5."""

FIRST_OF_BOTH = 4
"""So many picks before any answer may be of the low end too; of a rare label more noes teach little."""

SURE_NO = 0.9
"""What the unlikeliest is worth among those, beside 1 for the likeliest."""

_LEAST = 1e-6  # keeps a product of factors above 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One picture to ask about. `index` is its row in the pool.

    `teaches` is above 0, higher first, and comparable within one call only.
    """

    index: int
    teaches: float
    why: Why


def choose(
    embeddings_ND: NDArray[np.float32],
    scores_N: NDArray[np.floating],
    *,
    decided_MD: NDArray[np.float32] | None = None,
    count: int,
    seed: int = 0,
) -> list[Pick]:
    """Return the `count` pictures of the pool to ask about, in the order in which to ask.

    `embeddings_ND` are unit rows, `scores_N` the probability of the label in [0, 1], nan where
    there is none; `decided_MD` the unit rows of what has been answered for this label. Fewer are
    returned when the pool is smaller. The same arguments give the same picks. ValueError is raised
    for shapes that do not go together.
    """
    if embeddings_ND.ndim != 2 or scores_N.shape != (len(embeddings_ND),):
        raise ValueError(
            f"expected a score for each of the embeddings {embeddings_ND.shape}, "
            f"got scores {scores_N.shape}"
        )
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")
    if count == 0 or len(embeddings_ND) == 0:
        return []
    rng = np.random.default_rng(seed)
    anything_decided = decided_MD is not None and len(decided_MD) > 0
    worth_N = _worth(scores_N, in_doubt=anything_decided)
    chosen_C = _candidates(worth_N, max(MAX_CANDIDATES, 2 * count), rng)
    candidates_CD = embeddings_ND[chosen_C]
    typical_C = _typical(candidates_CD, _some(embeddings_ND, rng)) ** TYPICAL
    worth_C = worth_N[chosen_C] * typical_C
    first_C = worth_C if anything_decided else _of_both_ends(worth_N[chosen_C]) * typical_C
    # The farthest that two unit vectors can be, as long as there is nothing to be far from.
    far_C = np.full(len(chosen_C), 2.0)
    if decided_MD is not None and anything_decided:
        far_C = 1 - (candidates_CD @ _some(decided_MD, rng).T).max(1).astype(np.float64)
    picks: list[Pick] = []
    left_C = np.ones(len(chosen_C), bool)
    far_median = float(np.median(far_C))
    for _ in range(min(count, len(chosen_C))):
        now_C = first_C if len(picks) < FIRST_OF_BOTH else worth_C
        teaches_C = np.where(left_C, now_C * far_C.clip(min=_LEAST), -1.0)
        best = int(teaches_C.argmax())
        why: Why = "unsure"
        if np.isnan(scores_N[chosen_C[best]]) or not anything_decided:
            why = "typical"
        elif far_C[best] > far_median:
            why = "unlike what is decided"
        picks.append(Pick(index=int(chosen_C[best]), teaches=float(teaches_C[best]), why=why))
        left_C[best] = False
        far_C = np.minimum(far_C, 1 - candidates_CD @ candidates_CD[best])
    return picks


def _worth(scores_N: NDArray[np.floating], *, in_doubt: bool) -> Floats:
    """Return what the scores alone make each picture worth, in (0, 1].

    Before anything is decided a score of 0.5 means nothing yet: the rank is all there is.
    """
    worth_N = np.full(len(scores_N), 0.5)  # without a score: the middle
    known_N = ~np.isnan(scores_N)
    scores_K = scores_N[known_N].astype(np.float64)
    rank_K = scores_K.argsort(kind="stable").argsort(kind="stable")
    share_K = (rank_K + 0.5) / max(len(scores_K), 1)
    if in_doubt:
        doubt_K = 1 - 2 * np.abs(scores_K - 0.5)
        share_K *= DOUBT_FLOOR + (1 - DOUBT_FLOOR) * doubt_K
    worth_N[known_N] = share_K
    return worth_N


def _of_both_ends(share_C: Floats) -> Floats:
    """Return what ranks are worth to the first few picks: much at both ends, least at a third.

    Not symmetric: a pool has more noes than yeses, which the rest of the picks meet anyway.
    """
    ends_C: Floats = np.maximum(share_C, SURE_NO * (1 - 2 * share_C))
    return ends_C


def _candidates(worth_N: Floats, limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows to choose from, in order: the worthiest, and as many of the rest by lot."""
    if len(worth_N) <= limit:
        return np.arange(len(worth_N))
    order_N = np.argpartition(-worth_N, limit // 2)
    drawn = rng.choice(order_N[limit // 2 :], limit - limit // 2, replace=False)
    return np.sort(np.concatenate([order_N[: limit // 2], drawn]))


def _some(rows_ND: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if len(rows_ND) <= MAX_COMPARED:
        return rows_ND
    return rows_ND[np.sort(rng.choice(len(rows_ND), MAX_COMPARED, replace=False))]


def _typical(candidates_CD: NDArray[np.float32], pool_RD: NDArray[np.float32]) -> Floats:
    """Return the mean cosine of each candidate with its nearest in the pool, above 0."""
    cosine_CR = candidates_CD @ pool_RD.T
    near = min(NEIGHBOURS, cosine_CR.shape[1])
    cosine_CR.partition(cosine_CR.shape[1] - near, axis=1)
    typical_C: Floats = cosine_CR[:, -near:].mean(1).clip(min=_LEAST).astype(np.float64)
    return typical_C
