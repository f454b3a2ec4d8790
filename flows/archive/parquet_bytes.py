"""Pictures that lie in a column of a Parquet file, as bytes or as Hugging Face's structs of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS = 32
_BYTES = "bytes"
_USUAL = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "data", "content", "picture")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One picture of a column; `data` is None where the row has none."""

    row: int
    """Of the file, from 0."""
    path: str
    """What the row calls it; "" if nothing."""
    data: bytes | None


def bytes_column(schema: pa.Schema) -> str | None:
    """Return the column that holds pictures: of the usual names first; None if no column holds bytes."""
    names = [field.name for field in schema if _holds_pictures(field.type)]
    usual = [name for name in _USUAL if name in names]
    return next(iter([*usual, *names]), None)


def cells(file: pq.ParquetFile, first: int, last: int) -> Iterator[Cell]:
    """Yield the pictures of row groups `first` to `last` - 1, a few rows in memory at a time.

    ValueError is raised when no column holds bytes.
    """
    column = bytes_column(file.schema_arrow)
    if column is None:
        raise ValueError("no column holds bytes of pictures")
    row = sum(file.metadata.row_group(group).num_rows for group in range(first))
    for batch in file.iter_batches(
        _BATCH_ROWS, row_groups=list(range(first, last)), columns=[column]
    ):
        for value in batch.column(0):
            found = value.as_py()
            fields = found if isinstance(found, dict) else {_BYTES: found}
            yield Cell(row=row, path=str(fields.get("path") or ""), data=fields.get(_BYTES))
            row += 1


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == _BYTES and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
