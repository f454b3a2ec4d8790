"""A table's changes: what happens when another writer commits in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from flows.conditions import chunks, sql_in
from flows.errors import CommitConflict
from flows.objects import ObjectStore
from flows.rows import IMAGES, ImageRow, to_table
from flows.schema_change import SchemaChange
from flows.tables import Table
from tests.flows.catalog_rows import image, sha

WHERE = sql_in("sha256", [sha(1)])


def _rows(*rows: ImageRow) -> pa.Table:
    return to_table(rows, IMAGES)


@pytest.mark.parametrize("there_before", [True, False], ids=["changed", "added"])
def test_change_is_asked_again_when_another_was_faster(
    object_store: ObjectStore, there_before: bool
) -> None:
    """Another writer changes the row, or adds it, in between: the change is made on top of that."""
    table, rival = (Table(object_store, "images", IMAGES) for _ in range(2))
    if there_before:
        table.upsert(["sha256"], _rows(image(1, minute=0)))
    seen: list[list[str]] = []

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        seen.append([record["shard"] for record in there])
        if len(seen) == 1:
            rival.upsert(["sha256"], _rows(image(1, minute=7)))
        return _rows(image(1, minute=9)), None

    table.rewrite(["sha256"], WHERE, change)

    assert seen == [["shards/0.tar"] if there_before else [], ["shards/7.tar"]]
    assert [record["shard"] for record in table.records(["shard"])] == ["shards/9.tar"]


def test_commit_to_other_rows_is_no_conflict(object_store: ObjectStore) -> None:
    """Writers of different images do not wait for each other."""
    table, rival = (Table(object_store, "images", IMAGES) for _ in range(2))
    asked = []

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        asked.append(there)
        rival.upsert(["sha256"], _rows(image(2)))
        return _rows(image(1)), None

    table.rewrite(["sha256"], WHERE, change)

    assert len(asked) == 1
    assert table.count() == 2


def test_change_that_never_wins_is_given_up(object_store: ObjectStore) -> None:
    """Where another writer is always faster, the error says so; the other's row stays."""
    table = Table(object_store, "images", IMAGES, claims=3)
    rival = Table(object_store, "images", IMAGES)
    asked = []

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        asked.append(there)
        rival.upsert(["sha256"], _rows(image(1, minute=len(asked))))
        return _rows(image(1, minute=59)), None

    with pytest.raises(CommitConflict, match="table images was changed by others 3 times"):
        table.rewrite(["sha256"], WHERE, change)

    assert [record["shard"] for record in table.records(["shard"])] == ["shards/3.tar"]


def test_appends_do_not_conflict(object_store: ObjectStore) -> None:
    table, rival = (Table(object_store, "images", IMAGES) for _ in range(2))
    table.append(_rows(image(1)))
    rival.append(_rows(image(2)))

    assert table.count() == 2


def test_text_in_a_condition_is_quoted(object_store: ObjectStore) -> None:
    """A quotation mark in a value is part of the value, not the end of it."""
    table = Table(object_store, "images", IMAGES)
    table.append(_rows(image(1)))

    assert table.count(sql_in("format", ["jpeg' OR 'a' = 'a"])) == 0


def test_chunks_hold_every_row_once() -> None:
    """Rows are parted at a thousand keys, in order."""
    rows = {str(number): number for number in range(2500)}

    parts = list(chunks(rows))

    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert {key: row for part in parts for key, row in part.items()} == rows


def _change(table: Table, act: Callable[[], None]) -> None:
    """Change the row of the first image; `act` once it has been read."""

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        act()
        return _rows(image(1, minute=9)), None

    table.rewrite(["sha256"], WHERE, change)


def _delete(table: Table, act: Callable[[], None]) -> None:
    """Delete the row of the second image; `act` once the rows have been read."""

    def chosen(record: dict[str, Any]) -> bool:
        act()
        return bool(record["sha256"] == sha(2))

    table.delete(["sha256"], chosen)


def _tell(table: Table, act: Callable[[], None]) -> None:
    """Change the schema's metadata; `act` once the schema has been read."""

    def plan(schema: pa.Schema) -> SchemaChange | None:
        act()
        told = {**schema.metadata, b"told": b"yes"}
        return SchemaChange(schema=schema.with_metadata(told), rows=None)

    table.change_schema(plan)


def _write_anew(table: Table, act: Callable[[], None]) -> None:
    """Write every row anew under the same schema; `act` once some have been read."""

    def rows(batch: pa.RecordBatch) -> pa.RecordBatch:
        act()
        return batch

    table.change_schema(lambda schema: SchemaChange(schema=schema, rows=rows))


def _pack(table: Table, act: Callable[[], None]) -> None:
    """Pack the table; there is no middle in which to act."""
    act()
    table.vacuum(timedelta(0))


def _add(table: Table, act: Callable[[], None]) -> None:
    """Add a row."""
    act()
    table.upsert(["sha256"], _rows(image(7)))


_IN_THE_MIDDLE = [_change, _delete, _tell, _write_anew]
_WAYS = [*_IN_THE_MIDDLE, _pack, _add]


@pytest.mark.parametrize("rivals", _WAYS)
@pytest.mark.parametrize("mine", _IN_THE_MIDDLE)
def test_two_at_once_both_get_their_way(
    object_store: ObjectStore, mine: Callable[..., None], rivals: Callable[..., None]
) -> None:
    """Whatever one does in the middle of the other: what both did is there in the end."""
    table, rival = (Table(object_store, "images", IMAGES) for _ in range(2))
    for number in (1, 2, 3):
        table.upsert(["sha256"], _rows(image(number, minute=number)))
    acted: list[bool] = []

    def act() -> None:
        if not acted:
            acted.append(True)
            rivals(rival, lambda: None)

    mine(table, act)

    done = {mine, rivals}
    shards = {record["sha256"]: record["shard"] for record in table.records(["sha256", "shard"])}
    expected = {
        sha(1): "shards/9.tar" if _change in done else "shards/1.tar",
        sha(3): "shards/3.tar",
    }
    expected |= {} if _delete in done else {sha(2): "shards/2.tar"}
    expected |= {sha(7): "shards/0.tar"} if _add in done else {}
    assert shards == expected
    schema = table.schema()
    assert schema is not None
    assert (b"told" in schema.metadata) == (_tell in done)
