"""Embed what is new, once a picture and encoder, and score it against the project's prompts."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows import metrics, observe
from flows.encoders import EncoderSource
from flows.pixel_feed import PixelFeed, Unreadable
from flows.progress import Progress, Watch, silent, unwatched
from flows.range_reads import RangeReader
from flows.records import new_run_id, once
from flows.rows import PreLabelRow
from flows.search import INDEX_FROM
from flows.unreadable import UnreadableRow, record_unreadable, unreadable
from flows.workspace import Workspace
from model.calibration import Calibration, fit_calibration
from model.encoder import ClipEncoder
from model.prelabel import PromptEmbeddings, margins, prior_calibrations
from model.prelabel import prelabel as score_against_prompts

EMBED_SHARD_IMAGES = 1000
"""How many pictures one task embeds; each batch in it is committed by itself."""

EMBED_BATCH_IMAGES = 256
"""How many vectors are committed at a time; a kill can take back twice as many.

A commit compares the keys of all vectors that there are, so small ones grow dear.
"""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrelabelResult:
    """What one run embedded and scored."""

    run_id: str
    encoder_id: str
    taxonomy_id: str
    embedded: int
    """Pictures that had no embedding by this encoder before."""
    scored: int
    """Pictures with a pre-label for every label of the project."""
    suggested: dict[str, int]
    """Per label, how many pictures score 0.5 or more."""
    unreadable: dict[str, int] = dataclasses.field(default_factory=dict)
    """Pictures without an embedding because they do not decode, by reason."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        yes = ", ".join(f"{label} {count}" for label, count in self.suggested.items())
        refused = f"unreadable {sum(self.unreadable.values())} " if self.unreadable else ""
        return (
            f"pre-labelled {self.scored} embedded {self.embedded} {refused}suggested {yes} "
            f"in {self.seconds:.0f} s"
        )


def plan_embedding(workspace: Workspace, encoder_id: str) -> list[list[str]]:
    """Return the sha256s that this encoder has not embedded yet, in shards, in a stable order.

    That is the order in which they lie in the store, so that a shard is read with few requests.
    """
    missing = pa.array(workspace.catalog.without_embedding(encoder_id), pa.string())
    if not len(missing):
        return []
    found = []
    # Many batches together: looking ids up among the missing begins with hashing all of those.
    for batches in _in_batches(workspace.catalog.image_batches(["sha256", "shard", "offset"]), 64):
        table = pa.Table.from_batches(batches)
        found.append(table.filter(pc.is_in(table["sha256"], value_set=missing)))
    by_place = [("shard", "ascending"), ("offset", "ascending"), ("sha256", "ascending")]
    ordered = pa.concat_tables(found).sort_by(by_place)["sha256"].to_pylist()
    return list(_in_batches(ordered, EMBED_SHARD_IMAGES))


def embed_shard(
    workspace: Workspace,
    encoder: ClipEncoder,
    sha256s: Sequence[str],
    *,
    progress: Progress = silent,
) -> int:
    """Embed those pictures and store the vectors, a batch at a time; return how many.

    Other processes decode ahead of the encoder, and a batch is committed while the next one is
    encoded; `progress` counts what is committed. A picture that does not decode, or whose bytes are
    gone, becomes a row with a reason (`flows.unreadable`).
    """
    max_pixels = workspace.project.policy().max_pixels
    reader = RangeReader(workspace.catalog, sha256s)
    embedded = done = 0
    with observe.shard("embed"), PixelFeed(encoder.preprocessing, max_pixels=max_pixels) as feed:
        found = feed.pixels(reader.sha256s, reader.read, batch_size=encoder.batch_size)
        for newly, looked_at in _commits(workspace, encoder, found):
            embedded += newly
            done += looked_at
            progress(done, len(sha256s))
    return embedded


def _commits(
    workspace: Workspace,
    encoder: ClipEncoder,
    found: Iterable[tuple[str, NDArray[np.uint8] | Unreadable]],
) -> Iterator[tuple[int, int]]:
    """Encode and store in batches; yield what `_commit` returns, when it has been stored."""
    committing: Future[tuple[int, int]] | None = None
    with ThreadPoolExecutor(1) as committer:
        for encoded in _encoded(encoder, found):
            if committing is not None:
                yield committing.result()
            committing = committer.submit(_commit, workspace, encoder.id, encoded)
        if committing is not None:
            yield committing.result()


@dataclasses.dataclass(slots=True)
class _Encoded:
    """What is committed together: vectors of what could be read, and why the others could not."""

    sha256s: list[str] = dataclasses.field(default_factory=list)
    vectors: list[NDArray[np.float32]] = dataclasses.field(default_factory=list)
    unreadable: dict[str, Unreadable] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sha256s) + len(self.unreadable)


def _encoded(
    encoder: ClipEncoder, found: Iterable[tuple[str, NDArray[np.uint8] | Unreadable]]
) -> Iterator[_Encoded]:
    """Encode in the batches that the encoder likes, and yield EMBED_BATCH_IMAGES or more together."""
    size = min(encoder.batch_size, EMBED_BATCH_IMAGES)
    taken: deque[list[tuple[str, NDArray[np.uint8] | Unreadable]]] = deque()

    def batches() -> Iterator[NDArray[np.uint8]]:
        for batch in _in_batches(found, size):
            taken.append(batch)
            seen = [each for _, each in batch if not isinstance(each, Unreadable)]
            yield np.stack(seen) if seen else np.empty(0, np.uint8)

    gathered = _Encoded()
    for vectors_BD in encoder.encode_in_turn(batches()):
        for sha256, each in taken.popleft():
            if isinstance(each, Unreadable):
                gathered.unreadable[sha256] = each
            else:
                gathered.sha256s.append(sha256)
        gathered.vectors.append(vectors_BD)
        if len(gathered) >= EMBED_BATCH_IMAGES:
            yield gathered
            gathered = _Encoded()
    if len(gathered):
        yield gathered


def _commit(workspace: Workspace, encoder_id: str, encoded: _Encoded) -> tuple[int, int]:
    """Store what was encoded; return how many vectors, and how many pictures, that were."""
    if encoded.sha256s:
        vectors_BD = np.concatenate(encoded.vectors)
        workspace.catalog.add_embeddings(encoder_id, encoded.sha256s, vectors_BD)
    record_unreadable(
        workspace.store,
        [
            UnreadableRow(
                sha256=sha256,
                encoder_id=encoder_id,
                reason=each.reason,
                detail=each.detail,
                at=datetime.now(UTC),
            )
            for sha256, each in encoded.unreadable.items()
        ],
    )
    metrics.count(metrics.EMBEDDED, len(encoded.sha256s), outcome="embedded")
    metrics.count(metrics.EMBEDDED, len(encoded.unreadable), outcome="unreadable")
    return len(encoded.sha256s), len(encoded)


def _in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch


def embed(workspace: Workspace, source: EncoderSource, *, progress: Progress = silent) -> int:
    """Embed everything that is new; return how many pictures that were.

    The encoder is not even loaded when nothing is new.
    """
    shards = watched_shards(plan_embedding(workspace, source.id()), progress)
    return sum(
        embed_shard(workspace, source.load(), shard, progress=watch) for shard, watch in shards
    )


def embed_these(
    workspace: Workspace,
    source: EncoderSource,
    sha256s: Sequence[str],
    *,
    progress: Progress = silent,
) -> int:
    """Embed those of the pictures that lack a vector; return how many. Loads only if there are any."""
    there, _ = workspace.catalog.embeddings(source.id(), sha256s)
    missing = sorted(set(sha256s).difference(there))
    return embed_shard(workspace, source.load(), missing, progress=progress) if missing else 0


def watched_shards(
    shards: Sequence[list[str]], progress: Progress
) -> Iterator[tuple[list[str], Progress]]:
    """Yield each shard with what counts it as a part of all of them."""
    total = sum(map(len, shards))
    before = 0
    for shard in shards:
        yield shard, _offset(progress, before, total)
        before += len(shard)


def _offset(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _, said="": progress(before + done, total, said)


def score_prelabels(workspace: Workspace, source: EncoderSource) -> dict[str, int]:
    """Score every embedded picture on every label; return per label how many score >= 0.5.

    Scales and offsets are fitted on the decisions so far. All are scored again each time, from
    stored embeddings: it is one matrix product, and prompts or decisions may have changed.
    """
    prompts = source.prompts(workspace.project.taxonomy())
    sha256s, embeddings_ND = workspace.catalog.embeddings(source.id())
    margin_NL = margins(embeddings_ND, prompts, encoder_id=source.id())
    fitted = calibrations(workspace, prompts, sha256s, margin_NL)
    scores_NL = score_against_prompts(
        embeddings_ND, prompts, encoder_id=source.id(), calibrations=fitted
    )
    workspace.catalog.put_prelabels(
        [
            PreLabelRow(
                sha256=sha256,
                label=label,
                score=float(score),
                taxonomy_id=prompts.taxonomy_id,
                encoder_id=prompts.encoder_id,
            )
            for sha256, scores_L in zip(sha256s, scores_NL, strict=True)
            for label, score in zip(prompts.labels, scores_L, strict=True)
        ]
    )
    counts_L = (scores_NL >= 0.5).sum(axis=0)
    return {label: int(n) for label, n in zip(prompts.labels, counts_L, strict=True)}


def calibrations(
    workspace: Workspace,
    prompts: PromptEmbeddings,
    sha256s: Sequence[str],
    margin_NL: NDArray[np.float64],
) -> list[Calibration]:
    """Return every label's calibration, fitted on its decisions; an unsure one says nothing.

    `margin_NL` are `model.prelabel.margins` of the stored embeddings of `sha256s`.
    """
    row_of = {sha256: row for row, sha256 in enumerate(sha256s)}
    decided: dict[str, list[tuple[int, bool]]] = {label: [] for label in prompts.labels}
    for (sha256, label), decision in sorted(workspace.catalog.latest_decisions().items()):
        if label in decided and sha256 in row_of and decision.answer != "unsure":
            decided[label].append((row_of[sha256], decision.answer == "yes"))
    found = []
    for column, (label, prior) in enumerate(
        zip(prompts.labels, prior_calibrations(prompts), strict=True)
    ):
        margin_N = margin_NL[:, column]
        rows = [row for row, _ in decided[label]]
        yes_N = np.array([yes for _, yes in decided[label]], dtype=bool)
        found.append(fit_calibration(prior, margin_N, margin_N[rows], yes_N))
    return found


def prelabel(
    workspace: Workspace,
    *,
    run_id: str | None = None,
    embedded: int = 0,
    watch: Watch = unwatched,
) -> tuple[PrelabelResult, bool]:
    """Embed and score; return the result, and whether this run had been done before.

    `embedded` is how many pictures the same run has embedded already, as tasks of its own.
    """
    run_id = run_id or new_run_id()

    def work() -> PrelabelResult:
        started = time.monotonic()
        source = EncoderSource(workspace)
        with watch("embed") as progress:
            newly = embed(workspace, source, progress=progress)
        workspace.catalog.index_embeddings(source.id(), from_rows=INDEX_FROM)
        suggested = score_prelabels(workspace, source)
        scored = workspace.catalog.embedding_count(source.id())
        return PrelabelResult(
            run_id=run_id,
            encoder_id=source.id(),
            taxonomy_id=workspace.project.taxonomy().id,
            embedded=embedded + newly,
            scored=scored,
            suggested=suggested,
            unreadable=_unreadable(workspace, source.id()),
            seconds=round(time.monotonic() - started, 2),
        )

    return once(workspace.store, run_id, "prelabel", PrelabelResult, work)


def _unreadable(workspace: Workspace, encoder_id: str) -> dict[str, int]:
    reasons = {
        row.sha256: row.reason
        for row in unreadable(workspace.store)
        if row.encoder_id == encoder_id
    }
    if reasons:
        missing = set(workspace.catalog.without_embedding(encoder_id))
        reasons = {sha256: reason for sha256, reason in reasons.items() if sha256 in missing}
    return dict(sorted(Counter(reasons.values()).items()))
