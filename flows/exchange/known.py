"""What the catalogue says about pictures' labels, by id: in a private file, not in memory.

The catalogue's tables have no index, and each has its own order. To go through pictures and have
what was decided about each of them beside it, the tables are read once, into a file that SQLite
deletes, and sorted there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.catalog import Catalog
from flows.conditions import sql_text
from flows.decision_notes import stands
from flows.private_database import PrivateDatabase
from flows.rows import DecisionRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORD = "sha256, label, answer, who, at, score, note"

_TABLES = """
CREATE TABLE words (sha256, label, answer, who, at, score, note);
CREATE TABLE added (sha256, label, answer, who, at, score, note);
CREATE TABLE prelabels (sha256, label, score);
CREATE TABLE predictions (sha256, label, score, answer);
CREATE TABLE kept (sha256 PRIMARY KEY, kept) WITHOUT ROWID;
CREATE TABLE pictures (sha256 PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE addresses (url, sha256);
"""


class Known(PrivateDatabase):
    """What has been put in, by picture. A context manager; for one thread.

    `index` is called once, when all is in and before anything is asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.database.executescript(_TABLES)

    # ---- what is put in ----

    def put_duplicates(self, catalog: Catalog) -> None:
        """Let what was said of a duplicate count for the picture that is kept."""
        columns = ["sha256", "duplicate_of"]
        self._fill("kept", 2, catalog.image_batches(columns, "duplicate_of IS NOT NULL"))

    def put_words(self, catalog: Catalog, labels: Sequence[str]) -> None:
        """Put in everything that people said about those labels; duplicates come first."""
        columns = _WORD.split(", ")
        wanted = pa.array(labels, pa.string())
        for batch in catalog.decisions_since(frozenset()).batches:
            said = batch.select(columns)
            said = said.filter(pc.is_in(said.column("label"), value_set=wanted))
            self._insert("words", 7, said)
        self.database.execute(
            "UPDATE words SET sha256 = (SELECT kept FROM kept WHERE kept.sha256 = words.sha256) "
            "WHERE sha256 IN (SELECT sha256 FROM kept)"
        )

    def put_prelabels(self, catalog: Catalog) -> None:
        """Put in the scores that CLIP gave."""
        self._fill("prelabels", 3, catalog.prelabel_batches(["sha256", "label", "score"]))

    def put_predictions(self, tables: Iterable[pa.Table]) -> None:
        """Put in what a model gave (`flows.predictions.published`)."""
        for table in tables:
            batches = table.select(["sha256", "label", "score", "answer"]).to_batches()
            self._fill("predictions", 4, batches)

    def put_pictures(self, catalog: Catalog) -> None:
        """Put in which pictures there are."""
        self._fill("pictures", 1, catalog.image_batches(["sha256"]))

    def put_addresses(self, catalog: Catalog, source: str | None = None) -> None:
        """Put in which address led to which picture, for all sources or for one."""
        where = "sha256 IS NOT NULL"
        if source is not None:
            where += f" AND source = {sql_text(source)}"
        self._fill("addresses", 2, catalog.link_batches(["url", "sha256"], where))

    def index(self) -> None:
        """Sort what was put in, so that it is found."""
        for table in ("words", "prelabels", "predictions"):
            self.database.execute(f"CREATE INDEX {table}_of ON {table} (sha256, label)")
        self.database.execute("CREATE INDEX addresses_of ON addresses (url)")

    # ---- what is asked ----

    def words(self, sha256s: Sequence[str]) -> dict[str, list[DecisionRow]]:
        """Return all that was said about each of those pictures, earliest first."""
        found: dict[str, list[DecisionRow]] = defaultdict(list)
        # The same word twice was said once: a commit whose answer got lost is made again.
        for row in self._about("words", f"DISTINCT {_WORD}", sha256s, " ORDER BY at, who"):
            found[row[0]].append(_decision(row))
        return found

    def history(self, sha256: str, label: str) -> list[DecisionRow]:
        """Return all that was said about one label of one picture, earliest first."""
        rows = self.database.execute(
            f"SELECT DISTINCT {_WORD} FROM words WHERE sha256 = ? AND label = ? ORDER BY at, who",  # noqa: S608 - no value in it
            (sha256, label),
        )
        return [_decision(row) for row in rows]

    def add(self, row: DecisionRow) -> None:
        """Put in one more word, so that what follows knows of it; `added` gives it again."""
        at = (row.at - _EPOCH) // timedelta(microseconds=1)
        values = (row.sha256, row.label, row.answer, row.who, at, row.score, row.note)
        for table in ("words", "added"):
            self.database.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - no value in it

    def added(self, size: int) -> Iterator[list[DecisionRow]]:
        """Yield what was added, in its order, in lists of up to `size`."""
        rows = self.database.execute(f"SELECT {_WORD} FROM added ORDER BY rowid")  # noqa: S608 - no value in it
        while batch := rows.fetchmany(size):
            yield [_decision(row) for row in batch]

    def prelabel(self, sha256: str, label: str) -> float | None:
        """Return the score that CLIP gave, if any."""
        found = self.database.execute(
            "SELECT score FROM prelabels WHERE sha256 = ? AND label = ?", (sha256, label)
        ).fetchone()
        return None if found is None else float(found[0])

    def prelabels(self, sha256s: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the scores that CLIP gave, by picture and label."""
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for sha256, label, score in self._about("prelabels", "*", sha256s):
            found[sha256][label] = score
        return found

    def predictions(self, sha256s: Sequence[str]) -> dict[str, dict[str, tuple[float, bool]]]:
        """Return score and answer of the model, by picture and label."""
        found: dict[str, dict[str, tuple[float, bool]]] = defaultdict(dict)
        for sha256, label, score, answer in self._about("predictions", "*", sha256s):
            found[sha256][label] = (score, bool(answer))
        return found

    def picture(self, name: str) -> str | None:
        """Return the id that a name stands for: an id, or an address that led to one picture alone."""
        for query in (
            "SELECT sha256 FROM pictures WHERE sha256 = ?",
            "SELECT DISTINCT sha256 FROM addresses JOIN pictures USING (sha256) WHERE url = ? LIMIT 2",
        ):
            found = self.database.execute(query, (name,)).fetchall()
            if len(found) == 1:
                return str(found[0][0])
        return None

    def _about(
        self, table: str, columns: str, sha256s: Sequence[str], order: str = ""
    ) -> Iterator[Any]:
        marks = ", ".join("?" * len(sha256s))
        query = f"SELECT {columns} FROM {table} WHERE sha256 IN ({marks}){order}"  # noqa: S608 - no value in it
        return iter(self.database.execute(query, sha256s))

    def _fill(self, table: str, columns: int, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            self._insert(table, columns, batch)

    def _insert(self, table: str, columns: int, batch: pa.RecordBatch) -> None:
        # Times as microseconds: half the time of making datetimes of them.
        values = (
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in batch.columns
        )
        rows = zip(*(column.to_pylist() for column in values), strict=True)
        self.database.execute("BEGIN")
        self.database.executemany(
            f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})",  # noqa: S608 - no value in it
            rows,
        )
        self.database.execute("COMMIT")


def last_words(history: Iterable[DecisionRow]) -> tuple[DecisionRow, ...]:
    """Return each person's last word on each label that counts, earliest first."""
    last = {(row.who, row.label): row for row in history if stands(row.note)}
    return tuple(sorted(last.values(), key=lambda row: (row.at, row.who, row.label)))


def _decision(row: Sequence[Any]) -> DecisionRow:
    sha256, label, answer, who, at, score, note = row
    return DecisionRow(
        sha256=sha256,
        label=label,
        answer=answer,
        who=who,
        at=_EPOCH + timedelta(microseconds=at),
        score=score,
        note=note,
    )
