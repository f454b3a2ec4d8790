"""Archives labelled where they lie: every kind of place, what is done again, and what is not."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crawler.archive import ArchiveUnreadable
from flows.archive.entries import Entry
from flows.archive.places import FolderInput, output_at
from flows.archive.reading import Reader
from flows.cli import app
from flows.errors import Permanent
from flows.objects import ObjectStore
from flows.pixel_feed import Unreadable
from flows.registry import Registry
from flows.settings import Settings
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.archives import PROJECT, jpeg, label, rows, workspace_at
from tests.flows.gallery import gallery
from tests.flows.line import Line
from tests.flows.store_proxy import run_proxy
from tests.flows.test_cli import settings_of
from tests.flows.test_imports import write_folder, write_tar
from tests.waiting import until

PICTURES = {f"{number:03}.jpg": jpeg(number) for number in range(25)}


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket)


@pytest.fixture
def elsewhere(bucket: Settings) -> ObjectStore:
    """Another prefix of the same store, as an archive that is not the project's."""
    return ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}-elsewhere"}))


def put_all(store: ObjectStore, folder: str, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        store.put(f"{folder}/{name}", data)
    return store.uri(f"{folder}/")


def test_every_picture_of_a_bucket_has_a_row_that_says_where_it_lies(
    workspace: Workspace, elsewhere: ObjectStore
) -> None:
    """Scores in [0, 1] and an answer for each label, thresholds, the model and its kind."""
    where, out = put_all(elsewhere, "photos", PICTURES), elsewhere.uri("labels")
    result = label(workspace, where, out)
    found = rows(workspace, result, out)
    assert (result.manifest.pictures, result.manifest.labelled) == (25, 25)
    assert [row["uri"] for row in found] == [f"{where}{name}" for name in PICTURES]
    for row, data in zip(found, PICTURES.values(), strict=True):
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["size"], row["error"], row["kind"]) == (len(data), None, "pre-label")
        assert row["model"] == workspace.project.taxonomy().id
        for name in ("vinyl", "turntable"):
            assert 0 <= row["scores"][name] <= 1
            assert row["answers"][name] == (row["scores"][name] >= row["thresholds"][name])


def test_the_same_pictures_get_the_same_scores_wherever_they_lie(
    workspace: Workspace, elsewhere: ObjectStore, tmp_path: Path
) -> None:
    """In a folder, a tar, shards by a pattern, a zip, a Parquet file of bytes, and a bucket."""
    tmp = tmp_path / "archives"
    tmp.mkdir()
    names = list(PICTURES)
    write_folder(tmp / "folder", {**PICTURES, "000.json": b"{}", "notes.txt": b"beside"})
    write_tar(tmp / "all.tar", {**PICTURES, "000.cls": b"3"})
    for number in range(2):
        part = {name: PICTURES[name] for name in names[number::2]}
        write_tar(tmp / f"s-{number:02}.tar", part)
    with zipfile.ZipFile(tmp / "all.zip", "w") as archive:
        for name, data in PICTURES.items():
            archive.writestr(name, data)
    pq.write_table(
        pa.table({"image": [{"bytes": PICTURES[name], "path": name} for name in names]}),
        tmp / "all.parquet",
        row_group_size=7,
    )
    put_all(elsewhere, "x", {"s.tar": (tmp / "all.tar").read_bytes()})
    places: list[Path | str] = [
        tmp / "folder",
        tmp / "all.tar",
        f"{tmp}/s-{{00..01}}.tar",
        tmp / "all.zip",
        tmp / "all.parquet",
        elsewhere.uri("x/"),
    ]
    scores = []
    for number, place in enumerate(places):
        out = tmp_path / f"out-{number}"
        found = rows(workspace, label(workspace, place, out), out)
        by_name = {row["member"] or row["uri"]: row["scores"]["vinyl"] for row in found}
        assert sorted(by_name) == names
        scores.append([by_name[name] for name in names])
    np.testing.assert_allclose(scores, [scores[0]] * len(places), atol=2e-3)


def test_a_row_of_a_tar_says_where_in_it_the_bytes_lie(
    workspace: Workspace, tmp_path: Path
) -> None:
    tar = write_tar(tmp_path / "all.tar", PICTURES)
    found = rows(workspace, label(workspace, tar, tmp_path / "out"), tmp_path / "out")
    data = tar.read_bytes()
    for row in found:
        assert data[row["offset"] : row["offset"] + row["size"]] == PICTURES[row["member"]]


def test_pictures_that_cannot_be_read_are_rows_with_a_reason(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Cut off, no picture, empty; and a tar that breaks off gives what came before."""
    tar = write_tar(tmp_path / "set" / "cut.tar", PICTURES).read_bytes()
    (tmp_path / "set" / "cut.tar").write_bytes(tar[: 4 * len(PICTURES["000.jpg"])])
    files = {"a.jpg": PICTURES["000.jpg"], "b.jpg": PICTURES["001.jpg"][:500], "c.jpg": b"<html>"}
    for name, body in files.items():
        (tmp_path / "set" / name).write_bytes(body)
    result = label(workspace, tmp_path / "set", tmp_path / "out")
    reasons = {row["uri"]: row["error"] for row in rows(workspace, result, tmp_path / "out")}
    assert reasons == {
        "a.jpg": None,
        "b.jpg": "truncated",
        "c.jpg": "not_an_image",
        "cut.tar": "truncated",
    }
    assert result.manifest.errors == {"not_an_image": 1, "truncated": 2}
    assert result.manifest.labelled > 1


def test_nothing_is_read_again_where_nothing_has_changed(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The second run finds every shard done and the same manifest published."""
    folder = write_folder(tmp_path / "set", PICTURES)
    first = label(workspace, folder, tmp_path / "out")
    again = label(workspace, folder, tmp_path / "out")
    assert (first.labelled_now, again.labelled_now) == (25, 0)
    assert again.manifest == first.manifest


def test_only_the_shard_of_a_changed_picture_is_labelled_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "set", PICTURES)
    first = label(workspace, folder, tmp_path / "out")
    (folder / "003.jpg").write_bytes(PICTURES["004.jpg"])
    again = label(workspace, folder, tmp_path / "out")
    assert 0 < again.labelled_now < 25
    assert again.manifest.number == first.manifest.number + 1
    assert len(set(again.manifest.parts) - set(first.manifest.parts)) == 1
    found = {row["uri"]: row["sha256"] for row in rows(workspace, again, tmp_path / "out")}
    assert len(found) == 25
    assert found["003.jpg"] == found["004.jpg"]


def test_a_picture_that_comes_first_leaves_the_other_shards_alone(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Shards are cut by what is in them, not by counting from the beginning."""
    folder = write_folder(tmp_path / "set", {f"{n:04}.jpg": jpeg(n) for n in range(100)})
    first = label(workspace, folder, tmp_path / "out")
    (folder / "0000-new.jpg").write_bytes(jpeg(1000))
    again = label(workspace, folder, tmp_path / "out")
    assert again.manifest.pictures == 101
    assert (
        len(set(again.manifest.parts) & set(first.manifest.parts)) >= len(first.manifest.parts) - 2
    )


def test_with_kept_embeddings_the_next_question_reads_no_picture(
    store_server: RunningStore, bucket: Settings, tmp_path: Path
) -> None:
    """Other labels over the same archive: the store is asked for no object of it."""
    out = "s3://tests/" + bucket.prefix + "-out"
    archive = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}-archive"}))
    where = put_all(archive, "photos", PICTURES)
    with run_proxy(store_server) as proxy:
        through = bucket.model_copy(update={"endpoint": proxy.endpoint})
        first = label(workspace_at(tmp_path / "p", through), where, out, keep_embeddings=True)
        read = [path for method, path in proxy.asked if method == "GET" and "photos/" in path]
        assert sum(".jpg" in path for path in read) == 25
        proxy.asked.clear()
        project = (tmp_path / "p" / "project.toml").read_text().replace("a disc", "a black disc")
        other = workspace_at(tmp_path / "p", through, project)
        second = label(other, where, out)
        assert not [path for _, path in proxy.asked if ".jpg" in path]
    assert second.manifest.question != first.manifest.question
    assert second.manifest.labelled == 25


def test_embeddings_that_are_kept_give_the_scores_that_pictures_give(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "set", {**PICTURES, "bad.jpg": b"no picture"})
    direct = label(workspace, folder, tmp_path / "direct")
    label(workspace, folder, tmp_path / "kept", keep_embeddings=True, format="csv")
    kept = label(workspace, folder, tmp_path / "kept")
    assert [each.sha256 for each in kept.manifest.parts] == [
        each.sha256 for each in direct.manifest.parts
    ]


def test_other_formats_hold_the_same_rows(workspace: Workspace, tmp_path: Path) -> None:
    folder, out = write_folder(tmp_path / "set", {**PICTURES, "bad.jpg": b"no"}), tmp_path / "out"
    expected = rows(workspace, label(workspace, folder, out), out)
    output = output_at(workspace, str(out))
    lines = label(workspace, folder, out, format="jsonl").manifest.parts
    assert [json.loads(x) for part in lines for x in output.get(part.key).splitlines()] == expected
    cells = [
        row
        for part in label(workspace, folder, out, format="csv").manifest.parts
        for row in csv.DictReader(io.StringIO(output.get(part.key).decode()))
    ]
    assert [row["scores.vinyl"] for row in cells] == [
        "" if row["scores"] is None else str(np.float32(row["scores"]["vinyl"])) for row in expected
    ]


@pytest.mark.slow
def test_a_trained_model_answers_as_it_does_at_night(line: Line, tmp_path: Path) -> None:
    """The production model, with its own thresholds; from vectors of 16 bits, too."""
    workspace = line.workspace
    sha256 = next(iter(sorted(workspace.catalog.permitted())))
    write_folder(tmp_path / "set", {"a.jpg": workspace.catalog.read_image_bytes(sha256)})
    result = label(workspace, tmp_path / "set", tmp_path / "out")
    (row,) = rows(workspace, result, tmp_path / "out")
    head = Registry(workspace.store, "line").load(line.trained.version).head
    _, embedding_1D = workspace.catalog.embeddings(head.encoder_id, [sha256])
    assert (row["kind"], row["model"]) == ("trained", line.trained.version)
    assert list(row["thresholds"].values()) == [float(each) for each in head.thresholds_L]
    np.testing.assert_allclose(
        list(row["scores"].values()), head.scores(embedding_1D)[0], atol=2e-3
    )


def test_a_table_of_addresses_is_fetched_row_by_row(workspace: Workspace, tmp_path: Path) -> None:
    """What does not come, and what is no address, are rows with the reason."""
    with gallery() as site:
        urls = [*map(site.picture_url, range(5)), site.picture_url(1), f"{site.base}/none.png"]
        table = tmp_path / "table.csv"
        table.write_text("url\n" + "\n".join([*urls, "no address"]) + "\n")
        result = label(workspace, table, tmp_path / "out", allow_private=True)
        found = rows(workspace, result, tmp_path / "out")
    assert sorted(row["uri"] for row in found if row["error"] is None) == sorted(urls[:6])
    assert result.manifest.errors == {"bad_row": 1, "http_error": 1}


def test_a_large_tar_is_parted_into_shards_that_hold_every_member_once(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.archive.listing.SPLIT_TAR_BYTES", 20_000)
    tar = write_tar(tmp_path / "all.tar", PICTURES)
    result = label(workspace, tar, tmp_path / "out")
    assert len(result.manifest.parts) > 1
    assert [row["member"] for row in rows(workspace, result, tmp_path / "out")] == list(PICTURES)


def test_results_inside_of_the_archive_are_no_part_of_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "set", PICTURES)
    label(workspace, folder, folder / "labels")
    assert label(workspace, folder, folder / "labels").manifest.pictures == 25


def test_a_tar_that_is_replaced_while_it_is_read_says_so(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Listed as one thing and read as another: a row, and the next run reads it anew."""
    folder = write_folder(tmp_path / "set", {"a.jpg": PICTURES["000.jpg"]})
    reader = Reader(place=FolderInput(folder), policy=workspace.project.policy())
    entry = Entry(kind="picture", name="a.jpg", etag="another", size=10, last=10)
    with reader.pictures([entry]) as pictures:
        found = next(pictures).read()
    assert isinstance(found, Unreadable)
    assert found.reason == "changed"


def test_nothing_to_label_is_said_in_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    for location in (f"{tmp_path}/*.tar", workspace.store.uri("nothing/"), f"{tmp_path}/none"):
        with pytest.raises(ArchiveUnreadable, match="there is nothing"):
            label(workspace, location, tmp_path / "out")


def test_production_without_a_model_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", {"a.jpg": PICTURES["000.jpg"]})
    with pytest.raises(Permanent, match="no model is in production"):
        label(workspace, folder, tmp_path / "out", model="production")


def test_a_picture_that_kills_its_decoder_is_a_row_and_the_others_are_labelled(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by the processor time that it takes, twice; no other picture pays for it."""
    monkeypatch.setattr("flows.pixel_feed.DECODE_CPU_S", 0.3)
    file = io.BytesIO()
    Image.effect_noise((9000, 9000), 50).save(file, "PNG", compress_level=0)
    noise = file.getvalue()
    files = {**PICTURES, "012.png": noise}
    project = f"{PROJECT}max_bytes = {len(noise)}\n"
    at = workspace_at(workspace.root, workspace.settings, project)
    result = label(at, write_folder(tmp_path / "set", files), tmp_path / "out")
    assert result.manifest.errors == {"decoder_crashed": 1}
    assert result.manifest.labelled == len(PICTURES)


def test_the_command_says_what_came_of_it(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A table, and the line with which a stage ends; without --out it is not used rightly."""
    for name, value in settings_of(workspace.settings).items():
        monkeypatch.setenv(name, value)
    folder = write_folder(tmp_path / "set", {**PICTURES, "bad.jpg": b"no picture"})
    command = ["label", str(folder), "--project", str(workspace.root)]
    assert app(command, result_action="return_value") == 2
    app([*command, "--out", str(tmp_path / "out")], result_action="return_value")
    said = " ".join(capsys.readouterr().out.split())
    assert "unreadable: not_an_image 1 " in said
    assert "labelled 25 of 26 pictures, 26 now, 1 unreadable, by pre-label" in said


KILLED_RUN = """
import sys
from pathlib import Path
from flows.workspace import open_workspace
from tests.flows.archives import label

label(open_workspace(Path(sys.argv[1])), sys.argv[2], sys.argv[3])
"""


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_publish_what_one_alone_does(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Killed with -9 in the middle; every picture is in the result once, by content hashes."""
    folder = write_folder(tmp_path / "set", {f"{n:04}.jpg": jpeg(n) for n in range(150)})
    expected = label(workspace, folder, tmp_path / "expected")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED_RUN, workspace.root, folder, tmp_path / "out"],
            env={**os.environ, **settings_of(workspace.settings)},
        )

    done = tmp_path / "out" / "labels" / expected.manifest.question / "done" / "parquet"
    first, second = start(), start()
    try:
        until(lambda: done.exists() and any(done.iterdir()), timeout_s=400)
        first.kill()
        assert first.wait() != 0
        assert second.wait(400) == 0
    finally:
        for worker in (first, second):
            worker.kill()
            worker.wait()
    found = label(workspace, folder, tmp_path / "out")
    assert found.labelled_now == 0
    assert found.manifest == expected.manifest
    assert len({row["uri"] for row in rows(workspace, found, tmp_path / "out")}) == 150
