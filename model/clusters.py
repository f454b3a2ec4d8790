"""Near pictures together: clusters of embeddings that a person can decide at one look.

Shapes: N pictures, D the embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOUR = 5
"""Two pictures are near when they are as near as a picture's fifth neighbour commonly is."""

_ROWS_AT_ONCE = 512


def near_together(embeddings_ND: NDArray[np.float32], *, most: int) -> list[NDArray[np.intp]]:
    """Return clusters of at most `most` rows, the largest first, each with its centre first.

    Every row is in one cluster; one without near neighbours is a cluster by itself, and those come
    last. Greedy: the row with the most near rows that are still free takes them, the nearest first,
    so the odd ones of a cluster stand at its end. Of rows that tie the first is taken: the same
    rows give the same clusters. Time and memory grow with N squared: 3,000 rows take 9 MB. Rows
    are unit vectors.
    """
    count = len(embeddings_ND)
    if count == 0:
        return []
    parts = [
        embeddings_ND[start : start + _ROWS_AT_ONCE] @ embeddings_ND.T
        for start in range(0, count, _ROWS_AT_ONCE)
    ]
    nth = min(NEIGHBOUR, count - 1)
    # The largest of all is the row itself.
    neighbour_N = np.concatenate([np.partition(part, -1 - nth)[:, -1 - nth] for part in parts])
    threshold = float(np.median(neighbour_N))
    near_NN = np.concatenate([part >= threshold for part in parts])
    np.fill_diagonal(near_NN, val=True)
    free_N = np.ones(count, np.bool_)
    degree_N = near_NN.sum(1).astype(np.int64)
    clusters: list[NDArray[np.intp]] = []
    while free_N.any():
        centre = int(np.where(free_N, degree_N, -1).argmax())
        members = np.flatnonzero(near_NN[centre] & free_N)
        likeness = embeddings_ND[members] @ embeddings_ND[centre]
        likeness[members == centre] = np.inf
        members = members[np.argsort(-likeness, kind="stable")][:most]
        free_N[members] = False
        degree_N -= near_NN[:, members].sum(1)
        clusters.append(members)
    return sorted(clusters, key=len, reverse=True)
