"""Embed what is new, once a picture and encoder, and score it against the project's prompts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from crawler.decode import decode
from crawler.rejections import ImageRejected
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.progress import Progress, Watch, silent, unwatched
from flows.records import new_run_id, once
from flows.rows import PreLabelRow
from flows.workspace import Workspace
from model.encoder import ClipEncoder
from model.prelabel import prelabel as score_against_prompts

EMBED_SHARD_IMAGES = 1000
"""How many pictures one task embeds; each batch in it is committed by itself."""

EMBED_BATCH_IMAGES = 64


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
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        yes = ", ".join(f"{label} {count}" for label, count in self.suggested.items())
        return (
            f"pre-labelled {self.scored} embedded {self.embedded} suggested {yes} "
            f"in {self.seconds:.0f} s"
        )


def plan_embedding(workspace: Workspace, encoder_id: str) -> list[list[str]]:
    """Return the sha256s that this encoder has not embedded yet, in shards of a stable order."""
    missing = sorted(workspace.catalog.without_embedding(encoder_id))
    return [
        missing[start : start + EMBED_SHARD_IMAGES]
        for start in range(0, len(missing), EMBED_SHARD_IMAGES)
    ]


def embed_shard(
    workspace: Workspace,
    encoder: ClipEncoder,
    sha256s: Sequence[str],
    *,
    progress: Progress = silent,
) -> int:
    """Embed those pictures and store the vectors, a batch at a time; return how many.

    Every picture here was decoded once when it was collected, so one that does not decode now has
    been damaged in the store: that is an error, not a row.
    """
    max_pixels = workspace.project.policy().max_pixels
    for start in range(0, len(sha256s), EMBED_BATCH_IMAGES):
        batch = sha256s[start : start + EMBED_BATCH_IMAGES]
        images = []
        for sha256 in batch:
            try:
                images.append(
                    decode(workspace.catalog.read_image_bytes(sha256), max_pixels=max_pixels)
                )
            except ImageRejected as error:
                raise Permanent(
                    f"image {sha256} no longer decodes ({error}); it did when it was collected, "
                    f"so check the store, or raise max_pixels if it was lowered since"
                ) from error
        vectors_BD = encoder.encode_images(images)
        workspace.catalog.add_embeddings(encoder.id, list(batch), vectors_BD)
        progress(start + len(batch), len(sha256s))
    return len(sha256s)


def embed(workspace: Workspace, source: EncoderSource, *, progress: Progress = silent) -> int:
    """Embed everything that is new; return how many pictures that were.

    The encoder is not even loaded when nothing is new.
    """
    encoder_id = source.id()
    shards = plan_embedding(workspace, encoder_id)
    total = sum(map(len, shards))
    done = 0
    for shard in shards:
        watch = _offset(progress, done, total)
        done += embed_shard(workspace, source.load(), shard, progress=watch)
    return done


def _offset(progress: Progress, before: int, total: int) -> Progress:
    """Count one shard as a part of all."""
    return lambda done, _, said="": progress(before + done, total, said)


def score_prelabels(workspace: Workspace, source: EncoderSource) -> dict[str, int]:
    """Score every embedded picture on every label; return per label how many score >= 0.5.

    All are scored again each time: it is one matrix product, and prompts may have changed.
    """
    prompts = source.prompts(workspace.project.taxonomy())
    sha256s, embeddings_ND = workspace.catalog.embeddings(source.id())
    scores_NL = score_against_prompts(embeddings_ND, prompts, encoder_id=source.id())
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
        suggested = score_prelabels(workspace, source)
        scored = workspace.catalog.embedding_count(source.id())
        return PrelabelResult(
            run_id=run_id,
            encoder_id=source.id(),
            taxonomy_id=workspace.project.taxonomy().id,
            embedded=embedded + newly,
            scored=scored,
            suggested=suggested,
            seconds=round(time.monotonic() - started, 2),
        )

    return once(workspace.store, run_id, "prelabel", PrelabelResult, work)
