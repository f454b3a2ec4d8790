"""A model's files give the model back, byte for byte, or say what is wrong with them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from model.card import CheckpointInvalid, ModelCard
from model.checkpoint import TrainedModel, from_files, to_files
from model.train import TrainConfig, train
from tests.model.synthetic import draw_pictures, snapshot_of


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    drawn = draw_pictures(40)
    return train(
        snapshot_of(drawn.targets), drawn.embeddings, config=TrainConfig(repeats=1, resamples=100)
    )


def test_files_are_the_three_that_a_version_consists_of(model: TrainedModel) -> None:
    assert set(to_files(model)) == {"head.safetensors", "card.json", "out_of_fold.json"}


def test_files_round_trip_byte_for_byte(model: TrainedModel) -> None:
    files = to_files(model)
    assert to_files(from_files(files)) == files


def test_a_model_read_back_gives_the_same_scores(model: TrainedModel) -> None:
    again = from_files(to_files(model))
    embeddings = draw_pictures(5, seed=9).embeddings
    np.testing.assert_array_equal(again.head.scores(embeddings), model.head.scores(embeddings))
    np.testing.assert_array_equal(again.out_of_fold_NL, model.out_of_fold_NL)
    np.testing.assert_array_equal(again.out_of_fold_thresholds_NL, model.out_of_fold_thresholds_NL)


def test_a_card_round_trips(model: TrainedModel) -> None:
    assert ModelCard.from_json(model.card.to_json()) == model.card


def test_a_card_is_json_that_others_can_read(model: TrainedModel) -> None:
    card = json.loads(model.card.to_json())
    assert card["evaluation"]["labels"][0]["f1"].keys() == {"value", "low", "high"}


def test_a_head_of_another_model_is_refused(model: TrainedModel) -> None:
    files = to_files(model)
    other = dataclasses.replace(model.head, bias_L=model.head.bias_L + 1)
    files["head.safetensors"] = to_files(
        TrainedModel(
            head=other,
            card=model.card,
            sha256s=model.sha256s,
            out_of_fold_NL=model.out_of_fold_NL,
            fold_N=model.fold_N,
            fold_thresholds_FL=model.fold_thresholds_FL,
        )
    )["head.safetensors"]
    with pytest.raises(CheckpointInvalid, match="is not the head of version"):
        from_files(files)


@pytest.mark.parametrize("name", ["head.safetensors", "card.json", "out_of_fold.json"])
def test_a_missing_file_is_named(model: TrainedModel, name: str) -> None:
    files = to_files(model)
    del files[name]
    with pytest.raises(CheckpointInvalid, match=f"{name} is missing"):
        from_files(files)


@pytest.mark.parametrize("name", ["head.safetensors", "card.json", "out_of_fold.json"])
def test_a_file_cut_off_is_named(model: TrainedModel, name: str) -> None:
    files = to_files(model)
    files[name] = files[name][: len(files[name]) // 2]
    with pytest.raises(CheckpointInvalid, match=name):
        from_files(files)


def test_a_head_of_a_later_format_is_refused(model: TrainedModel) -> None:
    files = to_files(model)
    files["head.safetensors"] = files["head.safetensors"].replace(
        rb"{\"format\": 1", rb"{\"format\": 2"
    )
    with pytest.raises(CheckpointInvalid, match="reads format 1"):
        from_files(files)
