"""A private file of SQLite for what may be larger than memory: nobody else sees it, nothing is left."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self


class PrivateDatabase:
    """Has `database`, a file of this connection alone, gone when it is closed or killed.

    `cache_kib` of it are in memory, whatever its size. It keeps no journal: what is put in is thrown
    away at the end, anyway. A context manager; for one thread.
    """

    def __init__(self, cache_kib: int = 16 * 1024) -> None:
        # An empty name is SQLite's word for such a file.
        self.database = sqlite3.connect("", isolation_level=None)
        self.database.execute("PRAGMA journal_mode = OFF")
        self.database.execute(f"PRAGMA cache_size = -{cache_kib}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.database.close()
