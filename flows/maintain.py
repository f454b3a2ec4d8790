"""Keep the bucket tidy: pack the tables, and sweep away what nothing points at.

What is younger than `older_than_s` is let be: whoever wrote it may be about to point at it. Safe
beside everything else that runs, and to be killed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from flows import observe
from flows.archive.leftovers import leftovers, remembered
from flows.archive.places import Output, output_at
from flows.errors import BucketMissing
from flows.leases import drop_leases
from flows.objects import ObjectStore
from flows.predictions import manifests, versions
from flows.progress import Watch, unwatched
from flows.tables import Table, table_names
from flows.workspace import Workspace

OLDER_THAN_S = 24 * 3600.0
"""No stage takes longer than this between writing bytes and pointing at them."""

KEEP_VERSIONS_S = 7 * 24 * 3600.0
"""For so long tables can be read as they were; snapshots do not need it, they hold their rows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What was rubbish."""

    shards: int
    """Shards without a row that points into them."""
    parts: int
    """Parts of predictions without a manifest that names them."""
    archive_parts: int
    """Parts of archives' answers that no manifest names, in the buckets that they have gone to."""
    leases: int
    """Leases that ran out long ago."""
    table_bytes: int
    """Of old versions of tables, and of writes that came to nothing."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        return (
            f"swept shards {self.shards} prediction parts {self.parts} "
            f"archive parts {self.archive_parts} leases {self.leases} "
            f"table bytes {self.table_bytes} in {self.seconds:.0f} s"
        )


@observe.stage("sweep")
def sweep(
    workspace: Workspace,
    *,
    older_than_s: float = OLDER_THAN_S,
    keep_versions_s: float = KEEP_VERSIONS_S,
    watch: Watch = unwatched,
) -> SweepResult:
    """Delete what no row or manifest points at, and pack the tables; what is young stays."""
    started = time.monotonic()
    store = workspace.store
    with watch("sweep") as progress:
        shards = _delete(store, sorted(_loose_shards(workspace, older_than_s)), older_than_s)
        parts = _delete(store, sorted(_loose_parts(store, older_than_s)), older_than_s)
        archive_parts = sum(
            sweep_answers(output, older_than_s=older_than_s) for output in _answers(workspace)
        )
        leases = drop_leases(store, idle_s=older_than_s)
        table_bytes = 0
        for number, name in enumerate(list(table_names(store)), 1):
            table = Table(store, name, None)
            table_bytes += table.vacuum(timedelta(seconds=keep_versions_s))
            progress(number, None)
    return SweepResult(
        shards=shards,
        parts=parts,
        archive_parts=archive_parts,
        leases=leases,
        table_bytes=table_bytes,
        seconds=round(time.monotonic() - started, 2),
    )


def rubbish(workspace: Workspace, *, older_than_s: float = OLDER_THAN_S) -> list[str]:
    """Return the keys that `sweep` would delete, in order, and delete nothing.

    Of archives' answers, which may lie elsewhere, the addresses.
    """
    loose = _loose_shards(workspace, older_than_s) | _loose_parts(workspace.store, older_than_s)
    answers = (
        output.uri(key)
        for output in _answers(workspace)
        for key in leftovers(output, older_than_s=older_than_s)
    )
    return [*sorted(loose), *answers]


def sweep_answers(output: Output, *, older_than_s: float = OLDER_THAN_S) -> int:
    """Delete the parts that no manifest names where archives' answers go; return how many those were."""
    return _delete(output, leftovers(output, older_than_s=older_than_s), older_than_s)


def _answers(workspace: Workspace) -> Iterator[Output]:
    """Yield the places in buckets that archives' answers have gone to and that are still there."""
    for place in remembered(workspace.store):
        output = output_at(workspace, place)
        try:
            output.clock()
        except BucketMissing:
            continue  # its owner has done away with it
        yield output


def _loose_shards(workspace: Workspace, older_than_s: float) -> set[str]:
    # Listed before the rows are read: a shard that is written and pointed at in between is not in it.
    old = set(_old_keys(workspace.store, "shards/", older_than_s))
    for batch in workspace.catalog.image_batches(["shard"]):
        old.difference_update(batch.column(0).to_pylist())
    return old


def _loose_parts(store: ObjectStore, older_than_s: float) -> set[str]:
    old = {
        key for key in _old_keys(store, "predictions/", older_than_s) if key.endswith(".parquet")
    }
    for version in versions(store):
        for manifest in manifests(store, version):
            old.difference_update(manifest.parts)
    return old


def _old_keys(store: ObjectStore, prefix: str, older_than_s: float) -> Iterator[str]:
    before = store.clock() - timedelta(seconds=older_than_s)
    return (info.key for info in store.list(prefix) if info.last_modified <= before)


def _delete(store: Output, keys: Iterable[str], older_than_s: float) -> int:
    """Delete what is still old: a run that is carried on after days writes the same key again."""
    before = store.clock() - timedelta(seconds=older_than_s)
    deleted = 0
    for key in keys:
        info = store.head(key)
        if info is not None and info.last_modified <= before:
            store.delete(key)
            deleted += 1
    return deleted
