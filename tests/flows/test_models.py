"""What the commands on models do, in a real bucket: list, show, compare, promote, roll back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from flows.errors import NotFound, Permanent
from flows.models import (
    compare_versions,
    export_model,
    list_models,
    promote_model,
    roll_back,
    show_model,
)
from flows.registry import Registry
from flows.settings import Settings
from flows.workspace import Workspace
from model.checkpoint import TrainedModel
from model.encoder import encoder_id, load_encoder
from model.page import card_page
from model.report import held_out_targets
from model.train import TrainConfig, train
from tests.flows.line import Line, workspace_at
from tests.model.synthetic import draw_pictures, snapshot_of

DRAWN = draw_pictures(60)


def model_of(seed: int) -> TrainedModel:
    """Another seed, another version."""
    config = TrainConfig(folds=3, repeats=1, resamples=100)
    return train(snapshot_of(DRAWN.targets, seed=seed), DRAWN.embeddings, config=config)


@pytest.fixture(scope="module")
def trained() -> tuple[TrainedModel, ...]:
    return tuple(model_of(seed) for seed in range(3))


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path, trained: tuple[TrainedModel, ...]) -> Workspace:
    """A project with three published versions; the first is in production."""
    opened = workspace_at(tmp_path, bucket, "http://127.0.0.1:9")
    registry = Registry(opened.store, opened.project.name)
    for seed, model in enumerate(trained):
        snapshot = snapshot_of(DRAWN.targets, seed=seed)
        opened.store.put(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())
        page = card_page(model, held_out_targets(model, snapshot), title="line")
        registry.publish(model, page=page)
    registry.promote(trained[0].card.version, instead_of=None, reason="it is the first model")
    return opened


def test_versions_are_listed_with_the_one_in_production_first(
    workspace: Workspace, trained: tuple[TrainedModel, ...]
) -> None:
    lines = list_models(workspace)
    assert {each.version for each in lines} == {each.card.version for each in trained}
    assert [each.production for each in lines] == [True, False, False]
    assert lines[0].version == trained[0].card.version
    assert "production" in str(lines[0])


def test_the_card_in_production_is_shown_and_its_page_written(
    workspace: Workspace, trained: tuple[TrainedModel, ...], tmp_path: Path
) -> None:
    card = show_model(workspace, page=tmp_path / "card.html")
    assert card == trained[0].card
    assert card.version in (tmp_path / "card.html").read_text()


def test_a_version_that_does_not_exist_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no model version 123"):
        show_model(workspace, "123")


def test_a_comparison_tells_the_pictures_that_changed_sides(
    workspace: Workspace, trained: tuple[TrainedModel, ...]
) -> None:
    found = compare_versions(workspace, trained[1].card.version)
    first, second = trained[0], trained[1]
    said = second.out_of_fold_NL >= second.out_of_fold_thresholds_NL
    before = first.out_of_fold_NL >= first.out_of_fold_thresholds_NL
    assert found.pictures == 60
    assert len(found.changed) == (said != before).sum()
    assert all(each.challenger != each.champion for each in found.changed)
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_rolling_back_twice_goes_back_two_steps(
    workspace: Workspace, trained: tuple[TrainedModel, ...]
) -> None:
    first, second, third = (each.card.version for each in trained)
    assert promote_model(workspace, second) == first
    promote_model(workspace, third)
    assert roll_back(workspace) == second
    assert roll_back(workspace) == first
    assert Registry(workspace.store, workspace.project.name).production() == first
    with pytest.raises(Permanent, match="no earlier model"):
        roll_back(workspace)


@pytest.mark.slow
def test_the_exported_file_gives_the_models_own_probabilities(line: Line, tmp_path: Path) -> None:
    """From pixels, in one file, beside torch and the head."""
    path = tmp_path / "model.onnx"
    version = export_model(line.workspace, path)
    model = Registry(line.workspace.store, line.workspace.project.name).load(version)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["cratedig"])
    _, height, width, _ = session.get_inputs()[0].shape
    pixels = np.random.default_rng(1).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    (found,) = session.run(["probabilities"], {"pixels": pixels})
    encoder = load_encoder(line.workspace.project.encoder_config())
    np.testing.assert_allclose(found, model.head.scores(encoder.encode_pixels(pixels)), atol=1e-3)
    assert about["labels"] == list(model.head.labels)
    assert about["version"] == version
    assert about["encoder_id"] == encoder_id(line.workspace.project.encoder_config())
