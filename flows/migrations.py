"""Tables of earlier versions of cratedig are brought up to date when a project is opened.

    tables/schema.json      {"version": 3}: every table is of that schema; looked at first

A migration has a number (the schema version that it leads to), a name, and for each table that it
changes a function from batches of rows to batches of rows. A table is brought from its own version
to the newest in one commit on the version that was read, so a kill leaves the table that was there,
of two machines one commits and the other finds nothing left to do, and what somebody writes
meanwhile makes the rewriting start again. The version before stays in the table's history until
`cratedig sweep` drops it.

A new migration goes to the end of MIGRATIONS, with SCHEMA_VERSION raised in `flows.rows`; those that
are there are never changed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from flows.errors import NotFound, Permanent, SchemaTooNew
from flows.logs import tell
from flows.objects import ObjectStore
from flows.progress import Watch, unwatched
from flows.rows import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from flows.schema_change import SchemaChange
from flows.tables import Table, bypass_proxies, table_names

MARK_KEY = "tables/schema.json"
"""Says that there is nothing to do, in one request; without it all tables are looked at."""

Change = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step between two schema versions."""

    version: int
    """The schema version that tables have afterwards."""
    name: str
    changes: Mapping[str, Change]
    """By the name of a table; the columns of other tables stay as they are."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A table of an earlier version, and what brings it up to date."""

    table: str
    version: int
    migrations: tuple[Migration, ...]

    def __str__(self) -> str:
        """Return the line that is printed of it."""
        names = [each.name for each in self.migrations if self.table in each.changes]
        changes = f" ({', '.join(names)})" if names else ""
        return f"table {self.table}: schema {self.version} -> {SCHEMA_VERSION}{changes}"


def add_about(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give every place that a picture was found at an `about` in which nothing is said."""
    at = batch.schema.get_field_index("provenance")
    places = batch.column(at)
    found = places.flatten()
    fields = {field.name: found.field(index) for index, field in enumerate(found.type)}
    fields["about"] = pa.repeat(pa.scalar("{}"), len(found))
    names = [*fields]
    # Where schema 2 has it: before the time.
    names.insert(names.index("fetched_at"), names.pop())
    struct = pa.StructArray.from_arrays([fields[name] for name in names], names)
    lengths = pc.fill_null(pc.list_value_length(places), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return batch.set_column(at, "provenance", pa.ListArray.from_arrays(offsets, struct))


def add_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give every picture a `views` that is empty: crops of it are recognised by nothing."""
    empty = pa.repeat(pa.scalar(b""), batch.num_rows)
    return batch.add_column(batch.schema.get_field_index("thumbnail"), "views", empty)


MIGRATIONS = (
    Migration(version=2, name="what pages say of a picture", changes={"images": add_about}),
    Migration(version=3, name="hashes of a picture's parts", changes={"images": add_views}),
)


def pending(store: ObjectStore) -> Iterator[Pending]:
    """Yield every table of an earlier version.

    Raises SchemaTooNew for a table of a newer cratedig's, Permanent for one that is not cratedig's.
    """
    bypass_proxies(store)
    for name in table_names(store):
        schema = Table(store, name, None).schema()
        if schema is not None and (steps := _steps(schema)):
            yield Pending(table=name, version=_version(schema), migrations=steps)


def migrate(
    store: ObjectStore, *, look_at_all: bool = False, watch: Watch = unwatched
) -> list[Pending]:
    """Bring every table up to date; return what was done. One request when nothing is to do.

    `look_at_all` looks at every table whatever the mark says. May be killed, and run by several
    machines at once. Raises what `pending` does, and CommitConflict when others keep writing to a
    table.
    """
    if _marked(store) == SCHEMA_VERSION and not look_at_all:
        return []
    # All are looked at before one is changed: a table of a newer cratedig's stops it in time.
    found = list(pending(store))
    done = []
    for each in found:
        with watch(f"migrate {each.table}") as progress:
            table = Table(store, each.table, None)
            if table.change_schema(functools.partial(_change_of, each.table), progress):
                tell(str(each), table=each.table, version=each.version)
                done.append(each)
    if found or any(table_names(store)):
        store.put(MARK_KEY, json.dumps({"version": SCHEMA_VERSION}).encode())
    return done


def _marked(store: ObjectStore) -> int | None:
    """Return the schema version that all tables had when somebody looked last."""
    try:
        mark = json.loads(store.get(MARK_KEY))
        version = int(mark["version"])
    except NotFound:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise Permanent(
            f"{MARK_KEY} is not a version of cratedig's tables: delete it, and all are looked at"
        ) from error
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the tables have schema version {version} and this cratedig knows {SCHEMA_VERSION}: "
            "upgrade cratedig"
        )
    return version


def _version(schema: pa.Schema) -> int:
    return int(schema.metadata[SCHEMA_VERSION_KEY])


def _steps(schema: pa.Schema) -> tuple[Migration, ...]:
    return tuple(each for each in MIGRATIONS if each.version > _version(schema))


def _change_of(table: str, schema: pa.Schema) -> SchemaChange | None:
    """Return what brings a table of that name and schema up to date; None when it is."""
    steps = _steps(schema)
    if not steps:
        return None
    changes = [step.changes[table] for step in steps if table in step.changes]

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        for each in changes:
            batch = each(batch)
        return batch

    # The fields that no migration touches keep their metadata: Lance knows keys by it.
    changed = change(pa.RecordBatch.from_pylist([], schema=schema)).schema
    stamped = {**(schema.metadata or {}), SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()}
    return SchemaChange(schema=changed.with_metadata(stamped), rows=change if changes else None)
