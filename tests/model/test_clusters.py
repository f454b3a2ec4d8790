"""Clusters of near pictures."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.clusters import near_together


def three_heaps() -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], list[int]]:
    """Thirty unit vectors around three directions far apart, and which heap each is of."""
    random = np.random.default_rng(0)
    heaps = [row % 3 for row in range(30)]
    vectors = 4 * np.eye(3, 16)[heaps] + 0.2 * random.normal(size=(30, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), heaps


def test_no_cluster_mixes_heaps_that_are_far_apart() -> None:
    vectors, heaps = three_heaps()
    clusters = near_together(vectors, most=60)
    assert all(len({heaps[row] for row in cluster}) == 1 for cluster in clusters)
    assert len(clusters[0]) >= 5


@settings(deadline=None)
@given(count=st.integers(0, 40), most=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_row_is_in_one_cluster_and_none_is_too_large(
    count: int, most: int, seed: int
) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = near_together(vectors, most=most)
    assert sorted(row for cluster in clusters for row in cluster) == list(range(count))
    assert all(len(cluster) <= most for cluster in clusters)


def test_the_odd_ones_of_a_cluster_stand_at_its_end() -> None:
    vectors, _ = three_heaps()
    cluster = near_together(vectors, most=60)[0]
    likeness = vectors[cluster] @ vectors[cluster[0]]
    assert (np.diff(likeness[1:]) <= 1e-6).all()
