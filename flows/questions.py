"""After a night: what to ask about each label, put into the bucket for the studio (`flows.queues`).

First what is unlike training, when drift was seen; then what was drawn by lot for the spot check;
then what would teach most. Memory does not grow with the number of pictures: of what is undecided,
a few thousand a label go on to `model.active`, half of them the worthiest by score, half by lot.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows import metrics
from flows.drift import DriftReport
from flows.predictions import manifests
from flows.queues import Queue, QueuedPick, Reason, write
from flows.rows import DecisionRow
from flows.spot_checks import spot_checks
from flows.workspace import Workspace
from model.active import choose

POOL = 4_000
"""Undecided pictures a label that are looked at closely: 8 MB of embeddings."""

DRIFT_SHARE = 0.25
"""Of a queue, at most so much is what is unlike training."""


def renew_queues(
    workspace: Workspace,
    version: str,
    encoder_id: str,
    *,
    drift: DriftReport | None = None,
) -> dict[str, int]:
    """Put a new queue a label into the bucket; return how long each is.

    Scores are those that model `version` has published. What earlier nights have drawn for the spot
    check stays in the queue until it is answered.
    """
    decisions = workspace.catalog.latest_decisions()
    checks = [check for check in spot_checks(workspace.store) if check.version == version]
    long: dict[str, int] = {}
    for label in workspace.project.taxonomy().names:
        decided = _decided(decisions, label)
        pool, scores_N = _undecided(workspace, version, label, decided)
        score_of = dict(zip(pool, scores_N.tolist(), strict=True))
        most = workspace.project.predict.queue
        reasons: dict[str, Reason] = {}
        if drift is not None and drift.crossed:
            far = drift.furthest[: round(most * DRIFT_SHARE)]
            reasons |= dict.fromkeys((each.sha256 for each in far), "drift")
        drawn = (sha256 for check in checks for sha256 in check.drawn.get(label, ()))
        reasons |= dict.fromkeys(drawn, "spot check")
        ids, embeddings_ND = workspace.catalog.embeddings(encoder_id, pool)
        _, decided_MD = workspace.catalog.embeddings(encoder_id, sorted(decided))
        scored_N = np.array([score_of[each] for each in ids], np.float32)
        for pick in choose(embeddings_ND, scored_N, decided_MD=decided_MD, count=most):
            reasons.setdefault(ids[pick.index], pick.why)
        permitted = workspace.catalog.permitted_among(reasons.keys() - decided)
        asked = [sha256 for sha256 in reasons if sha256 in permitted][:most]
        picks = tuple(
            QueuedPick(sha256=each, why=reasons[each], score=score_of.get(each)) for each in asked
        )
        queue = Queue(label=label, made_at=datetime.now(UTC), version=version, picks=picks)
        write(workspace.store, queue)
        long[label] = len(queue.picks)
        metrics.show(metrics.REVIEW_QUEUE, long[label], label=label)
    return long


def _decided(decisions: dict[tuple[str, str], DecisionRow], label: str) -> set[str]:
    return {sha256 for sha256, each in decisions if each == label}


def _undecided(
    workspace: Workspace, version: str, label: str, decided: set[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Return ids and scores of at most `POOL` published pictures without an answer."""
    known = pa.array(sorted(decided), pa.string())
    rng = np.random.default_rng(0)
    ids: NDArray[np.object_] = np.empty(0, object)
    scores_N, lot_N = np.empty(0, np.float32), np.empty(0)
    for manifest in manifests(workspace.store, version):
        for part in manifest.parts:
            table = pq.read_table(
                io.BytesIO(workspace.store.get(part)),
                columns=["sha256", "score"],
                filters=[("label", "=", label)],
            )
            new = table.filter(pc.invert(pc.is_in(table["sha256"], value_set=known)))
            ids = np.concatenate([ids, new["sha256"].to_numpy()])
            scores_N = np.concatenate([scores_N, new["score"].to_numpy()])
            lot_N = np.concatenate([lot_N, rng.random(new.num_rows)])
            if len(ids) > POOL:
                kept = _narrowed(scores_N, lot_N)
                ids, scores_N, lot_N = ids[kept], scores_N[kept], lot_N[kept]
    return ids.tolist(), scores_N


def _narrowed(scores_N: NDArray[np.float32], lot_N: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows of the half that is nearest to doubt, or beyond it, and of half by lot."""
    worth_N = scores_N * (1.3 - np.abs(2 * scores_N - 1))
    order = np.argsort(-worth_N, kind="stable")
    worthy, rest = order[: POOL // 2], order[POOL // 2 :]
    lucky = rest[np.argsort(lot_N[rest], kind="stable")[: POOL // 2]]
    return np.sort(np.concatenate([worthy, lucky]))
