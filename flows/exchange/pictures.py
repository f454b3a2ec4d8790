"""The pictures of a dataset with all that is known of their labels, one after the other."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from flows.errors import Corrupt, NotFound, Permanent
from flows.exchange.known import Known, last_words
from flows.predictions import published
from flows.registry import Registry
from flows.rows import Answer, DecisionRow, Provenance
from flows.shards import Place, extension_of
from flows.workspace import Workspace
from model.data import Snapshot

Only = Literal["all", "decided", "undecided"]

SNAPSHOT = "snapshot"
"""Who has decided what a snapshot says and the table of decisions no longer does."""

_COLUMNS = ("sha256", "shard", "offset", "size", "format", "width", "height", "consent")
_USABLE = "duplicate_of IS NULL AND consent_allowed"
_READERS = 8
_LOOK_AHEAD = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture, where it comes from, and what people, CLIP and the model said of its labels."""

    sha256: str
    format: str
    width: int
    height: int
    place: Place
    consent: str
    """As `flows.rows.ImageRow.consent`."""
    found: Provenance
    """Where it was found first."""
    decisions: tuple[DecisionRow, ...]
    """Each person's last word on each label, earliest first."""
    prelabels: Mapping[str, float]
    predictions: Mapping[str, tuple[float, bool]]
    """Score and answer of the model in production."""

    @property
    def name(self) -> str:
        """The name of its file wherever it is written: its id and its kind."""
        return f"{self.sha256}.{extension_of(self.format)}"

    @property
    def answers(self) -> dict[str, Answer]:
        """What holds for each decided label: the last word."""
        return {row.label: row.answer for row in self.decisions}

    @property
    def about(self) -> dict[str, Any]:
        """What was said about it where it was found (`crawler.about.About`)."""
        said: dict[str, Any] = json.loads(self.found.about or "{}")
        return said


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which pictures: all distinct, permitted ones, the decided, or exactly those of a snapshot."""

    only: Only = "all"
    snapshot: str | None = None

    def __post_init__(self) -> None:
        if self.snapshot is not None and self.only != "all":
            raise Permanent("a snapshot says itself which pictures it has: leave --only out")


def selected(workspace: Workspace, selection: Selection) -> Iterator[Picture]:
    """Yield the pictures in the order in which the catalogue holds them; memory stays flat.

    An answer to a duplicate counts for the picture that is kept. Of a snapshot its own answers are
    given. Raises NotFound for a snapshot that is not there.
    """
    catalog, labels = workspace.catalog, workspace.project.taxonomy().names
    frozen = None if selection.snapshot is None else _Frozen.read(workspace, selection.snapshot)
    with Known() as known:
        known.put_duplicates(catalog)
        known.put_words(catalog, labels)
        known.put_prelabels(catalog)
        version = Registry(workspace.store, workspace.project.name).production()
        if version is not None:
            known.put_predictions(published(workspace.store, version))
        known.index()
        # A snapshot's pictures may have become duplicates since; they were trained on all the same.
        where = _USABLE if frozen is None else "consent_allowed"
        for batch in catalog.image_batches([*_COLUMNS, "provenance"], where):
            for picture in _pictures(known, batch):
                if frozen is not None:
                    if picture.sha256 in frozen.answers:
                        yield frozen.as_it_was(picture)
                elif selection.only == "all" or bool(picture.decisions) == (
                    selection.only == "decided"
                ):
                    yield picture


def with_bytes(
    workspace: Workspace, pictures: Iterable[Picture], damaged: Callable[[str], None]
) -> Iterator[tuple[Picture, bytes]]:
    """Yield the pictures with their original bytes, in order, read ahead by a few threads.

    One whose bytes are gone or damaged is left out, and `damaged` told why.
    """
    pending: deque[tuple[Picture, Future[bytes]]] = deque()

    def first() -> Iterator[tuple[Picture, bytes]]:
        picture, future = pending.popleft()
        try:
            yield picture, future.result()
        except (NotFound, Corrupt) as error:
            damaged(str(error))

    with ThreadPoolExecutor(_READERS) as readers:
        try:
            for picture in pictures:
                read = workspace.catalog.read_image_bytes
                pending.append((picture, readers.submit(read, picture.sha256, picture.place)))
                if len(pending) == _LOOK_AHEAD:
                    yield from first()
            while pending:
                yield from first()
        finally:
            readers.shutdown(wait=True, cancel_futures=True)


def _pictures(known: Known, batch: pa.RecordBatch) -> Iterator[Picture]:
    records = batch.to_pylist()
    sha256s = [record["sha256"] for record in records]
    words, prelabels = known.words(sha256s), known.prelabels(sha256s)
    predictions = known.predictions(sha256s)
    for record in records:
        sha256 = record["sha256"]
        yield Picture(
            sha256=sha256,
            format=record["format"],
            width=record["width"],
            height=record["height"],
            place=Place(shard=record["shard"], offset=record["offset"], size=record["size"]),
            consent=record["consent"],
            found=Provenance(**record["provenance"][0]),
            decisions=last_words(words.get(sha256, ())),
            prelabels=prelabels.get(sha256, {}),
            predictions=predictions.get(sha256, {}),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Frozen:
    """A snapshot's answers by picture, and when it was taken."""

    answers: Mapping[str, Mapping[str, bool]]
    taken_at: datetime

    @classmethod
    def read(cls, workspace: Workspace, snapshot_id: str) -> _Frozen:
        key = f"snapshots/{snapshot_id}.json"
        found = [info for info in workspace.store.list(key) if info.key == key]
        if not found:
            known = [
                info.key.removeprefix("snapshots/").removesuffix(".json")
                for info in workspace.store.list("snapshots/")
            ]
            raise NotFound(
                f"there is no snapshot {snapshot_id}; there are: {', '.join(known) or 'none'}"
            )
        snapshot = Snapshot.from_json(workspace.store.get(key).decode())
        return cls(
            answers={example.sha256: example.answers for example in snapshot.examples},
            taken_at=found[0].last_modified,
        )

    def as_it_was(self, picture: Picture) -> Picture:
        """Return the picture with the snapshot's answers alone, by whoever gave them last."""
        decisions = []
        for label, positive in self.answers[picture.sha256].items():
            answer: Answer = "yes" if positive else "no"
            given = [row for row in picture.decisions if (row.label, row.answer) == (label, answer)]
            decisions.append(
                given[-1]
                if given
                else DecisionRow(
                    sha256=picture.sha256,
                    label=label,
                    answer=answer,
                    who=SNAPSHOT,
                    at=self.taken_at,
                )
            )
        decisions.sort(key=lambda row: (row.at, row.who, row.label))
        return dataclasses.replace(picture, decisions=tuple(decisions))
