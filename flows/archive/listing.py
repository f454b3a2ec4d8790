"""From a location to what lies there, as a stream of entries in a stable order."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.archive import ArchiveUnreadable
from crawler.rejections import Reason
from flows.archive.entries import Entry
from flows.archive.places import (
    BucketInput,
    Changed,
    FolderInput,
    Input,
    InputFile,
    file_etag,
)
from flows.errors import NotFound
from flows.holdings import expand_braces
from flows.listing import Listing
from flows.locations import bucket_at, is_object, name_of
from flows.objects import ObjectStore
from flows.workspace import Workspace

SPLIT_TAR_BYTES = 512 * 2**20
"""A larger tar is parted into ranges of about so many bytes, by a walk over its headers."""

_HEADER_BLOCK_BYTES = 64 * 2**10
_PATTERN = re.compile(r"[*?\[{]")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_PARQUET = (".parquet", ".pq")
_TABLES = (".csv", ".tsv", ".tab", ".txt", ".lst", ".list", ".jsonl", ".ndjson")
_BESIDE = frozenset(
    {".json", ".txt", ".cls", ".xml", ".csv", ".tsv", ".md", ".md5", ".sha256", ".npy", ".idx"}
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One object or file."""

    name: str
    """A key, or a path relative to the archive's folder."""
    size: int
    etag: str


class Lister(Protocol):
    """What finds the objects or files of a stored archive."""

    def __call__(self) -> Iterator[Found]:
        """Yield them in the order of their names."""


class Archive(Protocol):
    """What lies at a location."""

    @property
    def name(self) -> str:
        """What manifests call it: no path of the machine."""

    def entries(self) -> Iterator[Entry]:
        """Yield what is there; ArchiveUnreadable if that is nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredArchive:
    """Pictures and files that hold pictures, in a folder or a bucket."""

    name: str
    place: Input
    found: Lister

    def entries(self) -> Iterator[Entry]:
        """Yield pictures and parts of files; what lies beside pictures to describe them is left out."""
        nothing = True
        for each in self.found():
            if not is_beside(each.name):
                nothing = False
                yield from self._parts(each)
        if nothing:
            raise ArchiveUnreadable(f"there is nothing to label at {self.name}")

    def _parts(self, found: Found) -> Iterator[Entry]:
        lower = found.name.lower()
        whole = Entry(
            kind="picture", name=found.name, etag=found.etag, size=found.size, last=found.size
        )
        try:
            if lower.endswith(_PACKED):
                yield dataclasses.replace(whole, kind="packed", pictures=0)
            elif lower.endswith(".tar"):
                cuts = [0, *self._tar_cuts(found), found.size]
                for first, last in itertools.pairwise(cuts):
                    yield dataclasses.replace(whole, kind="tar", first=first, last=last, pictures=0)
            elif lower.endswith(_PARQUET):
                with self._opened(found) as file:
                    metadata = pq.ParquetFile(pa.PythonFile(file, "r")).metadata
                for group in range(metadata.num_row_groups):
                    yield dataclasses.replace(
                        whole,
                        kind="parquet",
                        first=group,
                        last=group + 1,
                        pictures=metadata.row_group(group).num_rows,
                    )
            else:
                yield whole
        except (tarfile.TarError, pa.ArrowException, OSError, NotFound, Changed) as error:
            yield Entry(
                kind="refused",
                name=found.name,
                etag=found.etag,
                reason=Reason.CORRUPT,
                detail=str(error),
            )

    def _tar_cuts(self, found: Found) -> Iterator[int]:
        """Yield where a large tar may be parted: where a header begins, in bytes."""
        if found.size <= SPLIT_TAR_BYTES:
            return
        cut = 0
        with (
            InputFile(
                self.place,
                found.name,
                found.etag,
                found.size,
                block_bytes=_HEADER_BLOCK_BYTES,
            ) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for info in tar_members(tar):
                if info.offset >= cut + SPLIT_TAR_BYTES:
                    cut = info.offset
                    yield cut

    def _opened(self, found: Found) -> InputFile:
        return InputFile(self.place, found.name, found.etag, found.size)


def tar_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield what a tar holds, remembering none of it."""
    while (info := tar.next()) is not None:
        # What tarfile remembers of past members only grows.
        tar.members.clear()  # type: ignore[attr-defined]
        yield info


def is_beside(name: str) -> bool:
    """Return whether a file is one that lies beside pictures and says something about them."""
    base = name.rpartition("/")[2]
    return base.startswith(".") or os.path.splitext(base)[1].lower() in _BESIDE  # noqa: PTH122 - a key is no path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AddressTable:
    """A table of addresses of pictures, each fetched from where it lies."""

    name: str
    listing: Listing

    def entries(self) -> Iterator[Entry]:
        """Yield an entry a row, in the table's order, those that hold no address last."""
        nothing = True
        for row, link in enumerate(self.listing.links() or (), start=1):
            nothing = False
            yield Entry(kind="url", name=link.url, first=row, last=row + 1)
        for rejected in self.listing.rejected():
            nothing = False
            yield Entry(
                kind="refused",
                name=rejected.url,
                reason=rejected.reason,
                detail=rejected.detail,
            )
        if nothing:
            raise ArchiveUnreadable(f"table {self.name} has no rows")


def stored_archive(workspace: Workspace, location: str, *, out: str) -> StoredArchive:
    """Return what lies in a folder, a file, a pattern of files, or below `s3://bucket/prefix`.

    What lies below `out`, where results go, is not the archive's. ArchiveUnreadable is raised for a
    path that is not there.
    """
    if is_object(location):
        store, pattern = bucket_at(workspace, location)
        return StoredArchive(
            name=store.uri(pattern),
            place=BucketInput(store),
            found=lambda: _in_bucket(store, pattern, out),
        )
    path = Path(location).expanduser().absolute()
    results = Path(out).expanduser().absolute() if not is_object(out) else None
    if path.is_dir():
        return StoredArchive(
            name=path.name, place=FolderInput(path), found=lambda: _below(path, results)
        )
    names = sorted(
        {
            each
            for pattern in expand_braces(str(path))
            for each in (
                glob.glob(pattern, recursive=True)  # noqa: PTH207 - a pattern of whole paths
                if re.search(r"[*?\[]", pattern)
                else [pattern]
            )
        }
    )
    paths = [Path(each) for each in names if Path(each).is_file()]
    if not paths:
        raise ArchiveUnreadable(f"there is nothing at {location}")
    root = Path(os.path.commonpath([each.parent for each in paths]))
    return StoredArchive(
        name=name_of(location),
        place=FolderInput(root),
        found=lambda: (_file(root, each) for each in paths),
    )


def _in_bucket(store: ObjectStore, pattern: str, out: str) -> Iterator[Found]:
    patterns = list(expand_braces(pattern)) if _PATTERN.search(pattern) else [f"{pattern}*"]
    match = re.compile("|".join(map(fnmatch.translate, patterns))).match
    results = f"{out.rstrip('/')}/"
    for each in store.list(_PATTERN.split(pattern, maxsplit=1)[0]):
        if (
            match(each.key)
            and not each.key.endswith("/")
            and not store.uri(each.key).startswith(results)
        ):
            yield Found(name=each.key, size=each.size, etag=each.etag)


def _below(root: Path, results: Path | None) -> Iterator[Found]:
    """Yield the files below a folder; links are not followed."""
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if Path(parent, each) != results)
        for name in sorted(files):
            path = Path(parent, name)
            if not path.is_symlink() and path.is_file():
                yield _file(root, path)


def _file(root: Path, path: Path) -> Found:
    found = path.stat()
    return Found(name=path.relative_to(root).as_posix(), size=found.st_size, etag=file_etag(found))


def is_table(location: str) -> bool:
    """Return whether a location names a table that can only hold addresses, by its ending."""
    return location.lower().removesuffix(".gz").endswith(_TABLES)


def is_parquet(location: str) -> bool:
    """Return whether a location names a Parquet file: of addresses or of bytes."""
    return location.lower().endswith(_PARQUET) and not _PATTERN.search(location)
