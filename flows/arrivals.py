"""Pre-labels for what has come since the last pre-labelling, without scoring everything again.

`flows.prelabel` scores every picture anew, since prompts or decisions may have changed; a night
needs only that no picture is without a score. Memory does not grow with the number of pictures.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.conditions import sql_text
from flows.encoders import EncoderSource
from flows.id_sets import IdSet
from flows.memory import give_memory_back
from flows.prelabel import calibrations
from flows.rows import PRELABELS
from flows.workspace import Workspace
from model.calibration import Calibration
from model.prelabel import PromptEmbeddings, margins
from model.prelabel import prelabel as score_against_prompts

CALIBRATED_ON = 10_000
"""Pictures, decided ones besides, whose margins stand for those of all."""

COMMITTED_AT_ONCE = 25_000
"""Rows, one a picture and label, that make one commit: each commit reads the keys of the table, and
Lance holds several times the rows: 90 MB for 100,000."""


def prelabel_arrivals(workspace: Workspace, source: EncoderSource) -> int:
    """Score the permitted, embedded pictures without a score; return how many those were."""
    catalog = workspace.catalog
    taxonomy = workspace.project.taxonomy()
    with IdSet(catalog.permitted_batches()) as new:
        scored_by = (
            f"encoder_id = {sql_text(source.id())} AND taxonomy_id = {sql_text(taxonomy.id)}"
        )
        for batch in catalog.prelabel_batches(["sha256"], scored_by):
            new.discard(batch.column(0))
        if not len(new):
            return 0
        prompts = source.prompts(taxonomy)
        fitted: list[Calibration] | None = None
        count = 0
        waiting: list[pa.Table] = []
        for column, embeddings_BD in catalog.embedding_batches(source.id()):
            wanted_B = new.holds(column)
            if not wanted_B.any():
                continue
            fitted = fitted or _calibrated(workspace, prompts)
            scores_BL = score_against_prompts(
                embeddings_BD[wanted_B], prompts, encoder_id=source.id(), calibrations=fitted
            )
            ids = column.filter(pa.array(wanted_B))
            waiting.append(_rows(ids, scores_BL, prompts))
            count += len(ids)
            if sum(map(len, waiting)) >= COMMITTED_AT_ONCE:
                catalog.add_prelabels(pa.concat_tables(waiting))
                waiting = []
                give_memory_back()
        if waiting:
            catalog.add_prelabels(pa.concat_tables(waiting))
    return count


def _calibrated(workspace: Workspace, prompts: PromptEmbeddings) -> list[Calibration]:
    """Return what `flows.prelabel.calibrations` does, from decided pictures and an even sample."""
    catalog = workspace.catalog
    decided = pa.array(sorted({sha256 for sha256, _ in catalog.latest_decisions()}), pa.string())
    stride = max(1, catalog.embedding_count(prompts.encoder_id) // CALIBRATED_ON)
    sha256s: list[str] = []
    parts: list[NDArray[np.float64]] = []
    before = 0
    with IdSet([decided]) as known:
        for column, embeddings_BD in catalog.embedding_batches(prompts.encoder_id):
            row_B = np.arange(before, before + len(column))
            wanted_B = known.holds(column) | (row_B % stride == 0)
            before += len(column)
            sha256s += column.filter(pa.array(wanted_B)).to_pylist()
            parts.append(margins(embeddings_BD[wanted_B], prompts, encoder_id=prompts.encoder_id))
    return calibrations(workspace, prompts, sha256s, np.concatenate(parts))


def _rows(ids: pa.Array, scores_BL: NDArray[np.float32], prompts: PromptEmbeddings) -> pa.Table:
    number, labels = scores_BL.shape
    columns = [
        ids.take(pa.array(np.repeat(np.arange(number), labels))),
        pa.array(prompts.labels, pa.string()).take(pa.array(np.tile(np.arange(labels), number))),
        pa.array(scores_BL.ravel()),
        pa.repeat(prompts.taxonomy_id, number * labels),
        pa.repeat(prompts.encoder_id, number * labels),
    ]
    return pa.Table.from_arrays(columns, schema=PRELABELS)
