"""`verify` and what else keeps house: what is damaged or gone is named, what is silent is ended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows import cli_house
from flows.catalog import Catalog
from flows.counts import counts_over_time, record_counts
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.predictions import Manifest, publish
from flows.project import Project
from flows.settings import Settings
from flows.verify import Trouble, verify
from flows.workspace import Workspace
from flows.zombies import crash_zombies
from tests.flows.line import WEIGHTS
from tests.flows.test_cli import settings_of

PROJECT = f"""
name = "kept"
[encoder]
checkpoint = "{WEIGHTS}"
[[labels]]
name = "ant"
"""


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path, shared: Path) -> Workspace:
    """A project with six photographs in one shard."""
    (tmp_path / "project.toml").write_text(PROJECT)
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((shared / "data" / "hymenoptera" / "images").iterdir())[:6]:
        (photos / path.name).write_bytes(path.read_bytes())
    store = ObjectStore(bucket)
    workspace = Workspace(
        root=tmp_path,
        settings=bucket,
        project=Project.load(tmp_path),
        store=store,
        catalog=Catalog(store),
    )
    import_pictures(workspace, str(photos))
    return workspace


def _troubles(workspace: Workspace) -> list[Trouble]:
    found: list[Trouble] = []
    result = verify(workspace, on_trouble=found.append)
    assert sum(result.troubles.values()) == len(found)
    return found


def test_what_is_whole_has_no_troubles(workspace: Workspace) -> None:
    """And every picture was looked at."""
    result = verify(workspace)
    assert (result.images, result.of_images, result.troubles) == (6, 6, {})


def test_a_damaged_picture_is_named(workspace: Workspace) -> None:
    """One byte in the middle of its bytes was turned; the others are well."""
    image = next(iter(workspace.catalog.images()))
    body = bytearray(workspace.store.get(image.shard))
    body[image.offset + image.size // 2] ^= 0xFF
    workspace.store.put(image.shard, bytes(body))
    (trouble,) = _troubles(workspace)
    assert trouble.which == image.sha256
    assert "is damaged" in trouble.said


def test_pictures_whose_shard_is_gone_are_named(workspace: Workspace) -> None:
    image = next(iter(workspace.catalog.images()))
    workspace.store.delete(image.shard)
    assert {each.which for each in _troubles(workspace)} == set(workspace.catalog.sha256s())


def test_pictures_beyond_the_end_of_a_cut_off_shard_are_named(workspace: Workspace) -> None:
    """The first picture is whole; the last has lost half of its bytes."""
    images = sorted(workspace.catalog.images(), key=lambda image: image.offset)
    body = workspace.store.get(images[0].shard)
    workspace.store.put(images[0].shard, body[: images[-1].offset + images[-1].size // 2])
    assert [each.which for each in _troubles(workspace)] == [images[-1].sha256]


def test_a_part_of_predictions_that_is_gone_is_named(workspace: Workspace) -> None:
    publish(
        workspace.store,
        Manifest(number=0, version="v1", parts=("predictions/x",), pictures=1, published_at=""),
    )
    (trouble,) = _troubles(workspace)
    assert (trouble.kind, trouble.which) == ("prediction", "predictions/x")


def test_a_sample_looks_at_some(workspace: Workspace) -> None:
    """By lot: over many seeds every picture is looked at, but never all of them at once for 2 of 6."""
    looked_at = [verify(workspace, sample=2, seed=seed).images for seed in range(8)]
    assert 0 < sum(looked_at) < 48


def test_the_command_says_by_its_exit_status_whether_all_is_well(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0, then 1 with a line for each trouble on stdout."""
    for name, value in settings_of(workspace.settings).items():
        monkeypatch.setenv(name, value)
    assert cli_house.verify(project=workspace.root) == 0
    capsys.readouterr()
    workspace.store.delete(next(iter(workspace.catalog.images())).shard)
    assert cli_house.verify(project=workspace.root) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("image ") for line in lines) == 6


def test_counts_are_kept_a_day_each(workspace: Workspace) -> None:
    """Counted twice on one day, they are there once, as last counted."""
    record_counts(workspace)
    counts = record_counts(workspace)
    assert list(counts_over_time(workspace.store)) == [counts]
    assert counts.rows["images"] == 6
    assert counts.objects["shards"] == 1
    assert counts.stored_bytes["shards"] > 6 * 1000


@flow(name="test-verify-nothing")
def _nothing() -> None:
    """A run to be found."""


@pytest.mark.slow
def test_a_silent_run_is_marked_as_crashed_and_a_live_one_is_not(prefect_api: str) -> None:
    """Both are running, as far as Prefect knows; of one nothing has been heard for the time given."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(_nothing, state=Running(), tags=["cratedig", "zombie-test"])
        assert crash_zombies("zombie-test") == []
        assert crash_zombies("zombie-test", silent_for=timedelta(0), except_for=[run.id]) == []
        assert crash_zombies("another-project", silent_for=timedelta(0)) == []
        assert crash_zombies("zombie-test", silent_for=timedelta(0)) == [run.name]
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_crashed()
