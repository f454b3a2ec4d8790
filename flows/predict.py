"""Label what is new with the model in production, and publish the answers.

Memory does not grow with the number of pictures: what is to do is a set in a file (`flows.id_sets`),
embeddings come in batches, and answers go out in parts of a bounded size. One night is at work at a
time, by a lease in the bucket; a night that was missed is caught up by the next, which looks for
whatever has no answer, however old.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows import metrics, observe
from flows.arrivals import prelabel_arrivals
from flows.crawl_shards import worker_leases
from flows.encoders import EncoderSource
from flows.errors import Permanent, Transient
from flows.id_sets import IdSet
from flows.leases import BucketLeases
from flows.memory import give_memory_back
from flows.objects import ObjectStore
from flows.predictions import (
    PREDICTION_SCHEMA,
    Manifest,
    manifests,
    predicted_batches,
    publish,
    versions,
)
from flows.prelabel import embed
from flows.progress import Progress, Watch, unwatched
from flows.registry import Registry
from flows.tuned_encoders import source_of
from flows.workspace import Workspace
from model.checkpoint import TrainedModel
from model.classifier import MultiLabelHead
from model.data import Snapshot

PART_ROWS = 50_000
"""A part has about so many rows, one a picture and label: 4 MB of Parquet, and readers hold one."""

_GROUP_PICTURES = 5_000
"""So many are made into rows at a time, and are a row group of a part."""

LEASE = "nightly-predictions"
"""Under this name the night that is at work holds a lease; no host has a name without a dot."""

LEASE_S = 30.0
"""For so long after a night was killed the next one waits for it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What one night labelled."""

    version: str
    embedded: int
    predicted: int
    already_predicted: int
    """Permitted pictures that an earlier night had labelled."""
    prelabelled: int = 0
    """Arrivals that were given CLIP's scores, too."""
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


@observe.stage("predict")
def predict(
    workspace: Workspace,
    *,
    day: date | None = None,
    watch: Watch = unwatched,
    lease_s: float = LEASE_S,
    part_rows: int = PART_ROWS,
) -> PredictResult:
    """Embed what is new, label what has no answer yet, publish it, and pre-label arrivals.

    `day` (UTC, today by default) is the date that the parts are filed under. Raises Transient when
    another night is at work, after waiting `lease_s` and a half for it to turn out killed.
    """
    started = time.monotonic()
    registry = Registry(workspace.store, workspace.project.name)
    version = registry.production()
    if version is None:
        raise Permanent("no model is in production yet: run `cratedig train` first")
    with _alone(workspace.store, lease_s) as leases:
        model = registry.load(version)
        source = source_of(workspace, model.head.encoder_id)
        with watch("embed") as progress:
            embedded = embed(workspace, source, progress=progress)
        day = day or datetime.now(UTC).date()
        night = _Night(workspace, model, version, day, leases, part_rows)
        with watch("predict") as progress:
            while not night.publish_new(progress):
                pass  # somebody published in between: what is left to do has changed
        give_memory_back()
        # Prompts fit the project's own encoder, also where the model's was fine-tuned from it.
        prelabelled = prelabel_arrivals(workspace, EncoderSource(workspace))
    return PredictResult(
        version=version,
        embedded=embedded,
        predicted=night.pictures,
        already_predicted=night.already,
        prelabelled=prelabelled,
        answers=dict(zip(model.head.labels, night.yes_L.tolist(), strict=True)),
        parts=tuple(night.parts),
        seconds=round(time.monotonic() - started, 2),
    )


@contextmanager
def _alone(store: ObjectStore, lease_s: float) -> Iterator[BucketLeases]:
    """Hold the lease of the night; Transient if another night holds it and lives."""
    until = time.monotonic() + 1.5 * lease_s
    with worker_leases(store, ttl_s=lease_s) as leases:
        while not leases.take(LEASE):
            if time.monotonic() > until:
                raise Transient(
                    "another night is at work on this project and publishes what this one would: "
                    "run it again when that one has ended"
                )
            time.sleep(lease_s / 20)
        yield leases


class _Night:
    """What one night publishes, a part at a time, and what it has published so far."""

    def __init__(
        self,
        workspace: Workspace,
        model: TrainedModel,
        version: str,
        day: date,
        leases: BucketLeases,
        part_rows: int,
    ) -> None:
        self._workspace = workspace
        self._store = workspace.store
        self._head = model.head
        self._version = version
        self._day = day
        self._leases = leases
        self._most = max(1, part_rows // len(self._head.labels))
        snapshot_key = f"snapshots/{model.card.snapshot_id}.json"
        snapshot = Snapshot.from_json(self._store.get(snapshot_key).decode())
        self._fitted = pa.array(snapshot.sha256s, pa.string())
        self.parts: list[str] = []
        self.pictures = 0
        self.already = 0
        self.yes_L = np.zeros(len(self._head.labels), np.int64)

    def publish_new(self, progress: Progress) -> bool:
        """Publish all that has no answer; False when another publication came in between."""
        catalog = self._workspace.catalog
        with IdSet(catalog.permitted_batches()) as todo:
            permitted = len(todo)
            published = manifests(self._store, self._version)
            number = published[-1].number + 1 if published else 0
            for version in self._done_by():
                for column in predicted_batches(self._store, version):
                    todo.discard(column)
            total = len(todo)
            self.already = permitted - total - self.pictures
            done = 0
            for ids, scores_NL in self._scored(todo):
                with observe.shard("predict"):
                    published_now = self._publish(ids, scores_NL, number)
                if not published_now:
                    return False
                number += 1
                done += len(ids)
                progress(done, total)
        return True

    def _done_by(self) -> list[str]:
        """Return the models whose answers count as done."""
        if self._workspace.project.predict.new_model == "new":
            return versions(self._store)
        return [self._version]

    def _scored(self, todo: IdSet) -> Iterator[tuple[pa.Array, NDArray[np.float32]]]:
        """Yield ids and scores of the pictures to do, a part at a time."""
        ids: list[pa.Array] = []
        scores: list[NDArray[np.float32]] = []
        waiting = 0
        for column, embeddings_BD in self._workspace.catalog.embedding_batches(
            self._head.encoder_id
        ):
            wanted_B = todo.holds(column)
            if not wanted_B.any():
                continue
            if waiting + int(wanted_B.sum()) > self._most and waiting:
                yield pa.concat_arrays(ids), np.concatenate(scores)
                ids, scores, waiting = [], [], 0
            ids.append(column.filter(pa.array(wanted_B)))
            scores.append(self._head.scores(embeddings_BD[wanted_B]))
            waiting += len(ids[-1])
        if waiting:
            yield pa.concat_arrays(ids), np.concatenate(scores)

    def _publish(self, ids: pa.Array, scores_NL: NDArray[np.float32], number: int) -> bool:
        if not self._leases.take(LEASE):
            raise Transient("this night was held up so long that another has begun: run it again")
        answers_NL = scores_NL >= self._head.thresholds_L
        part = self._write_part(ids, scores_NL, answers_NL)
        manifest = Manifest(
            number=number,
            version=self._version,
            parts=(part,),
            pictures=len(ids),
            published_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if not publish(self._store, manifest):
            return False
        self.parts.append(part)
        self.pictures += len(ids)
        yes_L = answers_NL.sum(0)
        self.yes_L += yes_L
        for label, yes in zip(self._head.labels, yes_L.tolist(), strict=True):
            metrics.count(metrics.PREDICTED, yes, label=label, answer="yes")
            metrics.count(metrics.PREDICTED, len(ids) - yes, label=label, answer="no")
        return True

    def _write_part(
        self, ids: pa.Array, scores_NL: NDArray[np.float32], answers_NL: NDArray[np.bool_]
    ) -> str:
        """Write the rows; the key is derived from which pictures they answer for, not from the time."""
        buffer = io.BytesIO()
        which = hashlib.sha256()
        with pq.ParquetWriter(buffer, PREDICTION_SCHEMA) as writer:
            for first in range(0, len(ids), _GROUP_PICTURES):
                here = slice(first, first + _GROUP_PICTURES)
                some = ids[here]
                writer.write_table(
                    _rows(
                        self._head,
                        self._version,
                        some,
                        scores_NL[here],
                        answers_NL[here],
                        self._fitted,
                    )
                )
                which.update("".join(some.to_pylist()).encode())
        folder = f"predictions/model={self._version}/date={self._day.isoformat()}"
        key = f"{folder}/{which.hexdigest()[:16]}.parquet"
        self._store.put(key, buffer.getvalue())
        return key


def _rows(
    head: MultiLabelHead,
    version: str,
    ids: pa.Array,
    scores_NL: NDArray[np.float32],
    answers_NL: NDArray[np.bool_],
    fitted: pa.Array,
) -> pa.Table:
    """Return one row a picture and label, all labels of a picture together."""
    number, labels = scores_NL.shape
    picture_R = pa.array(np.repeat(np.arange(number), labels))
    label_R = pa.array(np.tile(np.arange(labels), number))
    columns = [
        ids.take(picture_R),
        pa.array(head.labels, pa.string()).take(label_R),
        pa.array(scores_NL.ravel()),
        pa.array(head.thresholds_L).take(label_R),
        pa.array(answers_NL.ravel()),
        pc.is_in(ids, value_set=fitted).take(picture_R),
        pa.repeat(version, number * labels),
        pa.repeat(head.encoder_id, number * labels),
        pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), number * labels),
    ]
    return pa.Table.from_arrays(columns, schema=PREDICTION_SCHEMA)
