"""Importing: folders, shards, patterns and buckets, with what lies beside the pictures."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from crawler.archive import ArchiveUnreadable
from flows.collect import CollectResult
from flows.holdings import expand_braces
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.progress import Progress
from flows.rows import Provenance
from flows.settings import Settings
from flows.sink import CommitLimits
from flows.workspace import Workspace
from tests.flows.gallery import png, workspace_at

SAMPLE = {
    "sample.png": png(1),
    "sample.json": json.dumps({"url": "https://a.org/1", "alt": "an alt", "stars": 5}).encode(),
    "sample.txt": b"a caption\n",
}


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket, "http://127.0.0.1:1")


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def take(workspace: Workspace, location: Path | str) -> CollectResult:
    result, repeated = import_pictures(workspace, str(location))
    assert not repeated
    return result


def places(workspace: Workspace) -> list[Provenance]:
    return [place for image in workspace.catalog.images() for place in image.provenance]


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_what_lies_beside_a_picture_is_what_it_says_about_it(
    write: type, workspace: Workspace, tmp_path: Path
) -> None:
    """JSON is metadata, text the caption; neither is a picture of its own."""
    result = take(workspace, write(tmp_path / "set.x", SAMPLE))
    assert (result.links, result.kept, result.rejected) == (1, 1, {})
    (place,) = places(workspace)
    assert (place.url, place.alt) == ("archive:set.x/sample.png", "an alt")
    assert json.loads(place.about) == {
        "caption": "a caption",
        "columns": {"stars": "5", "url": "https://a.org/1"},
    }


def test_shards_are_taken_by_their_pattern(workspace: Workspace, tmp_path: Path) -> None:
    """A range in braces names those that are there; members keep the shard in their address."""
    for number in range(3):
        write_tar(tmp_path / f"s-{number:03}.tar", {"a.png": png(number)})
    assert take(workspace, f"{tmp_path}/s-{{000..001}}.tar").kept == 2
    assert take(workspace, f"{tmp_path}/s-*.tar").links == 3
    assert {place.url for place in places(workspace)} == {
        "archive:s-{000..001}.tar/s-000.tar/a.png",
        "archive:s-{000..001}.tar/s-001.tar/a.png",
        "archive:s-*.tar/s-000.tar/a.png",
        "archive:s-*.tar/s-001.tar/a.png",
        "archive:s-*.tar/s-002.tar/a.png",
    }


def test_shards_of_one_name_in_two_folders_stay_apart(workspace: Workspace, tmp_path: Path) -> None:
    write_tar(tmp_path / "x" / "0.tar", {"a.png": png(1)})
    write_tar(tmp_path / "y" / "0.tar", {"a.png": png(2)})
    assert take(workspace, f"{tmp_path}/*/0.tar").kept == 2
    assert [place.url for place in sorted(places(workspace), key=lambda place: place.url)] == [
        "archive:0.tar/x/0.tar/a.png",
        "archive:0.tar/y/0.tar/a.png",
    ]


def test_a_shard_that_is_damaged_is_a_row_and_the_next_one_is_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "0.tar").write_bytes(b"nothing of the kind" * 100)
    write_tar(tmp_path / "1.tar", {"a.png": png(1)})
    result = take(workspace, f"{tmp_path}/*.tar")
    assert (result.kept, result.rejected) == (1, {"corrupt": 1})


def test_pictures_and_shards_in_a_bucket_are_taken(workspace: Workspace, tmp_path: Path) -> None:
    """Another prefix of the same store: objects with what lies beside them, and a tar among them."""
    settings = workspace.settings
    other = ObjectStore(settings.model_copy(update={"prefix": f"{settings.prefix}-elsewhere"}))
    for name, data in SAMPLE.items():
        other.put(f"photos/{name}", data)
    other.put("photos/t.tar", write_tar(tmp_path / "t.tar", {"b.png": png(2)}).read_bytes())
    result = take(workspace, other.uri("photos/"))
    assert (result.links, result.kept, result.rejected) == (2, 2, {})
    found = {place.url.rpartition("photos/")[2]: place.about for place in places(workspace)}
    assert found.keys() == {"sample.png", "t.tar/b.png"}
    assert "a caption" in found["sample.png"]


def test_our_own_shards_come_back_with_all_they_carry(
    workspace: Workspace, bucket: Settings, tmp_path: Path
) -> None:
    """Alternative text and what is said about a picture survive a dataset's moving house."""
    take(workspace, write_folder(tmp_path / "set", SAMPLE))
    elsewhere = workspace_at(
        tmp_path / "second",
        bucket.model_copy(update={"prefix": f"{bucket.prefix}-second"}),
        "http://127.0.0.1:1",
    )
    assert take(elsewhere, workspace.store.uri("shards/")).kept == 1
    (place,) = places(elsewhere)
    about = json.loads(place.about)
    assert (place.alt, about["caption"], about["columns"]["stars"]) == ("an alt", "a caption", "5")


def test_a_picture_that_was_recorded_as_forbidden_is_not_taken(
    workspace: Workspace, tmp_path: Path
) -> None:
    consent = {
        "allowed": False,
        "signals": [{"kind": "tdmrep", "value": "1", "where": "https://a.org/"}],
    }
    files = {"a.png": png(1), "a.json": json.dumps({"consent": consent}).encode()}
    assert take(workspace, write_folder(tmp_path / "set", files)).rejected == {"tdmrep": 1}


def test_text_beside_no_picture_is_a_row_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    files = {"a.png": png(1), "notes.txt": b"about all", "other.json": b"{}"}
    result = take(workspace, write_folder(tmp_path / "set", files))
    assert (result.kept, result.rejected) == (1, {"not_an_image": 2})


def test_an_import_that_was_cut_off_is_carried_on(workspace: Workspace, tmp_path: Path) -> None:
    """Under the same run, without reading again what it had committed, until it is whole."""
    folder = write_folder(tmp_path / "set", {f"{n:03}.png": png(n) for n in range(30)})

    @contextmanager
    def cut_off_at_25(title: str) -> Iterator[Progress]:
        def progress(done: int, total: int | None, said: object = "") -> None:
            if done == 25:
                raise KeyboardInterrupt

        yield progress

    limits = CommitLimits(images=10)
    with pytest.raises(KeyboardInterrupt):
        import_pictures(workspace, str(folder), watch=cut_off_at_25, limits=limits)
    done = list(workspace.catalog.links())
    assert len(done) == 20
    for row in done:
        (folder / row.url.rpartition("/")[2]).write_text("read again, it would be rejected")
    result = take(workspace, folder)
    assert {row.run_id for row in done} == {result.run_id}
    assert (result.links, result.rejected, result.fetched) == (30, {}, 10)
    assert {len(image.provenance) for image in workspace.catalog.images()} == {1}


def test_nothing_to_import_is_said_in_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    for location in (f"{tmp_path}/*.tar", workspace.store.uri("nothing/"), f"{tmp_path}/none"):
        with pytest.raises(ArchiveUnreadable):
            import_pictures(workspace, location)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
    ],
)
def test_braces_are_what_a_shell_makes_of_them(pattern: str, names: list[str]) -> None:
    assert list(expand_braces(pattern)) == names


def test_braces_that_name_too_many_are_refused() -> None:
    with pytest.raises(ArchiveUnreadable, match="more than 1000000"):
        list(expand_braces("{0..9999999}"))
