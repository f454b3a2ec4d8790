"""Which pictures make up which shards: cut as the listing comes, written down part by part.

A shard ends where a hash of the last name says so, as blocks do in rsync and restic, and not after a
fixed count: a picture that comes or goes changes its own shard, and the cuts behind it stay.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import queue
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from flows.archive.entries import Entry, shard_id
from flows.archive.listing import Archive
from flows.archive.places import Output

SHARD_PICTURES = 1000
"""About so many make a shard: half of it at least (but the last one), twice of it at most."""

SHARDS_IN_PART = 64

_PART_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("first", pa.int64(), nullable=False),
        pa.field("last", pa.int64(), nullable=False),
        pa.field("pictures", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
_PARTS_REMEMBERED = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One unit of work, and where its entries stand."""

    id: str
    pictures: int
    """How many; 0 while nobody knows."""
    part: str
    """The key of a part of the plan."""
    row_group: int


def cut(entries: Iterable[Entry], pictures: int = SHARD_PICTURES) -> Iterator[list[Entry]]:
    """Yield the entries in shards of about so many pictures; what holds an unknown number is one."""
    least = max(1, pictures // 2)
    shard: list[Entry] = []
    count = 0
    for entry in entries:
        alone = entry.pictures == 0
        if shard and (alone or count + entry.pictures > 2 * pictures):
            yield shard
            shard, count = [], 0
        shard.append(entry)
        count += entry.pictures
        if alone or (count >= least and _ends_shard(entry, least)):
            yield shard
            shard, count = [], 0
    if shard:
        yield shard


def _ends_shard(entry: Entry, one_in: int) -> bool:
    # Not the ETag: a picture that is replaced should not move the cut.
    return zlib.crc32(f"{entry.name}\t{entry.first}".encode()) % one_in == 0


class Planner:
    """Lists an archive and writes its plan in a thread of its own; iterate it for the shards.

    They come as soon as the part that they stand in is written; memory holds one part, and the
    shards themselves. `is_to_do` is told of every shard as soon as it is planned, and says whether it
    is to come out; `ended`, at the end of the listing, how many pictures it could count. A context
    manager; leaving it early stops the listing, and no plan is written.
    """

    def __init__(
        self,
        archive: Archive,
        output: Output,
        *,
        shard_pictures: int = SHARD_PICTURES,
        is_to_do: Callable[[Shard], bool] = lambda shard: True,
        ended: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        self._archive = archive
        self._output = output
        self._shard_pictures = shard_pictures
        self._is_to_do = is_to_do
        self._ended = ended
        self._shards: queue.SimpleQueue[Shard | BaseException | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive planner", daemon=True)
        self.plan = ""
        """The key of the whole plan, once it is written."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """End the listing early: the iteration ends as well."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Shard]:
        """Yield the shards that are to do in their order; what went wrong while listing is raised here."""
        while (shard := self._shards.get()) is not None:
            if isinstance(shard, BaseException):
                raise shard
            yield shard

    def _run(self) -> None:
        try:
            self._plan()
        except BaseException as error:  # noqa: BLE001 - raised again where the shards are taken
            self._shards.put(error)
        finally:
            self._shards.put(None)

    def _plan(self) -> None:
        parts: list[str] = []
        waiting: list[list[Entry]] = []
        shards = pictures = 0
        for entries in cut(self._archive.entries(), self._shard_pictures):
            if self._stopped.is_set():
                return
            shards += 1
            pictures += sum(entry.pictures for entry in entries)
            waiting.append(entries)
            if len(waiting) == SHARDS_IN_PART:
                parts.append(self._write_part(waiting))
                waiting = []
        if waiting:
            parts.append(self._write_part(waiting))
        plan = {
            "archive": self._archive.name,
            "shards": shards,
            "pictures": pictures,
            "parts": parts,
        }
        data = json.dumps(plan, indent=2).encode()
        key = f"plans/{hashlib.sha256(data).hexdigest()[:16]}.json"
        self._output.put_once(key, data)
        self.plan = key
        self._ended(pictures)

    def _write_part(self, shards: Sequence[Sequence[Entry]]) -> str:
        data = part_bytes(shards)
        key = f"plans/parts/{hashlib.sha256(data).hexdigest()[:16]}.parquet"
        self._output.put_once(key, data)
        for row_group, entries in enumerate(shards):
            shard = Shard(
                id=shard_id(entries),
                # What holds an unknown number stands alone.
                pictures=sum(entry.pictures for entry in entries),
                part=key,
                row_group=row_group,
            )
            if self._is_to_do(shard):
                self._shards.put(shard)
        return key


class PlanReader:
    """Reads the entries of shards; the last parts that were read are remembered."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._parts: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def entries(self, shard: Shard) -> list[Entry]:
        """Return what a shard is made of."""
        file = pq.ParquetFile(io.BytesIO(self._part(shard.part)))
        return _entries(file, shard.row_group)

    def _part(self, key: str) -> bytes:
        with self._lock:
            if key not in self._parts:
                self._parts[key] = self._output.get(key)
                if len(self._parts) > _PARTS_REMEMBERED:
                    self._parts.popitem(last=False)
            return self._parts[key]


def read_part(data: bytes) -> list[list[Entry]]:
    """Return the shards of a part, in order."""
    file = pq.ParquetFile(io.BytesIO(data))
    return [_entries(file, row_group) for row_group in range(file.num_row_groups)]


def part_bytes(shards: Sequence[Sequence[Entry]]) -> bytes:
    """Return a part of a plan: Parquet with a row group a shard."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, _PART_SCHEMA, compression="zstd") as writer:
        for entries in shards:
            columns = [
                pa.array([getattr(entry, name) for entry in entries]).cast(kind)
                for name, kind in zip(_PART_SCHEMA.names, _PART_SCHEMA.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=_PART_SCHEMA))
    return buffer.getvalue()


def _entries(file: pq.ParquetFile, row_group: int) -> list[Entry]:
    return [Entry(**row) for row in file.read_row_group(row_group).to_pylist()]
