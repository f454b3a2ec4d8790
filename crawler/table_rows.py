"""Rows out of a CSV, TSV, Parquet, JSON lines or text file, gzipped or not, one at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.rejections import CrawlerError

MAX_LINE = 4 * 2**20
"""Characters of a line; what follows in a longer one is dropped, so that no file fills the memory."""

URL = "url"
"""The column of a file that has only addresses."""

_BATCH_ROWS = 1024
_PARQUET_BUFFER = 2**20
_GZIP_MAGIC, _PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_KINDS: Mapping[str, Literal["csv", "tsv", "parquet", "jsonl", "text"]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".lst": "text",
    ".list": "text",
}
_READ_ERRORS = (OSError, EOFError, zlib.error, UnicodeError, pa.ArrowException)


class TableUnreadable(CrawlerError):
    """A table of addresses that cannot be read; one sentence says which, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """What stands where a row should be."""

    problem: str
    breaks_off: bool = False
    """Nothing after it can be read."""


NumberedRow = tuple[int, Mapping[str, object] | BadRow]
"""A row and its number: of its first line, from 1; in Parquet, of the row."""


class TableRows(Protocol):
    """A table: the names of its columns, and its rows as often as they are asked for."""

    @property
    def columns(self) -> list[str]:
        """The names; of JSON lines, those of the first."""

    def __iter__(self) -> Iterator[NumberedRow]:
        """Read from the beginning."""


def open_rows(path: Path, name: str) -> TableRows:
    """Return the table in the file, whose kind its name's ending tells, or else its first bytes.

    Raises `TableUnreadable` when the file cannot be opened, or is no table. `name` is what errors
    call it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == _PARQUET_MAGIC:
            return _Parquet(path)
        kind = _kind(name) or _sniffed(path, name)
        match kind:
            case "parquet":
                raise TableUnreadable(
                    f"{name} is no Parquet file, by its first bytes; if it was packed, unpack it"
                )
            case "jsonl":
                return _JsonLines(path, name)
            case "text":
                return _Text(path)
            case _:
                return _Csv(path, name, delimiter="\t" if kind == "tsv" else ",")
    except _READ_ERRORS as error:
        said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise TableUnreadable(f"table {name} cannot be read: {said}") from error


def _kind(name: str) -> str | None:
    return _KINDS.get(PurePosixPath(name.lower().removesuffix(".gz")).suffix)


def _sniffed(path: Path, name: str) -> str:
    first = next(_lines(path), "").lstrip()
    if first.startswith("{"):
        return "jsonl"
    if first.lower().startswith(("http://", "https://")) and "\t" not in first:
        return "text"
    raise TableUnreadable(
        f"table {name} is of no kind that is known; let its name end in {', '.join(_KINDS)}, "
        "or one of these and .gz"
    )


class _Text:
    """One address a line; lines that are empty or begin with # are not rows."""

    def __init__(self, path: Path) -> None:
        self.columns = [URL]
        self._path = path
        next(_lines(path), None)  # refused now, if at all

    def __iter__(self) -> Iterator[NumberedRow]:
        for number, line in _numbered(self._path):
            if isinstance(line, BadRow):
                yield number, line
            elif (text := line.strip()) and not text.startswith("#"):
                yield number, {URL: text}


class _JsonLines:
    """One JSON object a line, or one string, which is an address."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        if next(_lines(path), "").lstrip().startswith("["):
            raise TableUnreadable(
                f"table {name} is one JSON array, which cannot be read piece by piece; write one "
                "object a line, such as with `jq -c '.[]'`"
            )
        rows = (row for _, row in self if not isinstance(row, BadRow))
        self.columns = list(next(rows, {URL: ""}))

    def __iter__(self) -> Iterator[NumberedRow]:
        for number, line in _numbered(self._path):
            if isinstance(line, BadRow):
                yield number, line
            elif text := line.strip():
                yield number, _json_row(text)


def _json_row(text: str) -> Mapping[str, object] | BadRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow(problem=f"no JSON: {error}")
    if isinstance(value, str):
        return {URL: value}
    if not isinstance(value, dict):
        return BadRow(problem="neither a JSON object nor a string")
    return value


class _Csv:
    """Cells between commas or tabs; the first row names the columns unless it holds an address."""

    def __init__(self, path: Path, name: str, *, delimiter: str) -> None:
        self._path = path
        self._delimiter = delimiter
        next(_lines(path), None)  # refused now, if at all
        first = next((row for _, row in self._cells() if isinstance(row, list)), None)
        if first is None:
            raise TableUnreadable(f"table {name} is empty")
        self._has_head = not any(map(_is_address, first))
        if self._has_head:
            self.columns = [cell.strip() or str(at) for at, cell in enumerate(first, 1)]
        else:
            address = next(at for at, cell in enumerate(first) if _is_address(cell))
            self.columns = [str(at) for at in range(1, len(first) + 1)]
            self.columns[address] = URL

    def __iter__(self) -> Iterator[NumberedRow]:
        rows = self._cells()
        if self._has_head:
            next(rows)
        for number, cells in rows:
            if isinstance(cells, BadRow):
                yield number, cells
            elif len(cells) > len(self.columns):
                problem = f"{len(cells)} cells where there are {len(self.columns)} columns"
                yield number, BadRow(problem=problem)
            else:
                yield number, dict(zip(self.columns, cells, strict=False))

    def _cells(self) -> Iterator[tuple[int, list[str] | BadRow]]:
        reader = csv.reader(_lines(self._path), delimiter=self._delimiter)
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                # The reader goes on with the next line.
                yield number, BadRow(problem=f"not read up to line {reader.line_num}: {error}")
                continue
            except _READ_ERRORS as error:
                yield number, _broken_off(error)
                return
            if cells is None:
                return
            if cells:
                yield number, cells


class _Parquet:
    """Every column but those of bytes, which say nothing in words."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            self.columns = [
                field.name for field in file.schema_arrow if not _holds_bytes(field.type)
            ]

    def __iter__(self) -> Iterator[NumberedRow]:
        number = 0
        try:
            with self._open() as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=self.columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except _READ_ERRORS as error:
            yield number + 1, _broken_off(error)

    def _open(self) -> pq.ParquetFile:
        # Buffered reads, not whole column chunks: a row group may be larger than the memory.
        return pq.ParquetFile(self._path, pre_buffer=False, buffer_size=_PARQUET_BUFFER)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(at).type) for at in range(kind.num_fields))
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _numbered(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """Yield lines with their numbers; a file that breaks off ends with a `BadRow`."""
    number = 0
    try:
        for line in _lines(path):
            number += 1
            yield number, line
    except _READ_ERRORS as error:
        yield number + 1, _broken_off(error)


def _broken_off(error: BaseException) -> BadRow:
    return BadRow(problem=f"the table breaks off here: {error}", breaks_off=True)


def _lines(path: Path) -> Iterator[str]:
    """Yield the file's lines, unpacked and decoded, each cut to `MAX_LINE` characters."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        with file, _decoded(file) as text:
            while line := text.readline(MAX_LINE):
                rest = line
                while len(rest) == MAX_LINE and not rest.endswith("\n"):
                    rest = text.readline(MAX_LINE)
                yield line


def _decoded(file: gzip.GzipFile | io.BufferedReader) -> io.TextIOWrapper:
    """Return the text in a file: UTF-8, unless a byte order mark says UTF-16.

    Bytes that are neither are replaced: a caption in another encoding must not cost the address.
    """
    mark = file.read(2)
    file.seek(0)
    encoding = "utf-16" if mark in _BYTE_ORDER_MARKS else "utf-8-sig"
    return io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")


def _is_address(cell: str) -> bool:
    return cell.strip().lower().startswith(("http://", "https://", "data:image/"))
