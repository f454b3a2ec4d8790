"""A model with other thresholds is another version with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from model.checkpoint import TrainedModel, from_files, to_files
from model.data import Snapshot
from model.report import held_out_targets
from model.rethreshold import BY_HAND, with_thresholds
from model.train import TrainConfig, train
from tests.model.synthetic import draw_pictures, snapshot_of


@pytest.fixture(scope="module")
def trained() -> tuple[TrainedModel, Snapshot]:
    """A model of two labels, on sixty pictures."""
    pictures = draw_pictures(60)
    snapshot = snapshot_of(pictures.targets)
    config = TrainConfig(folds=3, repeats=1, resamples=100)
    return train(snapshot, pictures.embeddings, config=config), snapshot


def test_its_measures_are_those_at_the_thresholds_given(
    trained: tuple[TrainedModel, Snapshot],
) -> None:
    model, snapshot = trained
    derived = with_thresholds(model, snapshot, {"label1": 0.9})
    yes_N = model.out_of_fold_NL[:, 1] >= np.float32(0.9)
    true_N = held_out_targets(model, snapshot)[:, 1] == 1
    recall = derived.card.evaluation.labels[1].recall
    assert recall.value == pytest.approx((yes_N & true_N).sum() / true_N.sum())
    assert BY_HAND in derived.card.warnings


def test_a_label_that_is_not_named_keeps_its_threshold(
    trained: tuple[TrainedModel, Snapshot],
) -> None:
    model, snapshot = trained
    derived = with_thresholds(model, snapshot, {"label1": 0.9})
    assert derived.head.thresholds_L[0] == model.head.thresholds_L[0]
    assert (derived.head.weight_LD == model.head.weight_LD).all()


def test_it_is_a_version_of_its_own_that_can_be_stored(
    trained: tuple[TrainedModel, Snapshot],
) -> None:
    model, snapshot = trained
    derived = with_thresholds(model, snapshot, {"label1": 0.9})
    assert derived.card.version != model.card.version
    assert from_files(to_files(derived)).card == derived.card
    again = with_thresholds(model, snapshot, {"label1": 0.9})
    assert again.card.version == derived.card.version


@pytest.mark.parametrize("thresholds", [{"label1": 0.0}, {"label1": 1.5}, {"nothing": 0.5}])
def test_what_is_no_threshold_of_the_model_is_refused(
    trained: tuple[TrainedModel, Snapshot], thresholds: dict[str, float]
) -> None:
    model, snapshot = trained
    with pytest.raises(ValueError, match="is no threshold of"):
        with_thresholds(model, snapshot, thresholds)
