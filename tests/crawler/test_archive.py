"""Archives hand out their members one by one; tricks and losses become rows, never silence."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from crawler.archive import ArchiveUnreadable, Member, SkippedMember, archive_members
from crawler.rejections import Reason

FILES = {"a.jpg": b"first", "deep/b.png": b"second", "deep/er/c": b""}


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is text here
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def reasons(members: list[Member]) -> dict[str, Reason]:
    return {each.name: each.reason for each in members if isinstance(each, SkippedMember)}


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "tar.xz", "zip"])
def test_every_kind_of_archive_gives_its_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"pictures.{kind}"
    if kind == "folder":
        write_folder(path, FILES)
    elif kind == "zip":
        write_zip(path, FILES)
    else:
        write_tar(path, FILES, "w" if kind == "tar" else f"w:{kind[4:]}")
    assert dict(each for each in archive_members(path) if isinstance(each, tuple)) == FILES


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize(
    "name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
)
def test_names_that_climb_out_are_reported_and_not_handed_out(
    write: type, name: str, tmp_path: Path
) -> None:
    members = list(archive_members(write(tmp_path / "x", {name: b"evil", "good.jpg": b"good"})))
    assert members[1] == ("good.jpg", b"good")
    assert list(reasons(members).values()) == [Reason.ADDRESS_FORBIDDEN]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_member_that_is_too_large_is_reported(kind: str, tmp_path: Path) -> None:
    write = {"folder": write_folder, "tar": write_tar, "zip": write_zip}[kind]
    path = write(tmp_path / "x", {"a": bytes(11), "b": bytes(10)})
    members = list(archive_members(path, max_bytes=10))
    assert reasons(members) == {"a": Reason.TOO_LARGE}
    assert members[1] == ("b", bytes(10))


def test_a_zip_bomb_is_read_no_further_than_allowed(tmp_path: Path) -> None:
    """50 MB that pack into 50 kB."""
    path = write_zip(tmp_path / "x.zip", {"bomb": bytes(50_000_000)})
    assert reasons(list(archive_members(path, max_bytes=1000))) == {"bomb": Reason.TOO_LARGE}


def test_links_in_a_tar_are_reported_and_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("soft", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            tar.addfile(info)
    assert set(reasons(list(archive_members(path)))) == {"soft", "pipe"}


def test_a_link_in_a_folder_is_reported_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = write_folder(tmp_path / "x", {"a": b"1"})
    (folder / "link").symlink_to(tmp_path / "secret")
    assert reasons(list(archive_members(folder))) == {"link": Reason.NOT_AN_IMAGE}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_breaks_off_gives_what_is_whole_and_says_so(mode: str, tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    path = write_tar(tmp_path / "x.tar", {"a": noise, "b": noise[::-1] * 9}, mode)
    path.write_bytes(path.read_bytes()[: 11_500 if mode == "w" else -120])
    members = list(archive_members(path))
    assert members[0] == ("a", noise)
    assert reasons(members) == {"x.tar": Reason.TRUNCATED}


def test_a_damaged_zip_member_is_reported_and_the_next_one_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a": bytes(range(256)) * 9, "b": b"good"})
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    members = list(archive_members(path))
    assert reasons(members) == {"a": Reason.CORRUPT}
    assert members[1] == ("b", b"good")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"hidden": b"1"}).read_bytes()
    path = write_tar(tmp_path / "x.tar", {"a": b"1", "inner.zip": inner})
    assert [each[0] for each in archive_members(path) if isinstance(each, tuple)] == [
        "a",
        "inner.zip",
    ]


@pytest.mark.parametrize("data", [b"just text, and quite a lot of it" * 40, b""])
def test_a_file_of_another_kind_is_refused_in_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ArchiveUnreadable, match="x is neither a folder, a tar nor a zip"):
        archive_members(tmp_path / "x")


def test_a_missing_path_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreadable, match="missing cannot be read"):
        archive_members(tmp_path / "missing")


def test_an_empty_zip_has_no_members(tmp_path: Path) -> None:
    assert list(archive_members(write_zip(tmp_path / "x.zip", {}))) == []
