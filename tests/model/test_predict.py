"""Predictions are the head's scores and the answers at its thresholds, in order."""

from __future__ import annotations

import numpy as np
import pytest

from model.classifier import MultiLabelHead
from model.predict import predict

HEAD = MultiLabelHead(
    labels=("turntable", "vinyl"),
    weight_LD=np.array([[4, 0], [0, 4]], np.float32),
    bias_L=np.zeros(2, np.float32),
    thresholds_L=np.array([0.5, 0.99], np.float32),
    encoder_id="tiny",
)


def test_an_answer_is_yes_where_the_score_reaches_the_labels_own_threshold() -> None:
    (one,) = predict(HEAD, "v1", ["aa"], np.array([[0, 1]], np.float32))
    assert one.sha256 == "aa"
    assert one.version == "v1"
    assert one.scores == pytest.approx({"turntable": 0.5, "vinyl": 0.982}, abs=1e-3)
    assert one.answers == {"turntable": True, "vinyl": False}


def test_every_image_is_answered_once_in_order_over_many_batches() -> None:
    angles = np.linspace(0, 1, 9000)
    embeddings = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    names = [f"{row:05d}" for row in range(9000)]
    predictions = list(predict(HEAD, "v1", names, embeddings))
    assert [each.sha256 for each in predictions] == names
    scores = [[each.scores[label] for label in HEAD.labels] for each in predictions]
    np.testing.assert_allclose(scores, HEAD.scores(embeddings), rtol=1e-6)


def test_nothing_gives_nothing() -> None:
    assert list(predict(HEAD, "v1", [], np.empty((0, 2), np.float32))) == []


def test_another_number_of_embeddings_than_images_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="2 images come with 1 embeddings"):
        predict(HEAD, "v1", ["aa", "bb"], np.ones((1, 2), np.float32))


def test_embeddings_of_another_width_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="encoder tiny"):
        predict(HEAD, "v1", ["aa"], np.ones((1, 3), np.float32))
