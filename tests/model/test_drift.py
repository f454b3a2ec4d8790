"""Drift: seen where pictures have changed, not seen where they have not, by cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.drift import adjusted, furthest_out, mmd, rate_shift, score_shift


def _rows(number: int, *, seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(number, 24)) + 1
    rows[:, 0] += shift
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_the_discrepancy_is_that_of_the_definition() -> None:
    """Unbiased squared MMD of 3 against 2 rows, summed pair by pair as the paper writes it."""
    now, then = _rows(3, seed=1).astype(float), _rows(2, seed=2).astype(float)
    everything = np.concatenate([now, then])
    distances = [
        ((everything[i] - everything[j]) ** 2).sum() for i in range(5) for j in range(i + 1, 5)
    ]
    width = float(np.median(distances))

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * width)))

    expected = (
        sum(kernel(now[i], now[j]) for i in range(3) for j in range(3) if i != j) / 6
        + kernel(then[0], then[1])
        - 2 * sum(kernel(a, b) for a in now for b in then) / 6
    )
    found = mmd(now.astype(np.float32), then.astype(np.float32), permutations=10)
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_a_shift_is_seen() -> None:
    assert mmd(_rows(60, seed=1, shift=3), _rows(60, seed=2)).p < 0.01


def test_nothing_is_seen_where_nothing_changed() -> None:
    """Of 60 pairs drawn alike, about 3 are below 5 %: 10 would be a chance of one in a thousand."""
    found = [
        mmd(_rows(40, seed=seed), _rows(40, seed=seed + 1000), seed=seed, permutations=100).p
        for seed in range(60)
    ]
    assert sum(p <= 0.05 for p in found) < 10


def test_the_same_seed_gives_the_same_p() -> None:
    sides = _rows(30, seed=1), _rows(30, seed=2)
    assert mmd(*sides, seed=4) == mmd(*sides, seed=4)


def test_pictures_that_are_all_the_same_have_not_drifted() -> None:
    """No distance, no width: the test stands it."""
    same = np.repeat(_rows(1, seed=1), 20, 0)
    assert mmd(same, same).p > 0.5


def test_one_picture_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        mmd(_rows(1, seed=1), _rows(20, seed=2))


def test_scores_that_moved_are_seen() -> None:
    rng = np.random.default_rng(0)
    assert score_shift(rng.random(200) / 2, rng.random(200)).p < 0.001


def test_a_rate_is_compared_with_the_one_before() -> None:
    """30 of 100 after 10 of 100: 20 points, and hardly by chance."""
    found = rate_shift((30, 100), (10, 100))
    assert found.value == pytest.approx(0.2)
    assert found.p < 0.001


def test_tests_made_together_are_corrected_as_holm_does() -> None:
    """0.01, 0.04, 0.03 of three: 0.03, then 0.06 twice, never smaller than the one before."""
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_what_is_least_like_training_comes_first() -> None:
    then = _rows(30, seed=1)
    now = np.concatenate([then[:5], -then[:1], then[5:9]])
    ((row, distance),) = furthest_out(now, then, 1)
    assert row == 5
    assert distance > 1
