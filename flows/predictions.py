"""Predictions as they are published: Parquet for others to read, and manifests that say what counts.

    predictions/model=<version>/date=<day>/<hash>.parquet      a part: one row a picture and label
    predictions/model=<version>/manifests/<n>.json             which parts count, in order

A part counts only once a manifest names it, and manifest n is written by conditional put: of two
nights that run at once, the second finds its number taken, looks again at what is still to do, and
publishes only that. So every picture is in the published result exactly once a model. Every part
has a manifest of its own, so that a night that is killed has lost one part at most.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from flows.objects import ObjectStore

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("threshold", pa.float32(), nullable=False),
        pa.field("answer", pa.bool_(), nullable=False),
        # True where the model was fitted on this very picture: no measure of it belongs there.
        pa.field("fitted", pa.bool_(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("encoder_id", pa.string(), nullable=False),
        pa.field("predicted_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One publication: its parts, and how many pictures they hold."""

    number: int
    version: str
    parts: tuple[str, ...]
    pictures: int
    published_at: str


_MANIFEST = TypeAdapter(Manifest)


def manifests(store: ObjectStore, version: str) -> list[Manifest]:
    """Return what has been published of that model, in order."""
    prefix = f"predictions/model={version}/manifests/"
    return sorted(
        (_MANIFEST.validate_json(store.get(info.key)) for info in store.list(prefix)),
        key=lambda manifest: manifest.number,
    )


def published(store: ObjectStore, version: str) -> Iterator[pa.Table]:
    """Yield the published predictions of that model, a part at a time."""
    for manifest in manifests(store, version):
        for part in manifest.parts:
            yield pq.read_table(io.BytesIO(store.get(part)))


def publish(store: ObjectStore, manifest: Manifest) -> bool:
    """Make the manifest's parts count; False when its number is taken already."""
    key = f"predictions/model={manifest.version}/manifests/{manifest.number:06d}.json"
    return store.put_once(key, _MANIFEST.dump_json(manifest, indent=2))


def versions(store: ObjectStore) -> list[str]:
    """Return the models that have predictions in the bucket, published or not."""
    return [folder.removeprefix("model=") for folder in store.folders("predictions/")]


def predicted_batches(store: ObjectStore, version: str) -> Iterator[pa.Array]:
    """Yield the sha256s that this model has published an answer for, each once, a part at a time."""
    for manifest in manifests(store, version):
        for part in manifest.parts:
            table = pq.read_table(io.BytesIO(store.get(part)), columns=["sha256"])
            yield pc.unique(table.column("sha256"))


def predicted(store: ObjectStore, version: str) -> set[str]:
    """Return the sha256s that this model has published an answer for, all in memory."""
    return {each for batch in predicted_batches(store, version) for each in batch.to_pylist()}
