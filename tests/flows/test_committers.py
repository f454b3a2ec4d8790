"""Sixteen processes that commit one manifest at the same moment, on a real store: one of them wins."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.archive.job import Wanted, archive_of, prepare
from flows.archive.plan import Planner
from flows.archive.result import manifests as archive_manifests
from flows.archive.result import publish as publish_archive
from flows.objects import ObjectStore
from flows.predictions import Manifest, manifests, publish, published
from flows.scratch import Scratch
from flows.settings import Settings
from tests.flows.archives import jpeg, label, rows, workspace_at
from tests.flows.killing import FORKS, start
from tests.flows.test_imports import write_folder

pytestmark = pytest.mark.slow

COMMITTERS = 16


class _AtOnce(ObjectStore):
    """A real store whose user waits for all others before it commits its first manifest."""

    def __init__(self, settings: Settings, gate: Barrier) -> None:
        super().__init__(settings)
        self._gate: Barrier | None = gate

    def put_once(self, key: str, data: bytes) -> bool:
        if "/manifests/" in key and self._gate is not None:
            self._gate.wait(240)
            self._gate = None
        return super().put_once(key, data)


def _sixteen(commit: Callable[..., None], *arguments: object) -> dict[int, tuple[bool, str]]:
    """Run so many processes that meet at a gate; return whether each has won, and what it committed."""
    gate: Barrier = FORKS.Barrier(COMMITTERS)
    said: Queue[tuple[int, bool, str]] = FORKS.Queue()
    processes = [start(commit, number, gate, said, *arguments) for number in range(COMMITTERS)]
    told = [said.get(timeout=240) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return {number: (won, what) for number, won, what in told}


def commit_night(
    number: int, gate: Barrier, said: Queue[tuple[int, bool, str]], settings: Settings
) -> None:
    """Write two parts of its own, and publish both as manifest 0."""
    store = _AtOnce(settings, gate)
    parts = []
    for half in range(2):
        file = io.BytesIO()
        pq.write_table(pa.table({"sha256": [f"{number}-{half}"]}), file)
        parts.append(f"predictions/model=v1/date=2026-01-01/{number}-{half}.parquet")
        store.put(parts[-1], file.getvalue())
    manifest = Manifest(number=0, version="v1", parts=tuple(parts), pictures=2, published_at="now")
    said.put((number, publish(store, manifest), ""))


def test_of_sixteen_nights_that_commit_one_manifest_one_wins(bucket: Settings) -> None:
    """The others are told that its number is taken; what is published is the winner's, both parts."""
    told = _sixteen(commit_night, bucket)
    (winner,) = (number for number, (won, _) in told.items() if won)
    store = ObjectStore(bucket)
    assert [each.number for each in manifests(store, "v1")] == [0]
    found = [id_ for table in published(store, "v1") for id_ in table["sha256"].to_pylist()]
    assert found == [f"{winner}-0", f"{winner}-1"]


def commit_archive(
    number: int,
    gate: Barrier,
    said: Queue[tuple[int, bool, str]],
    settings: Settings,
    root: Path,
    names: dict[int, str],
) -> None:
    """Publish an archive of which every shard is done already, as a run does at its end."""
    workspace = workspace_at(root, settings)
    wanted = Wanted(
        location=str(root / names.get(number, "set")),
        out=workspace.store.uri("out"),
        shard_pictures=10,
    )
    output = _AtOnce(settings.model_copy(update={"prefix": f"{settings.prefix}/out"}), gate)
    job, question = prepare(workspace, wanted)
    archive = archive_of(workspace, job, Scratch(folder=root, stage="archive"))
    with Planner(archive, output, shard_pictures=10) as planner:
        shards = list(planner)
    manifest, won = publish_archive(
        output,
        job.keys,
        question,
        archive=archive.name,
        plan=planner.plan,
        shards=shards,
    )
    said.put((number, won, str(manifest.number)))


def test_of_sixteen_runs_that_publish_one_archive_one_wins(
    bucket: Settings, tmp_path: Path
) -> None:
    """The others say that it was published already; it is whole, and a later run says so, too."""
    workspace = workspace_at(tmp_path, bucket)
    folder = write_folder(tmp_path / "set", {f"{n:03}.jpg": jpeg(n) for n in range(25)})
    out = workspace.store.uri("out")
    first = label(workspace, folder, out)
    workspace.store.delete(first.where.removeprefix(workspace.store.uri("")))

    told = _sixteen(commit_archive, bucket, tmp_path, {})

    assert sorted(told.values()) == [(False, "0")] * (COMMITTERS - 1) + [(True, "0")]
    again = label(workspace, folder, out)
    assert (again.published_now, again.labelled_now, again.manifest) == (False, 0, first.manifest)
    assert "published already" in str(again)
    assert len({row["uri"] for row in rows(workspace, again, out)}) == 25


def test_of_sixteen_runs_over_two_archives_each_manifest_is_one_of_theirs_whole(
    bucket: Settings, tmp_path: Path
) -> None:
    """They want the same number; the second archive's comes after the first's, with its parts alone."""
    workspace = workspace_at(tmp_path, bucket)
    for name, first in (("set", 0), ("other", 50)):
        files = {f"{n:03}.jpg": jpeg(n) for n in range(first, first + 25)}
        result = label(workspace, write_folder(tmp_path / name, files), workspace.store.uri("out"))
        workspace.store.delete(result.where.removeprefix(workspace.store.uri("")))

    names = dict.fromkeys(range(1, COMMITTERS, 2), "other")
    _sixteen(commit_archive, bucket, tmp_path, names)

    output = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}/out"}))
    job, _ = prepare(workspace, Wanted(location=str(tmp_path), out=workspace.store.uri("out")))
    found = archive_manifests(output, job.keys)
    assert [each.number for each in found] == list(range(len(found)))
    assert {each.archive for each in found} == {"set", "other"}
    for each in found:
        result_rows = rows(workspace, dataclasses.replace(result, manifest=each), output.uri(""))
        assert len({row["sha256"] for row in result_rows}) == 25
        assert (
            min(row["uri"] for row in result_rows)
            == ("000.jpg", "050.jpg")[each.archive == "other"]
        )
