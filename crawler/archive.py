"""Pictures out of a folder, a tar (plain, gzip, bzip2, xz) or a zip, one member at a time."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from crawler.rejections import CrawlerError, Reason

DEFAULT_MAX_BYTES = 30_000_000

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an empty one
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


class ArchiveUnreadable(CrawlerError):
    """The path is no archive that can be opened; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedMember:
    """A member whose bytes are not handed out, and why."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBefore:
    """A member that its reader has already; its bytes were not read."""

    name: str


Member = tuple[str, bytes] | SkippedMember | TakenBefore

Taken = Callable[[str], bool]
"""Says of a member's name whether it is taken already."""


def untaken(name: str) -> bool:
    """Say that nothing is taken yet."""
    return False


def archive_members(
    path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, taken: Taken = untaken
) -> Iterator[Member]:
    """Yield (name, bytes) for every file in a folder, tar or zip; a `SkippedMember` for what is not.

    Names are relative POSIX paths. Nothing is written to disk, links are not followed, names that
    climb out of the archive are skipped, and so is what is over `max_bytes`; memory holds one
    member. An archive that breaks off ends with a `SkippedMember` of its own name. Folders come in
    the order of their names. What is `taken` before is not read: a `TakenBefore` stands for it. Raises `ArchiveUnreadable` when there is nothing to open.
    """
    if path.is_dir():
        return _from_folder(path, max_bytes, taken)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ArchiveUnreadable(f"{path} cannot be read: {error.strerror}") from error
    # By its first bytes: a tar that ends with a zip looks like a zip from behind.
    if head in _ZIP_MAGIC:
        return _from_zip(path, max_bytes, taken)
    try:
        # Opened here, so that a file of another kind is reported before anything is read from it.
        tar = tarfile.open(path, mode="r|*")  # noqa: SIM115 - closed by the generator
    except _READ_ERRORS as error:
        raise ArchiveUnreadable(f"{path} is neither a folder, a tar nor a zip: {error}") from error
    return _from_tar(tar, path.name, max_bytes, taken)


def _from_folder(folder: Path, max_bytes: int, taken: Taken) -> Iterator[Member]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for each in sorted(files):
            file = Path(parent, each)
            name = file.relative_to(folder).as_posix()
            if taken(name):
                yield TakenBefore(name=name)
                continue
            if file.is_symlink() or not file.is_file():
                yield _skipped_link(name)
                continue
            try:
                with file.open("rb") as opened:
                    yield _read_member(name, opened, max_bytes)
            except OSError as error:
                yield SkippedMember(name=name, reason=Reason.CORRUPT, detail=str(error))


def _from_tar(
    tar: tarfile.TarFile, archive_name: str, max_bytes: int, taken: Taken
) -> Iterator[Member]:
    with tar:
        try:
            while (info := tar.next()) is not None:
                # A stream is read once: what tarfile remembers of past members only grows.
                tar.members.clear()  # type: ignore[attr-defined]
                if info.isdir():
                    continue
                if taken(info.name):
                    yield TakenBefore(name=info.name)
                else:
                    yield _tar_member(tar, info, max_bytes)
        except _READ_ERRORS as error:
            yield _broken_off(archive_name, error)


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo, max_bytes: int) -> Member:
    if _climbs_out(info.name):
        return _skipped_path(info.name)
    opened = tar.extractfile(info) if info.isfile() else None
    if opened is None:
        return _skipped_link(info.name)
    with opened:
        return _read_member(info.name, opened, max_bytes)


def _from_zip(path: Path, max_bytes: int, taken: Taken) -> Iterator[Member]:
    try:
        opened = zipfile.ZipFile(path)
    except _READ_ERRORS as error:
        yield _broken_off(path.name, error)
        return
    with opened as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if taken(info.filename):
                yield TakenBefore(name=info.filename)
            else:
                yield _zip_member(archive, info, max_bytes)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> Member:
    # zipfile has already cut `filename` at a NUL and turned backslashes; judge what was written.
    if _climbs_out(info.orig_filename):
        return _skipped_path(info.orig_filename)
    try:
        with archive.open(info) as opened:
            return _read_member(info.filename, opened, max_bytes)
    except (NotImplementedError, RuntimeError) as error:  # unknown compression; a password
        return SkippedMember(
            name=info.filename, reason=Reason.UNSUPPORTED_FORMAT, detail=str(error)
        )
    except _READ_ERRORS as error:
        return SkippedMember(name=info.filename, reason=Reason.CORRUPT, detail=str(error))


def _read_member(name: str, opened: IO[bytes], max_bytes: int) -> Member:
    # One byte more than allowed shows the excess; sizes in headers may lie.
    data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:
        return SkippedMember(
            name=name, reason=Reason.TOO_LARGE, detail=f"the member is over {max_bytes} bytes"
        )
    return name, data


def _climbs_out(name: str) -> bool:
    """Return whether a member's name could, written out, land outside of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (
        path.is_absolute()
        or ".." in path.parts
        or "\0" in name
        or (len(name) > 1 and name[1] == ":")  # a drive letter
    )


def _skipped_link(name: str) -> SkippedMember:
    return SkippedMember(
        name=name, reason=Reason.NOT_AN_IMAGE, detail="a link or a device, not a file"
    )


def _skipped_path(name: str) -> SkippedMember:
    return SkippedMember(
        name=name, reason=Reason.ADDRESS_FORBIDDEN, detail="the name leads out of the archive"
    )


def _broken_off(archive_name: str, error: BaseException) -> SkippedMember:
    return SkippedMember(
        name=archive_name,
        reason=Reason.TRUNCATED,
        detail=f"the archive breaks off, and what follows is not read: {error}",
    )
