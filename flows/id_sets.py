"""A set of picture ids that may be larger than memory: what is done is taken from what is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CACHE_KIB = 8 * 1024
"""So much of it is in memory, whatever its size; the rest is in a file that nobody else sees."""

_ASKED_AT_ONCE = 1000


class IdSet:
    """Ids (text) in a private file, which SQLite deletes. A context manager; for one thread."""

    def __init__(self, columns: Iterable[pa.Array] = ()) -> None:
        # An empty name: a file of this connection alone, gone when it is closed or killed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        for column in columns:
            self.add(column)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM ids").fetchone()
        return int(count)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in order."""
        for (each,) in self._database.execute("SELECT id FROM ids ORDER BY id"):
            yield each

    def add(self, column: pa.Array) -> None:
        """Add the ids of an Arrow column; those that are there stay."""
        self._each("INSERT OR IGNORE INTO ids VALUES (?)", column)

    def discard(self, column: pa.Array) -> None:
        """Take the ids of an Arrow column out; those that are not there are no error."""
        self._each("DELETE FROM ids WHERE id = ?", column)

    def holds(self, column: pa.Array) -> NDArray[np.bool_]:
        """Return for every id of an Arrow column whether it is in the set."""
        ids = column.to_pylist()
        found: set[str] = set()
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            asked = ids[start : start + _ASKED_AT_ONCE]
            marks = ", ".join("?" * len(asked))
            rows = self._database.execute(
                f"SELECT id FROM ids WHERE id IN ({marks})",  # noqa: S608 - no value in it
                asked,
            )
            found.update(each for (each,) in rows)
        return np.array([each in found for each in ids], bool)

    def _each(self, statement: str, column: pa.Array) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(statement, ((each,) for each in column.to_pylist()))
        self._database.execute("COMMIT")
