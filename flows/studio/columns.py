"""Pictures, scores and links by columns: a hundred thousand of them take some tens of megabytes.

A picture's row is its place in the order of ids. Everything that the pages sort or filter by is an
array over rows; a `Picture` or a `LinkRow` is made when a page shows it.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.rows import LINKS, LinkRow, PreLabelRow, from_record, to_table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Rows = NDArray[np.int32]
Item = TypeVar("Item")
Progress = Callable[[int], None]

PICTURE_COLUMNS = (
    "sha256",
    "width",
    "height",
    "format",
    "size",
    "duplicate_of",
    "duplicate_how",
    "added_at",
    "provenance",
)
_TIME = pa.timestamp("us", tz="UTC")
_PICTURES = pa.schema(
    [
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("size", pa.int64()),
        ("duplicate_of", pa.string()),
        ("duplicate_how", pa.string()),
        ("added_at", _TIME),
        ("sources", pa.list_(pa.string())),
        ("title", pa.string()),
        ("page_url", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One row of the images table without its thumbnail."""

    sha256: str
    width: int
    height: int
    format: str
    size: int
    duplicate_of: str | None
    duplicate_how: str | None
    added_at: datetime
    sources: tuple[str, ...]
    title: str
    """The picture's own text, or its page's title; empty if it has neither."""
    page_url: str


class Made(Sequence[Item]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, rows: NDArray[Any], make: Callable[[int], Item]) -> None:
        self._rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Made[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Made[Item]:
        """Return one item, or a sequence of those in the slice."""
        if isinstance(index, slice):
            return Made(self._rows[index], self._make)
        return self._make(int(self._rows[operator.index(index)]))


class Pictures(Mapping[str, Picture]):
    """Every picture by its id, in the order of ids."""

    def __init__(self, table: pa.Table) -> None:
        table = table.take(pc.sort_indices(table["sha256"])).combine_chunks()
        self.ids: list[str] = table["sha256"].to_pylist()
        self._id_array = _one(table["sha256"])
        self._row = {sha256: row for row, sha256 in enumerate(self.ids)}
        self.width: NDArray[np.int32] = table["width"].to_numpy()
        self.height: NDArray[np.int32] = table["height"].to_numpy()
        self.size: NDArray[np.int64] = table["size"].to_numpy()
        self.added_us: NDArray[np.int64] = _one(table["added_at"]).cast(pa.int64()).to_numpy()
        self.format, self.duplicate_how, self.page_url, self.title = (
            _one(table[name]).dictionary_encode()
            for name in ("format", "duplicate_how", "page_url", "title")
        )
        self._sources = _one(table["sources"])
        self._duplicate_of = _one(table["duplicate_of"]).dictionary_encode()
        kept = pc.index_in(_one(table["duplicate_of"]), value_set=self._id_array)
        rows = np.arange(len(self.ids), dtype=np.int32)
        self.is_kept: NDArray[np.bool_] = _one(table["duplicate_of"]).is_null().to_numpy(False)
        self.kept_row: Rows = np.where(
            self.is_kept, rows, kept.fill_null(-1).to_numpy(False)
        ).astype(np.int32)
        """Row to the row of the picture that is kept in its stead; -1 where that is unknown."""

    @classmethod
    def read(
        cls, batches: Iterable[pa.RecordBatch], progress: Progress = lambda rows: None
    ) -> Pictures:
        """Return the pictures of batches with `PICTURE_COLUMNS`; `progress` hears of rows read."""
        parts = []
        for batch in batches:
            parts.append(_picture_columns(batch))
            progress(batch.num_rows)
        return cls(pa.Table.from_batches(parts, schema=_PICTURES))

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> Pictures:
        """Return those pictures."""
        rows = [dataclasses.asdict(each) for each in pictures]
        return cls(pa.Table.from_pylist(rows, schema=_PICTURES))

    def __getitem__(self, sha256: str) -> Picture:
        """Return the picture; KeyError if there is none."""
        return self.at(self._row[sha256])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._row

    def row(self, sha256: str) -> int:
        """Return the picture's row, or -1."""
        return self._row.get(sha256, -1)

    def rows_of(self, sha256s: pa.Array) -> Rows:
        """Return the rows of an Arrow array of ids; -1 for those that are not there."""
        found = pc.index_in(sha256s, value_set=self._id_array).fill_null(-1)
        rows: Rows = found.to_numpy(zero_copy_only=False)
        return rows

    def at(self, row: int) -> Picture:
        """Return the picture of a row."""
        return Picture(
            sha256=self.ids[row],
            width=int(self.width[row]),
            height=int(self.height[row]),
            format=self.format[row].as_py(),
            size=int(self.size[row]),
            duplicate_of=self._duplicate_of[row].as_py(),
            duplicate_how=self.duplicate_how[row].as_py(),
            added_at=EPOCH + timedelta(microseconds=int(self.added_us[row])),
            sources=tuple(dict.fromkeys(self._sources[row].as_py())),
            title=self.title[row].as_py(),
            page_url=self.page_url[row].as_py(),
        )

    def made(self, rows: NDArray[Any]) -> Made[Picture]:
        """Return the pictures of `rows`, made one by one."""
        return Made(rows, self.at)

    @cached_property
    def newest(self) -> Rows:
        """All rows, newest first; those of one moment by id."""
        return np.argsort(-self.added_us, kind="stable").astype(np.int32)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that pictures came from, sorted."""
        return tuple(sorted(pc.unique(self._sources.flatten()).to_pylist()))

    def from_source(self, name: str) -> NDArray[np.bool_]:
        """Return of every row whether its picture was found by that source."""
        hits = pc.equal(self._sources.flatten(), name).to_numpy(zero_copy_only=False)
        parents = pc.list_parent_indices(self._sources).to_numpy()
        found = np.zeros(len(self), np.bool_)
        found[parents[hits]] = True
        return found

    @cached_property
    def duplicates(self) -> Mapping[int, Rows]:
        """The row of a kept picture to the rows of its duplicates, newest first."""
        rows = self.newest[~self.is_kept[self.newest]]
        kept = self.kept_row[rows]
        order = np.argsort(kept, kind="stable")
        names, starts = np.unique(kept[order], return_index=True)
        if not len(names):  # splitting nothing gives one empty part
            return {}
        return dict(zip(names.tolist(), np.split(rows[order], starts[1:]), strict=True))


class Scores:
    """Pre-labels: for every label an array over the rows of `pictures`, NaN where there is none."""

    def __init__(self, pictures: Pictures, by_label: Mapping[str, NDArray[np.float32]]) -> None:
        self._pictures = pictures
        self._by_label = by_label
        self._orders: dict[tuple[str, str], Rows] = {}
        self.complete = True
        """Whether every score that was read belongs to a picture."""

    @classmethod
    def read(
        cls,
        pictures: Pictures,
        batches: Iterable[pa.RecordBatch],
        progress: Progress = lambda rows: None,
    ) -> Scores:
        """Return the scores of batches of sha256, label and score."""
        by_label: dict[str, NDArray[np.float32]] = {}
        complete = True
        for block in _blocks(batches):
            rows = pictures.rows_of(_one(block["sha256"]))
            labels = _one(block["label"]).dictionary_encode()
            codes = labels.indices.to_numpy()
            scores = block["score"].to_numpy()
            complete &= bool((rows >= 0).all())
            for code, label in enumerate(labels.dictionary.to_pylist()):
                mine = (codes == code) & (rows >= 0)
                column = by_label.setdefault(label, np.full(len(pictures), np.nan, np.float32))
                column[rows[mine]] = scores[mine]
            progress(block.num_rows)
        found = cls(pictures, by_label)
        found.complete = complete
        return found

    @classmethod
    def of(cls, pictures: Pictures, rows: Iterable[PreLabelRow]) -> Scores:
        """Return those scores."""
        columns = [dataclasses.asdict(row) for row in rows]
        schema = pa.schema(
            [("sha256", pa.string()), ("label", pa.string()), ("score", pa.float32())]
        )
        return cls.read(pictures, pa.Table.from_pylist(columns, schema=schema).to_batches())

    def moved_to(self, pictures: Pictures) -> Scores:
        """Return the same scores over the rows of other pictures."""
        rows = pictures.rows_of(pa.array(self._pictures.ids, pa.string()))
        known = rows >= 0
        moved = {}
        for label, column in self._by_label.items():
            moved[label] = np.full(len(pictures), np.nan, np.float32)
            moved[label][rows[known]] = column[known]
        return Scores(pictures, moved)

    def column(self, label: str) -> NDArray[np.float32]:
        """Return the label's scores in [0, 1] over rows; NaN where there is none."""
        found = self._by_label.get(label)
        return np.full(len(self._pictures), np.nan, np.float32) if found is None else found

    def order(self, label: str, by: str) -> Rows:
        """Return all rows by score: "highest", "lowest" or "uncertain" first, none last, then by id."""
        if (label, by) not in self._orders:
            score = self.column(label)
            key = {"highest": -score, "lowest": score, "uncertain": np.abs(score - 0.5)}[by]
            self._orders[label, by] = np.argsort(key, kind="stable").astype(np.int32)
        return self._orders[label, by]

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """Of every row whether it has a score for some label."""
        found = np.zeros(len(self._pictures), np.bool_)
        for column in self._by_label.values():
            found |= ~np.isnan(column)
        return found


class Links:
    """How many addresses were tried, and those of which nothing was kept."""

    def __init__(self, count: int, rejected: pa.Table) -> None:
        self._count = count
        order = pc.sort_indices(
            rejected, sort_keys=[("seen_at", "descending"), ("url", "descending")]
        )
        self._table = rejected.take(order).combine_chunks()

    @classmethod
    def of(cls, rows: Iterable[LinkRow]) -> Links:
        """Return those links."""
        rows = list(rows)
        rejected = to_table([row for row in rows if row.outcome == "rejected"], LINKS)
        return cls(len(rows), rejected)

    def __len__(self) -> int:
        return self._count

    @property
    def rejected(self) -> Sequence[LinkRow]:
        """Links of which nothing was kept, newest first."""
        return Made(np.arange(self._table.num_rows), self._at)

    @cached_property
    def reasons(self) -> Mapping[str, int]:
        """How many links were rejected for each reason, most first."""
        counted = [
            (each["values"], each["counts"])
            for each in pc.value_counts(_one(self._table["reason"])).to_pylist()
        ]
        return dict(sorted(counted, key=lambda item: (-item[1], item[0])))

    def _at(self, row: int) -> LinkRow:
        return from_record(LinkRow, self._table.slice(row, 1).to_pylist()[0])


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array, its bits from the start of its buffers."""
    chunks = column.chunks
    return (
        chunks[0]
        if len(chunks) == 1
        else pa.concat_arrays(chunks)
        if chunks
        else pa.array([], column.type)
    )


def _blocks(batches: Iterable[pa.RecordBatch], rows: int = 65_536) -> Iterator[pa.Table]:
    """Yield tables of about `rows` rows: looking ids up costs the same for few as for many."""
    kept: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        kept.append(batch)
        held += batch.num_rows
        if held >= rows:
            yield pa.Table.from_batches(kept)
            kept, held = [], 0
    if kept:
        yield pa.Table.from_batches(kept)


def _picture_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of `_PICTURES`: of the provenance only what pages show."""
    places = batch.column("provenance")
    flat = places.flatten()
    parents = pc.list_parent_indices(places).to_numpy()
    alt, title = (pc.fill_null(flat.field(name), "") for name in ("alt", "page_title"))
    said = pc.if_else(pc.equal(alt, ""), title, alt)
    spoken = np.flatnonzero(pc.not_equal(said, "").to_numpy(zero_copy_only=False))
    columns = {
        **{name: batch.column(name) for name in PICTURE_COLUMNS if name != "provenance"},
        "sources": pa.ListArray.from_arrays(
            pa.array(np.searchsorted(parents, np.arange(batch.num_rows + 1)), pa.int32()),
            flat.field("source"),
        ),
        "title": _first_of(said, spoken, parents, batch.num_rows),
        "page_url": _first_of(
            pc.fill_null(flat.field("page_url"), ""),
            np.arange(len(flat)),
            parents,
            batch.num_rows,
        ),
    }
    return pa.RecordBatch.from_arrays([columns[each.name] for each in _PICTURES], schema=_PICTURES)


def _first_of(
    values: pa.Array, chosen: NDArray[np.int64], parents: NDArray[np.int64], rows: int
) -> pa.Array:
    """Return for each row the first of the `chosen` values that belongs to it, or ""."""
    owners, firsts = np.unique(parents[chosen], return_index=True)
    taken = np.full(rows, -1, np.int64)
    taken[owners] = chosen[firsts]
    return pc.fill_null(values.take(pa.array(taken, mask=taken < 0)), "")
