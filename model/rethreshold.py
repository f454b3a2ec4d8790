"""A model with other thresholds: a version of its own, because what it answers is another thing.

Shapes: N judged pictures, L labels, F folds.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from model.checkpoint import TrainedModel, head_bytes, model_version
from model.data import Snapshot
from model.metrics import evaluate
from model.report import held_out_targets

BY_HAND = (
    "thresholds were chosen by hand, on the pictures that precision, recall and F1 are measured "
    "on: they may be a little better here than on pictures to come"
)


def with_thresholds(
    model: TrainedModel, snapshot: Snapshot, thresholds: Mapping[str, float]
) -> TrainedModel:
    """Return the model with `thresholds` for the labels named, measured at them, as a new version.

    Weights, scores and the other labels' thresholds stay; the card says whose they are, by hand,
    and has no report. The same thresholds give the same version. ValueError is raised for a label
    that the model has not and for a threshold outside (0, 1].
    """
    labels = model.head.labels
    for label, threshold in thresholds.items():
        if label not in labels or not 0 < threshold <= 1:
            raise ValueError(f"{threshold} is no threshold of {label!r}: above 0, at most 1")
    thresholds_L = np.array(
        [
            thresholds.get(label, before)
            for label, before in zip(labels, model.head.thresholds_L, strict=True)
        ],
        np.float32,
    )
    head = dataclasses.replace(model.head, thresholds_L=thresholds_L)
    card = model.card
    settings = {**card.settings, "thresholds_of": card.version}
    group_of = dict(zip(snapshot.sha256s, snapshot.groups, strict=True))
    evaluation = evaluate(
        model.out_of_fold_NL,
        held_out_targets(model, snapshot),
        thresholds_L,
        labels=labels,
        groups=[group_of[sha256] for sha256 in model.sha256s],
        seed=card.seed,
        resamples=int(card.settings.get("resamples", 1000)),
    )
    return dataclasses.replace(
        model,
        head=head,
        # No fold was kept out of the choice, so all are judged by the same.
        fold_thresholds_FL=np.broadcast_to(thresholds_L, model.fold_thresholds_FL.shape).copy(),
        card=dataclasses.replace(
            card,
            version=model_version(head, card.snapshot_id, settings),
            head_sha256=hashlib.sha256(head_bytes(head)).hexdigest(),
            evaluation=evaluation,
            thresholds=dict(zip(labels, map(float, thresholds_L), strict=True)),
            settings=settings,
            warnings=(*(each for each in card.warnings if each != BY_HAND), BY_HAND),
            report=None,
        ),
    )
