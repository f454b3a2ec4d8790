"""A set of picture ids that may be larger than memory: what is done is taken from what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.private_database import PrivateDatabase

_CACHE_KIB = 8 * 1024
"""So much of it is in memory, whatever its size."""

_ASKED_AT_ONCE = 1000


class IdSet(PrivateDatabase):
    """Ids (text) in a private file. A context manager; for one thread."""

    def __init__(self, columns: Iterable[pa.Array] = ()) -> None:
        super().__init__(_CACHE_KIB)
        self.database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        for column in columns:
            self.add(column)

    def __len__(self) -> int:
        (count,) = self.database.execute("SELECT count(*) FROM ids").fetchone()
        return int(count)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in order."""
        for (each,) in self.database.execute("SELECT id FROM ids ORDER BY id"):
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
            rows = self.database.execute(
                f"SELECT id FROM ids WHERE id IN ({marks})",  # noqa: S608 - no value in it
                asked,
            )
            found.update(each for (each,) in rows)
        return np.array([each in found for each in ids], bool)

    def _each(self, statement: str, column: pa.Array) -> None:
        self.database.execute("BEGIN")
        self.database.executemany(statement, ((each,) for each in column.to_pylist()))
        self.database.execute("COMMIT")
