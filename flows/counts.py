"""How much there is of everything, kept day by day: `counts/<day>.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime

from pydantic import BaseModel, ConfigDict

from flows.objects import ObjectStore
from flows.predictions import manifests, versions
from flows.workspace import Workspace


class Counts(BaseModel):
    """How much there was on one day (UTC), when it was last counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: date
    rows: dict[str, int]
    """As `Catalog.counts` has them, and `predictions`: pictures labelled, by any model."""
    objects: dict[str, int]
    """Objects in the bucket by the first part of their keys."""
    stored_bytes: dict[str, int]
    """Their bytes."""


def record_counts(workspace: Workspace) -> Counts:
    """Count, and keep it as today's."""
    objects: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for info in workspace.store.list():
        top = info.key.partition("/")[0]
        objects[top] += 1
        stored[top] += info.size
    predictions = sum(
        manifest.pictures
        for version in versions(workspace.store)
        for manifest in manifests(workspace.store, version)
    )
    counts = Counts(
        day=datetime.now(UTC).date(),
        rows={**workspace.catalog.counts(), "predictions": predictions},
        objects=dict(sorted(objects.items())),
        stored_bytes=dict(sorted(stored.items())),
    )
    key = f"counts/{counts.day.isoformat()}.json"
    workspace.store.put(key, counts.model_dump_json(indent=1).encode())
    return counts


def counts_over_time(store: ObjectStore) -> Iterator[Counts]:
    """Yield what was counted, a day each, oldest first."""
    for info in store.list("counts/"):
        yield Counts.model_validate_json(store.get(info.key))
