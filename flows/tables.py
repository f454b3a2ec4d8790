"""One Lance table in the bucket: made once, read in batches, changed without losing anybody's work.

Every change is one commit, and a commit is a conditional put of the next version's manifest. Lance
is not fork-safe: a process that uses a table starts others by `spawn`.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Lance reads this when it is imported; it warns about every table that does not exist yet.
os.environ.setdefault("LANCE_LOG", "error")
# Statistics of an index that are asked for at every search need not carry its centres.
os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")

import lance
from lance.lance import _Session as LanceSession  # typed only where it is defined

from flows import schema_change, vector_index
from flows.errors import CommitConflict, Permanent, SchemaTooNew
from flows.lance_errors import LANCE_ERRORS, explained, is_conflict
from flows.objects import ObjectStore
from flows.progress import Progress, silent
from flows.rows import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from flows.schema_change import SchemaChange

R = TypeVar("R")

BATCH_ROWS = 1024
_READ_AHEAD_BYTES = 8 * 2**20
"""Lance's own is 2 GiB: a table would be in memory nearly whole when its rows are taken slowly."""

_READ_AHEAD_BATCHES = 2

_FOLDERS = ("data", "_deletions")
"""Where a version's rows lie, below its table; transactions name rows by their places alone."""


def bypass_proxies(store: ObjectStore) -> None:
    """Let Lance reach a store on loopback directly: it knows proxies by the environment alone."""
    if store.on_loopback:
        for name in ("NO_PROXY", "no_proxy"):
            given = os.environ.get(name, "")
            if "127.0.0.1" not in given:
                ours = "127.0.0.1,localhost,::1"
                os.environ[name] = f"{given},{ours}" if given else ours


def table_names(store: ObjectStore, below: str = "") -> Iterator[str]:
    """Yield the name of every table in the bucket, as `Table` takes it."""
    for folder in store.folders(f"tables/{below}"):
        if folder.endswith(".lance"):
            yield below + folder.removesuffix(".lance")
        else:
            yield from table_names(store, f"{below}{folder}/")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """Which pieces a table consists of, and the rows of those that are new to who asks."""

    pieces: frozenset[str]
    rows: int
    """In all the pieces."""
    whole: bool
    """Whether the rows of all are given, since a piece is gone: the table was packed, or lost rows."""
    batches: Iterator[pa.RecordBatch]
    """Read when they are asked for."""


class Table:
    """A table with a fixed schema whose version it carries in its metadata.

    `schema` may be None for reading a table whose width is not known. A change is computed up to
    `claims` times, when other writers' commits come in between; then CommitConflict is raised.
    `session` keeps what was read of an index for the next search.
    """

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        schema: pa.Schema | None,
        *,
        claims: int = 100,
        session: LanceSession | None = None,
    ) -> None:
        self.name = name
        self._store = store
        self._schema = schema
        self._claims = claims
        self._session = session
        self._uri = store.uri(f"tables/{name}.lance")

    def version(self) -> int | None:
        """Return the number of the latest commit, or None if there is no table yet."""
        dataset = self._open()
        return None if dataset is None else int(dataset.version)

    def count(self, where: str | None = None) -> int:
        """Return how many rows there are, or how many of them meet the condition."""
        dataset = self._open()
        if dataset is None:
            return 0
        with explained(self._store):
            return int(dataset.count_rows(where))

    def batches(
        self, columns: Sequence[str], where: str | None = None, *, wide: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield those columns of the rows that meet the condition, as of now, in batches.

        `wide` is for rows of a thousand bytes, and more: less is read ahead.
        """
        dataset = self._open()
        if dataset is not None:
            yield from self._scan(dataset, columns, where, wide=wide)

    def since(
        self, columns: Sequence[str], known: frozenset[str], *, outside_index_of: str | None = None
    ) -> Since:
        """Return what came since an earlier call, whose pieces were `known`.

        With `outside_index_of` a column, only the pieces that its index does not hold are looked at.
        """
        dataset = self._open()
        if dataset is None:
            return Since(pieces=frozenset(), rows=0, whole=True, batches=iter(()))
        with explained(self._store):
            fragments = dataset.get_fragments()
            if outside_index_of is not None:
                fragments = vector_index.outside(dataset, outside_index_of)
            rows = sum(each.count_rows() for each in fragments)
        pieces = {_piece(each): each for each in fragments}
        whole = not known or not known <= pieces.keys()
        new = [each for name, each in pieces.items() if whole or name not in known]
        return Since(
            pieces=frozenset(pieces),
            rows=rows,
            whole=whole,
            batches=self._scan(dataset, columns, None, new),
        )

    def records(self, columns: Sequence[str], where: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield those columns of the rows that meet the condition, a dict a row."""
        for batch in self.batches(columns, where):
            yield from batch.to_pylist()

    def nearest(
        self,
        column: str,
        vector: NDArray[np.float32],
        limit: int,
        *,
        returned: str,
        by_index_alone: bool = False,
    ) -> list[tuple[str, float]]:
        """Return `returned` and the cosine of the rows nearest to a unit vector, nearest first.

        By the column's index where there is one, and by comparing all others; or `by_index_alone`.
        """
        dataset = self._open()
        if dataset is None:
            return []
        nearest: dict[str, Any] = {
            "column": column,
            "q": vector.astype(np.float16),
            "k": limit,
            "metric": vector_index.METRIC,
        }
        with explained(self._store):
            partitions = vector_index.partitions_of(dataset, column)
            if partitions is not None:
                nearest["nprobes"] = vector_index.probes_for(partitions)
            elif by_index_alone:
                return []
            found = dataset.to_table(
                columns=[returned, "_distance"], nearest=nearest, fast_search=by_index_alone
            )
        # What the index compares is rounded: a vector's cosine with itself may come out above 1.
        cosine = [min(1.0, 1 - each) for each in found["_distance"].to_pylist()]
        return list(zip(found[returned].to_pylist(), cosine, strict=True))

    def index_vectors(self, column: str) -> vector_index.Done:
        """Make the index that `nearest` uses, or bring it up to date where much came since."""
        return self._claim(lambda dataset: vector_index.keep_up(dataset, column))

    def append(self, rows: pa.Table) -> None:
        """Add rows. Appends of several processes at once all stay."""
        dataset = self._open_or_create()
        with explained(self._store):
            dataset.insert(rows)

    def insert_missing(self, keys: Sequence[str], rows: pa.Table) -> int:
        """Add the rows whose key columns' values are not there yet; return how many those were."""

        def work(dataset: lance.LanceDataset) -> int:
            merge = dataset.merge_insert(list(keys)).when_not_matched_insert_all()
            return int(merge.conflict_retries(0).execute(rows)["num_inserted_rows"])

        return self._claim(work)

    def upsert(self, keys: Sequence[str], rows: pa.Table) -> None:
        """Write the rows over those with the same key, unseen: whoever comes last is right."""
        self._claim(lambda dataset: _merge(dataset, keys, rows))

    def merge_newer(self, keys: Sequence[str], rows: pa.Table, *, by: str) -> int:
        """Write the rows whose key is not there, or there with a smaller `by`; return how many are new.

        One pass over the keys, whatever the number of rows; nothing that is there is read.
        """

        def work(dataset: lance.LanceDataset) -> int:
            merge = dataset.merge_insert(list(keys))
            merge = merge.when_matched_update_all(f"source.{by} > target.{by}")
            merge = merge.when_not_matched_insert_all()
            return int(merge.conflict_retries(0).execute(rows)["num_inserted_rows"])

        return self._claim(work)

    def rewrite(
        self,
        keys: Sequence[str],
        where: str,
        change: Callable[[list[dict[str, Any]]], tuple[pa.Table, R]],
    ) -> R:
        """Read the rows that meet the condition, and write what `change` makes of them.

        `change` is given whole rows and returns the rows to write (others stay as they are) and a
        result. When another process commits to one of those rows, or adds one with the same key,
        in between, `change` is asked again with what is there then: nothing is overwritten unseen.
        """

        def work(dataset: lance.LanceDataset) -> R:
            there = [
                record
                for batch in self._scan(dataset, dataset.schema.names, where)
                for record in batch.to_pylist()
            ]
            rows, result = change(there)
            if rows.num_rows:
                _merge(dataset, keys, rows)
            return result

        return self._claim(work)

    def change_schema(
        self, plan: Callable[[pa.Schema], SchemaChange | None], progress: Progress = silent
    ) -> bool:
        """Give the table another schema in one commit, if `plan` makes one of the schema it has.

        When another process commits in between, `plan` is asked again: nothing of either is lost.
        Returns whether anything was done.
        """

        def work(dataset: lance.LanceDataset) -> bool:
            change = plan(dataset.schema)
            if change is None:
                return False
            options = self._store.lance_options()
            schema_change.apply(dataset, change, storage_options=options, progress=progress)
            return True

        return self._claim(work)

    def schema(self) -> pa.Schema | None:
        """Return the schema that is stored, its version in the metadata; None without a table."""
        dataset = self._open()
        return None if dataset is None else dataset.schema

    def columns(self) -> list[str]:
        """Return the names of the table's columns; none if there is no table yet."""
        dataset = self._open()
        return [] if dataset is None else list(dataset.schema.names)

    def delete(self, columns: Sequence[str], chosen: Callable[[dict[str, Any]], bool]) -> int:
        """Delete the rows of which `chosen`, given those columns, says so; return how many.

        Which rows those were is not spelled out in the table's history: only their places are.
        The bytes stay until `vacuum`.
        """
        if self._open() is None:
            return 0

        def work(dataset: lance.LanceDataset) -> int:
            places = [
                record["_rowid"]
                for batch in dataset.to_batches(
                    columns=list(columns), with_row_id=True, batch_size=BATCH_ROWS
                )
                for record in batch.to_pylist()
                if chosen(record)
            ]
            if not places:
                return 0
            # A place means another row once the table has been compacted: never retried unseen.
            deleted = dataset.delete(
                f"_rowid IN ({', '.join(map(str, places))})", conflict_retries=0
            )
            return int(deleted["num_deleted_rows"])

        return self._claim(work)

    def vacuum(self, older_than: timedelta) -> int:
        """Pack the table, and drop the versions that are older; return the bytes that went.

        What was deleted or replaced in the latest version goes with the last version that has it.
        Readers of an older version, and writers that began before it, start anew.
        """
        if self._open() is None:
            return 0

        def work(dataset: lance.LanceDataset) -> int:
            dataset.optimize.compact_files(materialize_deletions_threshold=0.0)
            packed = self._open_or_create()
            return int(packed.cleanup_old_versions(older_than).bytes_removed)

        return self._claim(work)

    def drop_strays(self, older_than: timedelta) -> list[str]:
        """Delete files that no version needs; return the keys of those that are too young for it.

        They are what a writer left that was killed before its commit; a young one may belong to a
        writer that is still at work.
        """
        dataset = self._open()
        if dataset is None:
            return []
        files = list(self._store.list(f"tables/{self.name}.lance/"))
        now = self._store.clock()
        # Listed before the versions are: what is committed in between is known to be needed.
        needed = self._needed()
        young = []
        for info in files:
            folder, _, name = info.key.removeprefix(f"tables/{self.name}.lance/").partition("/")
            if folder not in _FOLDERS or name in needed:
                continue
            if now - info.last_modified < older_than:
                young.append(info.key)
            else:
                self._store.delete(info.key)
        return young

    def _needed(self) -> set[str]:
        """Return the names of the files that some version needs."""
        needed: set[str] = set()
        dataset = self._open_or_create()
        with explained(self._store):
            for version in dataset.versions():
                then = dataset.checkout_version(version["version"])
                for fragment in then.get_fragments():
                    needed.update(Path(file.path).name for file in fragment.data_files())
                    deletions = fragment.deletion_file()
                    if deletions is not None:
                        needed.add(Path(deletions).name)
        return needed

    def _claim(self, work: Callable[[lance.LanceDataset], R]) -> R:
        """Do `work` on the latest version until its commit is not beaten by another's."""
        for attempt in range(self._claims):
            dataset = self._open_or_create()
            try:
                with explained(self._store):
                    return work(dataset)
            except LANCE_ERRORS as error:
                if not (is_conflict(error) or self._was_dropped(dataset, error)):
                    raise
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))
        raise CommitConflict(
            f"table {self.name} was changed by others {self._claims} times while this change was "
            "being made: run it again when fewer writers are at work"
        )

    def _was_dropped(self, dataset: lance.LanceDataset, error: Exception) -> bool:
        """Return whether `error` tells of files that went with a version that is no longer kept."""
        if "ot found" not in str(error):
            return False
        kept = [version["version"] for version in self._open_or_create().versions()]
        return dataset.version not in kept

    def _scan(
        self,
        dataset: lance.LanceDataset,
        columns: Sequence[str],
        where: str | None,
        fragments: Sequence[lance.LanceFragment] | None = None,
        *,
        wide: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        if fragments is not None and not fragments:
            return
        scanner = dataset.scanner(
            columns=list(columns),
            filter=where,
            batch_size=BATCH_ROWS,
            fragments=fragments,
            io_buffer_size=_READ_AHEAD_BYTES,
            batch_readahead=_READ_AHEAD_BATCHES,
            # Each holds pages of its own. Small tables have many pieces, and want them side by side.
            fragment_readahead=1 if wide else None,
        )
        batches = scanner.to_batches()
        while True:
            with explained(self._store):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _open(self) -> lance.LanceDataset | None:
        try:
            with explained(self._store):
                dataset = lance.dataset(
                    self._uri, storage_options=self._store.lance_options(), session=self._session
                )
        except LANCE_ERRORS as error:
            if str(error).startswith("Dataset at path") and "was not found" in str(error):
                return None
            raise
        self._check(dataset.schema)
        return dataset

    def _open_or_create(self) -> lance.LanceDataset:
        dataset = self._open()
        if dataset is not None:
            return dataset
        if self._schema is None:
            raise Permanent(f"there is no table {self.name}")
        try:
            # Not write_dataset(mode="create"): of two at once, both succeed there, and the later
            # one takes away what was added to the earlier (pylance 14.0.2). Based on version 0
            # and without retries, only one commit can become version 1.
            with explained(self._store):
                return lance.LanceDataset.commit(
                    self._uri,
                    lance.LanceOperation.Overwrite(self._schema, []),
                    read_version=0,
                    storage_options=self._store.lance_options(),
                    max_retries=0,
                )
        except LANCE_ERRORS:
            dataset = self._open()
            if dataset is None:
                raise
            return dataset

    def _check(self, found: pa.Schema) -> None:
        version = (found.metadata or {}).get(SCHEMA_VERSION_KEY)
        if version is None:
            raise Permanent(f"{self._uri} is not a table of cratedig's: move it away")
        if int(version) > SCHEMA_VERSION:
            raise SchemaTooNew(
                f"table {self.name} has schema version {int(version)} and this cratedig knows "
                f"{SCHEMA_VERSION}: upgrade cratedig"
            )
        if self._schema is not None and not found.equals(self._schema):
            raise Permanent(
                f"table {self.name} has other columns than schema version {SCHEMA_VERSION}: "
                f"{found.names} instead of {self._schema.names}; `cratedig migrate` brings tables "
                "of earlier versions up to date"
            )


def _piece(fragment: lance.LanceFragment) -> str:
    """Return a name for the rows of a fragment as they are: another when some are deleted."""
    files = [Path(each.path).name for each in fragment.data_files()]
    return "|".join([*files, Path(fragment.deletion_file() or "").name])


def _merge(dataset: lance.LanceDataset, keys: Sequence[str], rows: pa.Table) -> None:
    merge = dataset.merge_insert(list(keys))
    merge = merge.when_matched_update_all().when_not_matched_insert_all()
    # Lance's own retry would put these rows over what another has written in between.
    merge.conflict_retries(0).execute(rows)
