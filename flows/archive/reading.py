"""From the entries of a shard to its pictures: where each lies, and how its bytes are had."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.archive import ArchiveUnreadable, SkippedMember, TakenBefore, archive_members
from crawler.fetch import Fetched, fetch
from crawler.fetched import Unchanged
from crawler.pages import ImageLink
from crawler.politeness import HostLeases
from crawler.rejections import Reason
from crawler.settings import CrawlPolicy
from crawler.url_table import FOUND_BY
from flows.archive.ahead import HeldBytes, ahead
from flows.archive.entries import Entry
from flows.archive.listing import is_beside, tar_members
from flows.archive.parquet_bytes import cells
from flows.archive.places import Changed, Input, InputFile
from flows.errors import NotFound
from flows.pixel_feed import Unreadable

CHANGED = "changed"
MISSING = "missing"
READ_FAILED = "read_failed"
"""Reasons of this module's own, beside the crawler's; the last is what the operating system says."""

_READ_ERRORS = (
    tarfile.TarError,
    pa.ArrowException,
    ArchiveUnreadable,
    OSError,
    ValueError,
    NotFound,
    Changed,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a shard. `read` gives its bytes, once, or why there are none."""

    uri: str
    """The object, file or address."""
    member: str = ""
    """Its name in a tar or zip; its row in a Parquet file."""
    offset: int | None = None
    """Where its bytes begin in the file, if they lie there as they are."""
    read: Callable[[], bytes | Unreadable]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How the pictures of one archive are read."""

    place: Input | None
    """None for addresses."""
    policy: CrawlPolicy
    allow_private: bool = False
    leases: HostLeases | None = None

    @contextlib.contextmanager
    def pictures(self, entries: Sequence[Entry]) -> Iterator[Iterator[Picture]]:
        """Give the pictures of a shard, read ahead by a thread; their order is the same every time.

        But for addresses, which come as they are answered. Only what is about the store as a whole
        is raised (`flows.errors.Transient`, `StoreRefused`).
        """
        held = HeldBytes()

        def produce(put: Callable[[Picture], None]) -> None:
            addresses = [entry for entry in entries if entry.kind == "url"]
            for entry in entries:
                if entry.kind != "url":
                    for picture in self._of_entry(entry, held):
                        put(picture)
            if addresses:
                asyncio.run(self._fetch(addresses, put, held))

        with ahead(produce, "archive reader") as pictures:
            try:
                yield pictures
            finally:
                held.close()

    def uri(self, entry: Entry) -> str:
        """Return what the rows of an entry's pictures call its place."""
        if entry.kind == "refused" or self.place is None:
            return entry.name
        return self.place.uri(entry.name)

    def _of_entry(self, entry: Entry, held: HeldBytes) -> Iterator[Picture]:
        if entry.kind == "refused" or self.place is None:
            yield _refused(entry.name, Unreadable(entry.reason, entry.detail))
            return
        uri = self.uri(entry)
        if entry.kind == "picture":
            yield Picture(uri=uri, read=lambda: self._whole(entry))
            return
        try:
            match entry.kind:
                case "tar":
                    yield from self._of_tar(entry, uri, held)
                case "parquet":
                    yield from self._of_parquet(entry, uri, held)
                case _:
                    yield from self._of_packed(entry, uri, held)
        except _READ_ERRORS as error:
            yield _refused(uri, _why(error))

    def _whole(self, entry: Entry) -> bytes | Unreadable:
        assert self.place is not None  # noqa: S101 - for the type checker: `_of_entry` looked
        if entry.size > self.policy.max_bytes:
            return self._too_large(entry.size)
        try:
            return self.place.read(entry.name, entry.etag)
        except (NotFound, Changed, OSError) as error:
            return _why(error)

    def _of_tar(self, entry: Entry, uri: str, held: HeldBytes) -> Iterator[Picture]:
        with self._opened(entry) as file:
            file.seek(entry.first)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar_members(tar):
                    if info.offset >= entry.last:
                        break
                    if info.isdir() or is_beside(info.name):
                        continue
                    if not info.isfile():
                        no_file = Unreadable(Reason.NOT_AN_IMAGE, "no file")
                        yield _refused(uri, no_file, info.name)
                        continue
                    if info.size > self.policy.max_bytes:
                        found: bytes | Unreadable = self._too_large(info.size)
                    else:
                        held.add(info.size)
                        file.seek(info.offset_data)
                        found = file.read(info.size)
                        if len(found) < info.size:
                            raise tarfile.ReadError("unexpected end of data")
                    yield Picture(
                        uri=uri,
                        member=info.name,
                        offset=info.offset_data,
                        read=_at_hand(found, held),
                    )

    def _of_parquet(self, entry: Entry, uri: str, held: HeldBytes) -> Iterator[Picture]:
        with self._opened(entry) as file:
            table = pq.ParquetFile(pa.PythonFile(file, "r"), pre_buffer=False)
            for cell in cells(table, entry.first, entry.last):
                if cell.data is None:
                    found: bytes | Unreadable = Unreadable(MISSING, "the row holds no bytes")
                else:
                    held.add(len(cell.data))
                    found = cell.data
                yield Picture(
                    uri=uri, member=cell.path or str(cell.row), read=_at_hand(found, held)
                )

    def _of_packed(self, entry: Entry, uri: str, held: HeldBytes) -> Iterator[Picture]:
        # To disk: a zip is read from its end, and what is compressed cannot be read from the middle.
        with tempfile.TemporaryDirectory() as folder, self._opened(entry) as file:
            path = Path(folder, "packed")
            with path.open("wb") as copy:
                while block := file.read(2**20):
                    copy.write(block)
            for member in archive_members(path, max_bytes=self.policy.max_bytes):
                match member:
                    case TakenBefore():
                        continue
                    case SkippedMember():
                        if not is_beside(member.name):
                            name = "" if member.name == path.name else member.name
                            yield _refused(uri, Unreadable(member.reason, member.detail), name)
                    case name, data:
                        if not is_beside(name):
                            held.add(len(data))
                            yield Picture(uri=uri, member=name, read=_at_hand(data, held))

    async def _fetch(
        self, entries: Sequence[Entry], put: Callable[[Picture], None], held: HeldBytes
    ) -> None:
        rows: dict[str, int] = defaultdict(int)
        for entry in entries:
            rows[entry.name] += 1
        links = [ImageLink(url=url, page_url="", found_by=FOUND_BY) for url in rows]
        outcomes = fetch(
            links, policy=self.policy, allow_private=self.allow_private, leases=self.leases
        )
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                if isinstance(outcome, Unchanged):
                    continue  # nothing is known beforehand, so no server can say so
                found: bytes | Unreadable
                if isinstance(outcome, Fetched):
                    url, found = outcome.link.url, outcome.data
                else:
                    url = outcome.url
                    found = Unreadable(outcome.reason, outcome.detail, outcome.transient)
                for _ in range(rows[url]):
                    # Not in this thread: others are being fetched in it.
                    if isinstance(found, bytes):
                        await asyncio.to_thread(held.add, len(found))
                    picture = Picture(uri=url, read=_at_hand(found, held))
                    await asyncio.to_thread(put, picture)

    def _opened(self, entry: Entry) -> InputFile:
        assert self.place is not None  # noqa: S101 - for the type checker: `_of_entry` looked
        return InputFile(self.place, entry.name, entry.etag, entry.size)

    def _too_large(self, size: int) -> Unreadable:
        return Unreadable(Reason.TOO_LARGE, f"{size} bytes, over {self.policy.max_bytes}")


def _at_hand(found: bytes | Unreadable, held: HeldBytes) -> Callable[[], bytes | Unreadable]:
    def read() -> bytes | Unreadable:
        if isinstance(found, bytes):
            held.free(len(found))
        return found

    return read


def _refused(uri: str, why: Unreadable, member: str = "") -> Picture:
    return Picture(uri=uri, member=member, read=lambda: why)


def _why(error: Exception) -> Unreadable:
    """Return the reason for what reading one file raised."""
    match error:
        case NotFound():
            reason = MISSING
        case Changed():
            reason = CHANGED
        case tarfile.ReadError() if "unexpected end" in str(error):
            reason = Reason.TRUNCATED
        # Arrow and gzip raise it too, without a number, for bytes that they cannot make sense of.
        case OSError(errno=int()):
            return Unreadable(READ_FAILED, str(error.strerror), transient=True)
        case _:
            reason = Reason.CORRUPT
    return Unreadable(reason, str(error))
