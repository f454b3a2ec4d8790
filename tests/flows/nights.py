"""A project of pictures that do not exist, embedded and with a model in production: for nights.

Apart from the tests, so that a process that is started for them imports no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.catalog import Catalog
from flows.encoders import EncoderSource
from flows.leases import MIN_TTL_S
from flows.objects import ObjectStore
from flows.predict import PART_ROWS, PredictResult, predict
from flows.predictions import published
from flows.project import Project
from flows.registry import Registry
from flows.settings import Settings
from flows.workspace import Workspace
from model.data import Example, Snapshot
from model.train import TrainConfig, train
from tests.flows.catalog_rows import image, sha
from tests.flows.line import WEIGHTS

PROJECT = f"""
name = "nights"
[encoder]
checkpoint = "{WEIGHTS}"
[[labels]]
name = "vinyl"
"""
TRAINED_ON = range(60)


def open_project(root: Path, settings: Settings, more: str = "") -> Workspace:
    """Write project.toml, `more` at its end, and open it on the bucket of `settings`."""
    (root / "project.toml").write_text(PROJECT + more)
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def vectors(numbers: Sequence[int], *, dim: int, spread: float = 0.5) -> NDArray[np.float32]:
    """Return a unit vector a number: even ones lie in one cloud, odd ones in another."""
    rows = []
    for number in numbers:
        noise = np.random.default_rng(number).normal(size=dim)
        rows.append((1.0 if number % 2 == 0 else -1.0) + spread * noise)
    unit = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(unit, np.float32)


def add_pictures(workspace: Workspace, numbers: Sequence[int]) -> None:
    """Put the pictures of those numbers into the catalogue, embedded."""
    source = EncoderSource(workspace)
    workspace.catalog.add_images([image(number) for number in numbers])
    ids = [sha(number) for number in numbers]
    dim = source.prompts(workspace.project.taxonomy()).positive_LD.shape[1]
    workspace.catalog.add_embeddings(source.id(), ids, vectors(numbers, dim=dim))


def put_model_into_production(workspace: Workspace, seed: int = 0) -> str:
    """Train on `TRAINED_ON`: even numbers are vinyl. Return the version."""
    encoder_id = EncoderSource(workspace).id()
    ids, embeddings_ND = workspace.catalog.embeddings(
        encoder_id, sorted(sha(number) for number in TRAINED_ON)
    )
    even = {sha(number) for number in TRAINED_ON if number % 2 == 0}
    snapshot = Snapshot(
        labels=("vinyl",),
        examples=tuple(
            Example(sha256=each, group=each, answers={"vinyl": each in even}) for each in ids
        ),
        encoder_id=encoder_id,
        table_versions={},
        seed=seed,
    )
    workspace.store.put_once(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())
    config = TrainConfig(folds=2, repeats=1, resamples=100)
    model = train(snapshot, embeddings_ND, config=config)
    registry = Registry(workspace.store, workspace.project.name)
    registry.publish(model)
    registry.promote(
        model.card.version, instead_of=registry.production(), reason="the test wants it"
    )
    return model.card.version


def run_night(root: Path, settings: Settings, part_rows: int = PART_ROWS) -> PredictResult:
    """Run a night as a process of its own does."""
    store = ObjectStore(settings)
    workspace = Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )
    return predict(workspace, lease_s=MIN_TTL_S, part_rows=part_rows)


def published_rows(workspace: Workspace, version: str) -> list[str]:
    """Return every published row but for when it was made, in an order that parts do not change."""
    return sorted(
        json.dumps({name: str(value) for name, value in row.items() if name != "predicted_at"})
        for table in published(workspace.store, version)
        for row in table.to_pylist()
    )
