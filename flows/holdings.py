"""What there is to import at a location: the members of archives, folders and buckets, one by one."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from crawler.archive import (
    DEFAULT_MAX_BYTES,
    ArchiveUnreadable,
    Member,
    SkippedMember,
    Taken,
    TakenBefore,
    archive_members,
)
from crawler.rejections import Reason
from flows.locations import bucket_at, is_object, name_of
from flows.objects import ObjectInfo, ObjectStore
from flows.workspace import Workspace

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_NAMES = 1_000_000


class Holdings(Protocol):
    """What lies at one location."""

    @property
    def name(self) -> str:
        """What its members' addresses begin with: no path of the machine."""

    def members(self, taken: Taken) -> Iterator[Member]:
        """Yield every member, as `crawler.archive.archive_members` does."""


def holdings_at(workspace: Workspace, location: str, download: Path) -> Holdings:
    """Return what lies at `location`; ArchiveUnreadable if that is nothing.

    `download` is where an archive that lies in a bucket is put while it is read.
    """
    if is_object(location):
        store, pattern = bucket_at(workspace, location)
        return _Objects(store, pattern, download)
    if Path(location).exists() or not re.search(r"[*?\[{]", location):
        return _One(Path(location))
    return _Files(location)


class _One:
    """A folder, a tar or a zip."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path

    def members(self, taken: Taken) -> Iterator[Member]:
        return archive_members(self._path, taken=taken)


class _Files:
    """The archives that a pattern names; a member's name begins with its archive's."""

    def __init__(self, pattern: str) -> None:
        self.name = name_of(pattern)
        found = (
            path
            for each in expand_braces(pattern)
            for path in glob.iglob(each, recursive=True)  # noqa: PTH207 - a pattern of whole paths
        )
        self._paths = sorted(set(found))
        if not self._paths:
            raise ArchiveUnreadable(f"there is nothing at {pattern}")
        # Namesakes in different folders stay apart, without the machine's paths.
        self._root = os.path.commonpath([Path(each).parent for each in self._paths])

    def members(self, taken: Taken) -> Iterator[Member]:
        for path in map(Path, self._paths):
            archive = path.relative_to(self._root).as_posix()
            yield from _of_archive(path, archive, taken)


class _Objects:
    """The objects whose keys begin with a prefix or match a pattern; archives are looked into."""

    def __init__(self, store: ObjectStore, pattern: str, download: Path) -> None:
        self.name = f"{store.bucket}/{pattern}".rstrip("/")
        self._store = store
        self._download = download
        self._patterns = (
            list(expand_braces(pattern)) if re.search(r"[*?\[{]", pattern) else [f"{pattern}*"]
        )
        self._prefix = re.split(r"[*?\[{]", pattern, maxsplit=1)[0]
        folder = self._prefix.rpartition("/")[0]
        self._root = f"{folder}/" if folder else ""
        if next(self._found(), None) is None:
            raise ArchiveUnreadable(f"there is nothing at {store.uri(pattern)}")

    def members(self, taken: Taken) -> Iterator[Member]:
        for found in self._found():
            name = found.key.removeprefix(self._root)
            if name.lower().endswith(_ARCHIVES):
                yield from self._in_archive(found, name, taken)
            elif taken(name):
                yield TakenBefore(name=name)
            elif found.size > DEFAULT_MAX_BYTES:
                yield SkippedMember(
                    name=name,
                    reason=Reason.TOO_LARGE,
                    detail=f"the object has {found.size} bytes, over {DEFAULT_MAX_BYTES}",
                )
            else:
                yield name, self._store.get(found.key)

    def _in_archive(self, found: ObjectInfo, name: str, taken: Taken) -> Iterator[Member]:
        # To disk: a zip is read from its end, and a stream that breaks off would have to be resumed.
        with self._download.open("wb") as file:
            self._store.download(found.key, file)
        yield from _of_archive(self._download, name, taken)
        self._download.unlink()

    def _found(self) -> Iterator[ObjectInfo]:
        match = re.compile("|".join(map(fnmatch.translate, self._patterns))).match
        return (
            each
            for each in self._store.list(self._prefix)
            if match(each.key) and not each.key.endswith("/")
        )


def _of_archive(path: Path, archive: str, taken: Taken) -> Iterator[Member]:
    """Yield the members of one archive of several; one that cannot be opened is a row."""
    try:
        members = archive_members(path, taken=lambda name: taken(f"{archive}/{name}"))
    except ArchiveUnreadable as error:
        yield SkippedMember(name=archive, reason=Reason.CORRUPT, detail=str(error))
        return
    for member in members:
        match member:
            case TakenBefore():
                yield TakenBefore(name=f"{archive}/{member.name}")
            case SkippedMember():
                yield SkippedMember(
                    name=f"{archive}/{member.name}", reason=member.reason, detail=member.detail
                )
            case name, data:
                yield f"{archive}/{name}", data


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield what a shell makes of `{000..099}` and `{a,b}`, as WebDataset names its shards.

    Numbers keep the width of the first. Raises ArchiveUnreadable for more than a million names.
    """
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    span = _RANGE.fullmatch(found[1])
    if span is None:
        choices: Iterator[str] = iter(found[1].split(","))
    else:
        first, last = int(span[1]), int(span[2])
        if last - first >= _MOST_NAMES:
            raise ArchiveUnreadable(f"{pattern} names more than {_MOST_NAMES} archives")
        choices = (f"{number:0{len(span[1])}}" for number in range(first, last + 1))
    for choice in choices:
        yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])
