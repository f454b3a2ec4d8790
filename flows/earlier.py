"""What was recorded of a source's links before: on disk, so that a million of them cost no memory.

The catalogue is read once, in its own order, when a run begins: a look-up there is a scan, because
its tables have no index (see `flows/catalog.py`).
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from crawler.fetched import Validators
from crawler.rejections import Reason
from flows.catalog import Catalog
from flows.conditions import sql_text
from flows.rows import LinkRow

_COLUMNS = [field.name for field in dataclasses.fields(LinkRow)]
_CACHE_KIB = 32 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_JUDGED_ANEW = frozenset(
    {
        Reason.ROBOTS_TXT,
        Reason.META_ROBOTS,
        Reason.TDMREP,
        Reason.AIPREF,
        Reason.ADDRESS_FORBIDDEN,
    }
)
"""Refusals before anything is asked of a picture's server. What a site forbids today is in the link,
or in a robots.txt that is read once a host anyway: judging it again costs no request."""


def is_final(row: LinkRow) -> bool:
    """Return whether the next run leaves the link alone: it was rejected, for good.

    What failed in a way that may pass (`transient`) is tried again, and what is judged without
    asking the picture's server is judged again.
    """
    return row.outcome == "rejected" and not row.transient and row.reason not in _JUDGED_ANEW


class Earlier(Mapping[str, Validators]):
    """The rows of one source's links as a run found them; a context manager.

    As a mapping it holds the validators of what was kept, by address, for conditional requests.
    """

    def __init__(self, path: Path, catalog: Catalog, source: str, *, run_id: str) -> None:
        self._run_id = run_id
        # What a killed run has left is read from the catalogue again: it may hold more by now.
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._fill(catalog.link_batches(_COLUMNS, f"source = {sql_text(source)}"))
        except BaseException:
            self._database.close()
            raise

    def _fill(self, batches: Iterable[pa.RecordBatch]) -> None:
        # A copy, thrown away with the run: it needs no journal.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        columns = ", ".join(f"{name} PRIMARY KEY" if name == "url" else name for name in _COLUMNS)
        self._database.execute(f"CREATE TABLE rows ({columns}) WITHOUT ROWID")
        self._database.execute("BEGIN")
        insert = f"INSERT INTO rows VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - no value in it
        for batch in batches:
            self._database.executemany(insert, _stored(batch))
        self._database.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def row(self, url: str) -> LinkRow | None:
        """Return what was recorded of `url` last, before this process began."""
        found = self._database.execute("SELECT * FROM rows WHERE url = ?", (url,)).fetchone()
        return None if found is None else _read(found)

    def is_settled(self, url: str) -> bool:
        """Return whether this run has recorded `url` already, before it was cut off."""
        found = self._database.execute("SELECT run_id FROM rows WHERE url = ?", (url,)).fetchone()
        return found is not None and found[0] == self._run_id

    def kept(self) -> Iterator[str]:
        """Yield the addresses whose pictures were kept."""
        for (url,) in self._database.execute("SELECT url FROM rows WHERE outcome = 'kept'"):
            yield url

    def __getitem__(self, url: str) -> Validators:
        row = self.row(url)
        if row is None or row.outcome != "kept" or not (row.etag or row.last_modified):
            raise KeyError(url)
        return Validators(etag=row.etag, last_modified=row.last_modified)

    def __iter__(self) -> Iterator[str]:
        return (url for url in self.kept() if url in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _stored(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a batch; by columns, and times as microseconds, it takes half as long."""
    columns = (
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    )
    return zip(*(column.to_pylist() for column in columns), strict=True)


def _read(values: tuple[Any, ...]) -> LinkRow:
    fields = dict(zip(_COLUMNS, values, strict=True))
    fields["transient"] = bool(fields["transient"])
    fields["seen_at"] = _EPOCH + timedelta(microseconds=fields["seen_at"])
    return LinkRow(**fields)
