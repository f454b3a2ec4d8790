"""What an archive's run could not have and a later one can: tried again, alone, each picture once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.archive.entries import Entry, shard_id
from flows.archive.job import Wanted, labeller, output_of, prepare
from flows.archive.label import ArchiveResult
from flows.archive.places import file_etag, output_at
from flows.archive.plan import Shard
from flows.archive.rows import Format
from flows.leases import MIN_TTL_S
from flows.settings import Settings
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.archives import jpeg, label, rows, workspace_at
from tests.flows.gallery import HANGS_UP, Gallery, gallery
from tests.flows.killing import killed_at, put
from tests.flows.store_proxy import run_proxy
from tests.flows.test_imports import write_folder

PICTURES = range(25)
FAILING = {"/3.png": 500, "/11.png": 500, "/12.png": HANGS_UP}
"""Two servers' errors and a connection that is reset: more than one shard has some."""


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket)


@pytest.fixture
def site() -> Iterator[Gallery]:
    with gallery() as site:
        yield site


@pytest.fixture
def table(site: Gallery, tmp_path: Path) -> Path:
    """Addresses of pictures, one of them twice and failing; of nothing; and no address."""
    urls = [*map(site.picture_url, PICTURES), site.picture_url(3), f"{site.base}/none.png"]
    path = tmp_path / "table.csv"
    path.write_text("url\n" + "\n".join([*urls, "no address"]) + "\n")
    return path


def scores(found: list[dict[str, object]]) -> dict[str, object]:
    """Return the score of vinyl by address; None where there is none."""
    return {str(row["uri"]): row["scores"] and row["scores"]["vinyl"] for row in found}  # type: ignore[index]


@pytest.mark.parametrize("kept", [False, True])
def test_addresses_that_failed_for_the_moment_are_asked_again_and_no_others(
    kept: bool, workspace: Workspace, site: Gallery, table: Path, tmp_path: Path
) -> None:
    """By a later run, without an option, embeddings kept or not; their rows take the old ones' places."""
    site.statuses.update(FAILING)
    out = tmp_path / "out"
    first = label(workspace, table, out, keep_embeddings=kept, allow_private=True)
    assert first.manifest.errors == {"bad_row": 1, "connection_failed": 1, "http_error": 4}
    assert first.manifest.to_retry == 4
    assert "6 unreadable (4 to be tried again by the next run)" in str(first)
    before = rows(workspace, first, out)

    site.statuses.clear()
    site.asked.clear()
    second = label(workspace, table, out, keep_embeddings=kept, allow_private=True)
    assert {path for path in site.asked if "png" in path} == set(FAILING)
    assert second.manifest.errors == {"bad_row": 1, "http_error": 1}
    assert (second.manifest.labelled, second.manifest.to_retry) == (26, 0)
    assert second.manifest.number == first.manifest.number + 1
    # What was published first is still there, as it was.
    assert rows(workspace, first, out) == before

    site.asked.clear()
    third = label(workspace, table, out, keep_embeddings=kept, allow_private=True)
    assert (third.labelled_now, third.published_now, third.manifest) == (0, False, second.manifest)
    assert not site.asked

    calm = label(workspace, table, tmp_path / "calm", allow_private=True)
    found, expected = rows(workspace, second, out), rows(workspace, calm, tmp_path / "calm")
    assert [(row["uri"], row["sha256"], row["error"]) for row in found] == [
        (row["uri"], row["sha256"], row["error"]) for row in expected
    ]
    assert scores(found).keys() == scores(expected).keys()
    for uri, score in scores(found).items():
        if score is not None:
            np.testing.assert_allclose(score, scores(expected)[uri], atol=2e-3)  # type: ignore[call-overload]


def test_what_still_fails_stays_a_row_and_is_not_published_anew(
    workspace: Workspace, site: Gallery, table: Path, tmp_path: Path
) -> None:
    """Each picture once, and the next run tries again."""
    site.statuses.update(FAILING)
    first = label(workspace, table, tmp_path / "out", allow_private=True)
    again = label(workspace, table, tmp_path / "out", allow_private=True)
    assert (again.published_now, again.manifest) == (False, first.manifest)
    del site.statuses["/3.png"]
    some = label(workspace, table, tmp_path / "out", allow_private=True)
    assert (some.manifest.to_retry, some.manifest.labelled) == (2, 24)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_of_other_formats_are_replaced_as_well(
    kind: Format, workspace: Workspace, site: Gallery, table: Path, tmp_path: Path
) -> None:
    """They are made from vectors, which lie beside them until nothing is left to try."""
    site.statuses.update(FAILING)
    label(workspace, table, tmp_path / "out", format=kind, allow_private=True)
    assert list((tmp_path / "out").glob("labels/*/unfinished/*/*"))
    site.statuses.clear()
    second = label(workspace, table, tmp_path / "out", format=kind, allow_private=True)
    assert second.manifest.labelled == 26
    assert len(lines(workspace, second, tmp_path / "out", kind)) == 28
    assert not list((tmp_path / "out").glob("labels/*/unfinished/*/*"))


def lines(workspace: Workspace, result: ArchiveResult, out: Path, kind: Format) -> list[object]:
    output = output_at(workspace, str(out))
    texts = [output.get(part.key).decode() for part in result.manifest.parts]
    if kind == "csv":
        return [row for text in texts for row in csv.DictReader(io.StringIO(text))]
    return [line for text in texts for line in text.splitlines()]


def test_the_next_question_has_what_a_kept_embedding_could_not_be_made_of(
    workspace: Workspace, site: Gallery, table: Path, tmp_path: Path
) -> None:
    """Other prompts over kept embeddings: only what had failed is asked for."""
    site.statuses.update(FAILING)
    label(workspace, table, tmp_path / "out", keep_embeddings=True, allow_private=True)
    site.statuses.clear()
    site.asked.clear()
    text = (workspace.root / "project.toml").read_text().replace("a disc", "a black disc")
    other = workspace_at(workspace.root, workspace.settings, text)
    assert label(other, table, tmp_path / "out", allow_private=True).manifest.labelled == 26
    assert {path for path in site.asked if "png" in path} == set(FAILING)
    site.asked.clear()
    again = workspace_at(workspace.root, workspace.settings, text.replace("black", "round"))
    assert label(again, table, tmp_path / "out", allow_private=True).manifest.labelled == 26
    assert not site.asked


def label_table(root: Path, settings: Settings, table: str, out: str) -> None:
    """Label a table of addresses as a process of its own does."""
    label(workspace_at(root, settings), table, out, allow_private=True, lease_s=MIN_TTL_S)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "answered"),
    [
        (put("/labels/", ".parquet"), False),
        (put("/done/"), False),
        (put("/done/"), True),
        (put("/manifests/"), False),
        (put("/manifests/"), True),
    ],
)
def test_a_run_that_is_killed_while_it_tries_again_loses_no_row_and_doubles_none(
    point: object,
    answered: bool,
    workspace: Workspace,
    site: Gallery,
    table: Path,
    store_server: RunningStore,
) -> None:
    """Before or after a part, its note and the manifest are written."""
    out = workspace.store.uri("out")
    site.statuses.update(FAILING)
    first = label(workspace, table, out, allow_private=True)
    site.statuses.clear()
    with run_proxy(store_server) as proxy:
        through = workspace.settings.model_copy(update={"endpoint": proxy.endpoint})
        arguments = (workspace.root, through, str(table), out)
        assert killed_at(proxy, point, label_table, *arguments, answered=answered)  # type: ignore[arg-type]
    for lease in list(workspace.store.keys("leases/")):
        workspace.store.delete(lease)  # as if two minutes had passed: the host's has run out
    found = label(workspace, table, out, allow_private=True, lease_s=MIN_TTL_S)
    assert found.manifest.number == first.manifest.number + 1
    uris = sorted(row["uri"] for row in rows(workspace, found, out))
    assert uris == sorted(row["uri"] for row in rows(workspace, first, out))
    assert (found.manifest.labelled, found.manifest.to_retry) == (26, 0)


def test_a_file_that_cannot_be_read_for_the_moment_is_read_again_in_its_place(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The operating system refuses it, as a share does that is away; rows keep the plan's order."""
    files = {f"{n}.jpg": jpeg(n) for n in range(5)}
    folder = write_folder(tmp_path / "set", files)
    entries = [
        Entry(kind="picture", name=name, etag=file_etag((folder / name).stat()), size=len(data))
        for name, data in files.items()
    ]
    aside = (folder / "2.jpg").rename(tmp_path / "2.jpg")
    (folder / "2.jpg").mkdir()
    job, _ = prepare(workspace, Wanted(location=str(folder), out=str(tmp_path / "out")))
    shard = Shard(id=shard_id(entries), pictures=5, part="", row_group=0)

    with labeller(workspace, job) as made:
        first = made.label(shard, lambda _: entries, lambda _: None)
        assert (first.errors, first.to_retry) == ({"read_failed": 1}, 1)
        (folder / "2.jpg").rmdir()
        aside.rename(folder / "2.jpg")
        second = made.label(shard, lambda _: entries, lambda _: None)

    assert (second.labelled, second.errors, second.to_retry) == (5, {}, 0)
    table = output_of(workspace, job).get(second.key)
    assert pq.read_table(io.BytesIO(table)).column("uri").to_pylist() == list(files)
