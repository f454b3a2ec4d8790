"""Planted wrong answers are found; right ones are mostly left alone."""

from __future__ import annotations

import numpy as np

from model.mislabels import suspected_mislabels
from model.train import TrainConfig, train
from tests.model.synthetic import draw_pictures, snapshot_of


def test_planted_flips_are_found() -> None:
    """Of twelve answers turned round in 240, most are suspected, and most suspects are of them."""
    drawn = draw_pictures(240, 1, signal=2.0)
    flipped = np.random.default_rng(0).choice(240, 12, replace=False)
    targets = drawn.targets.copy()
    targets[flipped] = 1 - targets[flipped]
    snapshot = snapshot_of(targets)
    model = train(snapshot, drawn.embeddings, config=TrainConfig(repeats=1, resamples=100))
    suspects = suspected_mislabels(
        model.sha256s, model.head.labels, model.out_of_fold_NL, snapshot.targets_NL()
    )
    planted = {snapshot.sha256s[row] for row in flipped}
    found = [each.sha256 in planted for each in suspects]
    assert sum(found) >= 10
    assert np.mean(found[:10]) >= 0.7


def test_unreviewed_answers_and_rare_labels_are_nobodys_suspects() -> None:
    scores = np.array([[0.9, 0.9]] * 4 + [[0.1, 0.1]] * 8, np.float32)
    targets = np.array([[0, np.nan]] * 4 + [[0, np.nan]] * 8, np.float32)
    assert suspected_mislabels([str(row) for row in range(12)], ["a", "b"], scores, targets) == []
