"""Sweeping takes rubbish alone: on a real store, beside what is in use and what is young."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.catalog import Catalog
from flows.leases import BucketLeases
from flows.maintain import rubbish, sweep
from flows.objects import ObjectStore
from flows.predictions import Manifest, publish
from flows.project import Project
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.catalog_rows import image, sha

PROJECT = """
name = "tidy"

[encoder]
model = "ViT-B-32"
pretrained = "none"

[[labels]]
name = "blot"
"""


@pytest.fixture
def workspace(tmp_path: Path, bucket: Settings, object_store: ObjectStore) -> Workspace:
    """A project with an image in shards/0.tar, and a shard and a part that nothing points at."""
    (tmp_path / "project.toml").write_text(PROJECT)
    catalog = Catalog(object_store)
    for minute in range(3):  # three versions, each with a file of its own
        catalog.add_images([image(minute, minute=0)])
    for key in ("shards/0.tar", "shards/orphan.tar", "predictions/model=v1/date=d/orphan.parquet"):
        object_store.put(key, b"bytes")
    part = "predictions/model=v1/date=d/part.parquet"
    object_store.put(part, b"bytes")
    publish(
        object_store, Manifest(number=0, version="v1", parts=(part,), pictures=1, published_at="")
    )
    with BucketLeases(object_store, "one") as leases:
        assert leases.take("example.org")
    return Workspace(
        root=tmp_path,
        settings=bucket,
        project=Project.load(tmp_path),
        store=object_store,
        catalog=catalog,
    )


def keys(store: ObjectStore) -> set[str]:
    return {info.key for info in store.list() if not info.key.startswith("tables/")}


def test_what_nothing_points_at_goes_and_the_rest_stays(workspace: Workspace) -> None:
    result = sweep(workspace, older_than_s=0, keep_versions_s=0)
    assert (result.shards, result.parts, result.leases) == (1, 1, 1)
    assert keys(workspace.store) == {
        "shards/0.tar",
        "predictions/model=v1/date=d/part.parquet",
        "predictions/model=v1/manifests/000000.json",
    }
    again = sweep(workspace, older_than_s=0, keep_versions_s=0)
    assert (again.shards, again.parts, again.leases, again.table_bytes) == (0, 0, 0, 0)


def test_a_dry_run_names_what_would_go_and_deletes_nothing(workspace: Workspace) -> None:
    """Of shards and parts exactly those that the sweep then deletes; nothing that is young."""
    before = keys(workspace.store)
    assert rubbish(workspace) == []
    named = set(rubbish(workspace, older_than_s=0))
    assert keys(workspace.store) == before
    sweep(workspace, older_than_s=0, keep_versions_s=0)
    gone = {key for key in before - keys(workspace.store) if not key.startswith("leases/")}
    assert named == gone


def test_what_is_young_stays(workspace: Workspace) -> None:
    before = keys(workspace.store)
    result = sweep(workspace)
    assert (result.shards, result.parts, result.leases, result.table_bytes) == (0, 0, 0, 0)
    assert keys(workspace.store) == before


def test_packed_tables_hold_the_same_rows_in_fewer_files(workspace: Workspace) -> None:
    before = list(workspace.catalog.images(thumbnails=True))
    files = len(list(workspace.store.list("tables/images.lance/data/")))
    result = sweep(workspace, keep_versions_s=0)
    assert list(workspace.catalog.images(thumbnails=True)) == before
    assert {row.sha256 for row in before} == {sha(number) for number in range(3)}
    assert len(list(workspace.store.list("tables/images.lance/data/"))) < files
    assert result.table_bytes > 0
