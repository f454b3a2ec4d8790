"""Few-shot draws from the photographs, and the rivals on the same embeddings.

Shapes: N training pictures, M test pictures, D embedding, L labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from model.data import grouped_folds
from tests.bench.photographs import PhotoSet

SHOTS = (1, 2, 4, 8, 16, None)
"""Pictures of every label, and as many of none where there are such; None: all of the pool."""

Method = Callable[
    [PhotoSet, NDArray[np.intp], NDArray[np.intp]],
    NDArray[np.floating],
]
"""From a set, its training rows and its test rows to scores (M, L)."""


def draw(
    photos: PhotoSet, shots: int | None, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return training rows and test rows: a third of the set, kin never parted, is for testing."""
    fold = grouped_folds(photos.targets, photos.groups, folds=3, seed=seed)
    test, pool = np.flatnonzero(fold == 0), np.flatnonzero(fold != 0)
    if shots is None:
        return pool, test
    order = np.random.default_rng(seed).permutation(pool)
    kinds = [*(photos.targets.T == 1), photos.targets.sum(1) == 0]
    rows = {int(row) for kind in kinds for row in order[kind[order]][:shots]}
    return np.array(sorted(rows)), test


def zero_shot(
    photos: PhotoSet, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray[np.floating]:
    """Rank by what the prompts say."""
    return photos.zero_shot[test]


def logistic_regression(
    photos: PhotoSet, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray[np.floating]:
    """Rank by scikit-learn's, one a label, as it comes (C = 1)."""
    columns = []
    for target in photos.targets[train].T:
        if len(set(target)) < 2:  # one shot of two fruits in one picture: it has nothing to say
            columns.append(np.zeros(len(test)))
            continue
        model = LogisticRegression(max_iter=1000).fit(photos.embeddings[train], target)
        columns.append(model.decision_function(photos.embeddings[test]))
    return np.column_stack(columns)


def tip_adapter(
    photos: PhotoSet, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray[np.floating]:
    """Rank by a cache of the training pictures beside the prompts (Zhang et al. 2022, untrained).

    alpha = 1 and beta = 5.5, the published defaults, on the encoder's own scale of cosines.
    """
    affinity = np.exp(-5.5 * (1 - photos.embeddings[test] @ photos.embeddings[train].T))
    clip = photos.embeddings[test] @ photos.text.T  # on the encoder's scale
    return np.asarray(clip + affinity @ photos.targets[train])


def mean_average_precision(scores: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Return the mean over labels, in points of 100."""
    found = targets.sum(0) > 0
    return 100 * float(average_precision_score(targets[:, found], scores[:, found]))
