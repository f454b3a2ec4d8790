"""Count what one run made of one source, out of the catalogue; memory holds no row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from flows.catalog import Catalog
from flows.conditions import sql_text
from flows.live import MAX_HOSTS, OTHER_HOSTS, host_of
from flows.private_database import PrivateDatabase

_COLUMNS = ("url", "found_by", "outcome", "reason", "detail", "transient", "sha256")


@dataclasses.dataclass(slots=True)
class HostCounts:
    """What became of one host's links."""

    kept: int = 0
    rejected: int = 0


@dataclasses.dataclass(slots=True)
class Refusals:
    """The links that were rejected for one reason."""

    count: int = 0
    transient: int = 0
    """Of `count`, those that the next run tries again."""
    example: str = ""
    detail: str = ""


@dataclasses.dataclass(slots=True)
class Tally:
    """The links of one source that one run has recorded."""

    links: int = 0
    kept: int = 0
    """Different pictures that stand for themselves."""
    duplicates: int = 0
    """Links that led to a picture which is there once more: the same bytes, or alike."""
    rejected: dict[str, Refusals] = dataclasses.field(default_factory=dict)
    """By reason."""
    found_by: Counter[str] = dataclasses.field(default_factory=Counter)
    """Links with a picture, by how they were found."""
    hosts: dict[str, HostCounts] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog, source: str, run_id: str) -> Tally:
        """Return the counts of run `run_id`; duplicates are told by what is marked now."""
        tally = cls()
        with PrivateDatabase() as private:
            database = private.database
            database.execute("CREATE TABLE kept (sha256 PRIMARY KEY) WITHOUT ROWID")
            database.execute("BEGIN")
            where = f"source = {sql_text(source)} AND run_id = {sql_text(run_id)}"
            for batch in catalog.link_batches(_COLUMNS, where):
                for record in batch.to_pylist():
                    tally._count(record)
                    if record["outcome"] == "kept":
                        database.execute(
                            "INSERT OR IGNORE INTO kept VALUES (?)", (record["sha256"],)
                        )
            for batch in catalog.image_batches(["sha256"], "duplicate_of IS NOT NULL"):
                database.executemany(
                    "DELETE FROM kept WHERE sha256 = ?",
                    ((sha256,) for sha256 in batch.column(0).to_pylist()),
                )
            (tally.kept,) = database.execute("SELECT count(*) FROM kept").fetchone()
        tally.duplicates = tally.found_by.total() - tally.kept
        return tally

    def _count(self, record: Mapping[str, Any]) -> None:
        self.links += 1
        host = host_of(record["url"])
        if host not in self.hosts and len(self.hosts) >= MAX_HOSTS:
            host = OTHER_HOSTS
        counts = self.hosts.setdefault(host, HostCounts())
        if record["outcome"] == "kept":
            counts.kept += 1
            self.found_by[record["found_by"]] += 1
            return
        counts.rejected += 1
        refusals = self.rejected.setdefault(record["reason"], Refusals())
        if not refusals.count:
            refusals.example, refusals.detail = record["url"], record["detail"]
        refusals.count += 1
        refusals.transient += record["transient"]
