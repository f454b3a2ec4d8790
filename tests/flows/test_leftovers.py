"""What archives' runs have left is swept where their answers lie; what counts, or is to count, stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flows.archive.label import ArchiveResult
from flows.archive.leftovers import leftovers
from flows.archive.places import output_at
from flows.cli_house import sweep as sweep_command
from flows.maintain import OLDER_THAN_S, rubbish, sweep
from flows.objects import ObjectStore
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.archives import jpeg, label, rows, workspace_at
from tests.flows.test_cli import settings_of
from tests.flows.test_imports import write_folder


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", {f"{n:03}.jpg": jpeg(n) for n in range(25)})


def add_leftovers(workspace: Workspace, result: ArchiveResult, out: str) -> list[str]:
    """Put what a kill leaves: a part without a note, and one that was replaced before it counted."""
    output = output_at(workspace, out)
    part = result.manifest.parts[0].key
    orphan = f"{part.rpartition('/')[0]}/0123456789abcdef-0123456789abcdef.parquet"
    replaced = f"{part.rpartition('-')[0]}-0123456789abcdef.parquet"
    for key in (orphan, replaced):
        output.put(key, b"bytes")
    return sorted([orphan, replaced])


def test_parts_that_no_manifest_names_go_from_the_bucket_and_the_rest_stays(
    workspace: Workspace, pictures: Path, bucket: Settings
) -> None:
    """Named first by a dry run; nothing that is young goes; older publications stay readable."""
    out = workspace.store.uri("answers")
    first = label(workspace, pictures, out)
    (pictures / "003.jpg").write_bytes(jpeg(100))
    second = label(workspace, pictures, out)
    extra = add_leftovers(workspace, first, out)
    place = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}/answers"}))
    before = set(place.keys())

    assert rubbish(workspace) == []
    assert sweep(workspace).archive_parts == 0
    assert rubbish(workspace, older_than_s=0) == [place.uri(key) for key in extra]
    assert set(place.keys()) == before

    assert sweep(workspace, older_than_s=0).archive_parts == 2
    assert set(place.keys()) == before - set(extra)
    for result in (first, second):
        assert len(rows(workspace, result, out)) == 25
    assert label(workspace, pictures, out).labelled_now == 0


def test_what_a_run_has_done_and_not_published_yet_stays_for_a_month(
    workspace: Workspace, pictures: Path, bucket: Settings
) -> None:
    """It is carried on until then; after that note and part go together, and it is done anew."""
    out = workspace.store.uri("answers")
    first = label(workspace, pictures, out)
    output = output_at(workspace, out)
    output.delete(first.where.removeprefix(output.uri("")))
    assert leftovers(output, older_than_s=0) == []
    gone = leftovers(output, older_than_s=0, unpublished_s=0)
    assert {part.key for part in first.manifest.parts} < set(gone)
    assert gone.index(first.manifest.parts[0].key) > min(
        at for at, key in enumerate(gone) if "/done/" in key
    )
    assert label(workspace, pictures, out).labelled_now == 0  # which publishes it again

    output.delete(first.where.removeprefix(output.uri("")))
    for key in leftovers(output, older_than_s=0, unpublished_s=0):
        output.delete(key)
    again = label(workspace, pictures, out)
    assert (again.labelled_now, again.manifest) == (25, first.manifest)


def test_a_place_that_was_done_away_with_is_passed_over(
    workspace: Workspace, pictures: Path
) -> None:
    workspace.store.put("archives/gone.txt", b"s3://nobody-made-this-one/answers")
    assert sweep(workspace, older_than_s=0).archive_parts == 0


def test_a_folder_of_answers_is_swept_by_its_name(
    workspace: Workspace,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A dry run names what is older than a day and nothing names; then it goes, and nothing else."""
    for name, value in settings_of(workspace.settings).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "answers"
    result = label(workspace, pictures, out)
    extra = add_leftovers(workspace, result, str(out))
    before = {path for path in out.rglob("*") if path.is_file()}

    sweep_command(out=str(out), dry_run=True, project=workspace.root)
    assert capsys.readouterr().out.strip() == ""
    long_ago = time.time() - OLDER_THAN_S - 60
    for path in before:
        os.utime(path, (long_ago, long_ago))
    sweep_command(out=str(out), dry_run=True, project=workspace.root)
    assert capsys.readouterr().out.split() == extra
    assert {path for path in out.rglob("*") if path.is_file()} == before
    sweep_command(out=str(out), project=workspace.root)
    assert "swept archive parts 2" in capsys.readouterr().out
    left = {path for path in out.rglob("*") if path.is_file()}
    assert before - left == {out / key for key in extra}
    assert label(workspace, pictures, out).labelled_now == 0
