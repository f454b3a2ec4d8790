"""The model in production, on the pages: a real one, trained on drawn pictures."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from flows.predictions import Manifest
from flows.registry import Registry
from model.checkpoint import TrainedModel
from model.data import Example, Snapshot
from model.train import TrainConfig, train
from tests.conftest import RunningStore
from tests.flows.studio_data import LABELS, Drawn, decide, fill, make_project, serving

MISLABELLED = 4
"""The drawing that looks like no turntable and was called one."""

COUNT = 25


@dataclasses.dataclass(frozen=True)
class Studio:
    """A served project with a model in production."""

    model: TrainedModel
    drawings: list[Drawn]
    client: httpx.Client


def looks_like_a_turntable(index: int) -> bool:
    return index % 2 == 1


@pytest.fixture(scope="module")
def studio(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """A model for which one picture is a false negative, because it was decided wrongly."""
    root = tmp_path_factory.mktemp("project")
    workspace = make_project(root, store_server)
    drawings = fill(workspace, count=COUNT)
    indices = sorted(range(COUNT - 1), key=lambda index: drawings[index].sha256)
    answers = {
        index: {
            "turntable": looks_like_a_turntable(index) or index == MISLABELLED,
            "vinyl": index < COUNT // 2,
        }
        for index in indices
    }
    for index, label in ((index, label) for index in indices for label in LABELS):
        decide(workspace, drawings[index], label, "yes" if answers[index][label] else "no")
    rows = [
        [1.0 if looks_like_a_turntable(index) else -1.0, 1.0 if index < COUNT // 2 else -1.0, 0.1]
        for index in indices
    ]
    embeddings_ND = np.array(rows, np.float32)
    embeddings_ND /= np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    snapshot = Snapshot(
        labels=LABELS,
        examples=tuple(
            Example(
                sha256=drawings[index].sha256,
                group=drawings[index].sha256,
                answers=answers[index],
            )
            for index in indices
        ),
        encoder_id="drawn",
        table_versions={},
        seed=0,
    )
    model = train(snapshot, embeddings_ND, config=TrainConfig(folds=3, repeats=1))
    workspace.store.put(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())
    registry = Registry(workspace.store, workspace.project.name)
    registry.publish(model)
    registry.promote(model.card.version, instead_of=None, reason="it is the first model")
    for number, pictures in enumerate((30, 12)):
        manifest = Manifest(
            number=number,
            version=model.card.version,
            parts=(),
            pictures=pictures,
            published_at="2026-01-02T03:04:05+00:00",
        )
        key = f"predictions/model={model.card.version}/manifests/{number:06d}.json"
        workspace.store.put(key, json.dumps(dataclasses.asdict(manifest)).encode())
    with serving(root) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield Studio(model, drawings, client)


def test_the_overview_names_the_model_in_production(studio: Studio) -> None:
    version = studio.model.card.version
    assert f'data-stage="in production">{version[:8]}<' in studio.client.get("/").text


def test_the_overview_counts_what_every_night_has_published(studio: Studio) -> None:
    assert 'data-stage="predictions">42<' in studio.client.get("/").text


def test_the_model_page_shows_every_labels_metrics_with_their_intervals(studio: Studio) -> None:
    text = studio.client.get("/model").text
    for row in studio.model.card.evaluation.labels:
        shown = re.search(rf'data-label="{row.label}".*?(?=class="row")', text, re.DOTALL)
        assert shown is not None
        for metric in (row.precision, row.recall, row.f1, row.average_precision):
            assert (
                f"{metric.value:.2f} <span>{metric.low:.2f}\N{EN DASH}{metric.high:.2f}" in shown[0]
            )


def test_held_out_scores_come_with_the_answers_that_stand(studio: Studio) -> None:
    """The picture that was called a turntable and looks like none scores low and is decided yes."""
    version = studio.model.card.version
    judged = studio.client.get(f"/api/models/{version}/evaluation").json()
    at = judged["sha256s"].index(studio.drawings[MISLABELLED].sha256)
    assert judged["answers"]["turntable"][at] == "y"
    assert judged["scores"]["turntable"][at] < judged["thresholds"]["turntable"]


def test_a_version_that_is_not_there_is_not_shown(studio: Studio) -> None:
    assert studio.client.get("/model?version=000000000000").status_code == 404
    assert studio.client.get("/api/models/000000000000/evaluation").status_code == 404
