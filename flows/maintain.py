"""Keep the bucket tidy: pack the tables, and sweep away what nothing points at.

What is younger than `older_than_s` is let be: whoever wrote it may be about to point at it. Safe
beside everything else that runs, and to be killed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import timedelta

from flows.leases import drop_leases
from flows.objects import ObjectStore
from flows.predictions import manifests
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
    leases: int
    """Leases that ran out long ago."""
    table_bytes: int
    """Of old versions of tables, and of writes that came to nothing."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        return (
            f"swept shards {self.shards} prediction parts {self.parts} leases {self.leases} "
            f"table bytes {self.table_bytes} in {self.seconds:.0f} s"
        )


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
        shards = _sweep_shards(workspace, older_than_s)
        parts = _sweep_parts(store, older_than_s)
        leases = drop_leases(store, idle_s=older_than_s)
        table_bytes = 0
        for number, name in enumerate(list(table_names(store)), 1):
            table = Table(store, name, None)
            table_bytes += table.vacuum(timedelta(seconds=keep_versions_s))
            progress(number, None)
    return SweepResult(
        shards=shards,
        parts=parts,
        leases=leases,
        table_bytes=table_bytes,
        seconds=round(time.monotonic() - started, 2),
    )


def _sweep_shards(workspace: Workspace, older_than_s: float) -> int:
    # Listed before the rows are read: a shard that is written and pointed at in between is not in it.
    old = set(_old_keys(workspace.store, "shards/", older_than_s))
    for batch in workspace.catalog.image_batches(["shard"]):
        old.difference_update(batch.column(0).to_pylist())
    return _delete(workspace.store, old, older_than_s)


def _sweep_parts(store: ObjectStore, older_than_s: float) -> int:
    old = {
        key for key in _old_keys(store, "predictions/", older_than_s) if key.endswith(".parquet")
    }
    for folder in store.folders("predictions/"):
        for manifest in manifests(store, folder.removeprefix("model=")):
            old.difference_update(manifest.parts)
    return _delete(store, old, older_than_s)


def _old_keys(store: ObjectStore, prefix: str, older_than_s: float) -> Iterator[str]:
    before = store.clock() - timedelta(seconds=older_than_s)
    return (info.key for info in store.list(prefix) if info.last_modified <= before)


def _delete(store: ObjectStore, keys: set[str], older_than_s: float) -> int:
    """Delete what is still old: a run that is carried on after days writes the same key again."""
    before = store.clock() - timedelta(seconds=older_than_s)
    deleted = 0
    for key in sorted(keys):
        info = store.head(key)
        if info is not None and info.last_modified <= before:
            store.delete(key)
            deleted += 1
    return deleted
