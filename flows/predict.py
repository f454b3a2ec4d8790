"""Label what is new with the model in production, and publish the answers."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections import Counter
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.objects import ObjectStore
from flows.predictions import PREDICTION_SCHEMA, Manifest, manifests, predicted, publish
from flows.prelabel import embed
from flows.progress import Watch, unwatched
from flows.registry import Registry
from flows.workspace import Workspace
from model.classifier import MultiLabelHead
from model.data import Snapshot
from model.predict import Prediction
from model.predict import predict as predict_with


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What one night labelled."""

    version: str
    embedded: int
    predicted: int
    already_predicted: int
    """Pictures that this version had labelled on an earlier night."""
    answers: dict[str, int]
    """Per label, how many of the newly labelled pictures have it."""
    parts: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        yes = ", ".join(f"{label} {count}" for label, count in self.answers.items())
        return (
            f"predicted {self.predicted} already {self.already_predicted} embedded "
            f"{self.embedded} answers {yes or 'none'} in {self.seconds:.0f} s"
        )


def predict(
    workspace: Workspace,
    *,
    day: date | None = None,
    watch: Watch = unwatched,
) -> PredictResult:
    """Embed what is new, label what this model has not labelled yet, and publish it.

    `day` (UTC, today by default) is the date that the parts are filed under.
    """
    started = time.monotonic()
    registry = Registry(workspace.store, workspace.project.name)
    version = registry.production()
    if version is None:
        raise Permanent("no model is in production yet: run `cratedig train` first")
    model = registry.load(version)
    head = model.head
    fitted = _fitted_on(workspace.store, model.card.snapshot_id)
    source = EncoderSource(workspace)
    if source.id() != head.encoder_id:
        raise Permanent(
            f"model {version} reads embeddings of {head.encoder_id}, but project.toml names an "
            f"encoder whose id is {source.id()}: run `cratedig label` and `cratedig train` again"
        )
    with watch("embed") as progress:
        embedded = embed(workspace, source, progress=progress)
    day = day or datetime.now(UTC).date()
    while True:
        before = manifests(workspace.store, version)
        done = predicted(workspace.store, version)
        todo = sorted(workspace.catalog.permitted() - done)
        sha256s, embeddings_ND = workspace.catalog.embeddings(head.encoder_id, todo)
        predictions = list(predict_with(head, version, sha256s, embeddings_ND))
        answers = Counter(
            label for each in predictions for label, answer in each.answers.items() if answer
        )
        parts: tuple[str, ...] = ()
        if predictions:
            parts = (_write_part(workspace.store, head, version, day, predictions, fitted),)
            manifest = Manifest(
                number=len(before),
                version=version,
                parts=parts,
                pictures=len(predictions),
                published_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            if not publish(workspace.store, manifest):
                continue  # another night was quicker: what is left to do has changed
        return PredictResult(
            version=version,
            embedded=embedded,
            predicted=len(predictions),
            already_predicted=len(done),
            answers={label: answers[label] for label in head.labels},
            parts=parts,
            seconds=round(time.monotonic() - started, 2),
        )


def _fitted_on(store: ObjectStore, snapshot_id: str) -> set[str]:
    snapshot = Snapshot.from_json(store.get(f"snapshots/{snapshot_id}.json").decode())
    return set(snapshot.sha256s)


def _write_part(
    store: ObjectStore,
    head: MultiLabelHead,
    version: str,
    day: date,
    predictions: list[Prediction],
    fitted: set[str],
) -> str:
    """Write the rows; the key is derived from which pictures they answer for, not from the time."""
    thresholds = dict(zip(head.labels, map(float, head.thresholds_L), strict=True))
    now = datetime.now(UTC)
    rows = [
        {
            "sha256": each.sha256,
            "label": label,
            "score": score,
            "threshold": thresholds[label],
            "answer": each.answers[label],
            "fitted": each.sha256 in fitted,
            "version": version,
            "encoder_id": head.encoder_id,
            "predicted_at": now,
        }
        for each in predictions
        for label, score in each.scores.items()
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA), buffer)
    which = hashlib.sha256("".join(each.sha256 for each in predictions).encode()).hexdigest()
    key = f"predictions/model={version}/date={day.isoformat()}/{which[:16]}.parquet"
    store.put(key, buffer.getvalue())
    return key
