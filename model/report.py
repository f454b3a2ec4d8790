"""What a card says beyond its measures: sources, kinds of pictures, curves, suspects, weaknesses.

Shapes: N judged pictures, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.card import LearningSummary, ModelCard, Report, SliceMetrics
from model.checkpoint import TrainedModel
from model.data import Snapshot
from model.facts import SMALL, PictureFacts
from model.learning_curve import LearningCurve, forecast, learning_curves
from model.metrics import evaluate
from model.mislabels import Suspect, suspected_mislabels

MORE = 40
"""How many more positives the forecast is for."""

_SLICE_FROM = 10  # judged pictures; fewer say nothing
_MOST_SITES = 8
_CLEARLY = 0.1  # lower macro F1 than overall that is called a weakness


def make_report(
    model: TrainedModel,
    snapshot: Snapshot,
    embeddings_ND: NDArray[np.float32],
    *,
    facts: Mapping[str, PictureFacts],
    text_LD: NDArray[np.float32] | None = None,
    unseen_N: NDArray[np.bool_] | None = None,
) -> Report:
    """Return the report of a model on the snapshot and embeddings that it was trained on.

    Everything in it is of held-out scores, but for sources and licences, which count all pictures.
    `unseen_N` are the examples that learning curves may be of, where the encoder has learned others.
    """
    targets_NL = held_out_targets(model, snapshot)
    suspects = suspected_mislabels(
        model.sha256s, model.head.labels, model.out_of_fold_NL, targets_NL
    )
    curves: tuple[LearningCurve, ...] = ()
    rows = np.arange(len(embeddings_ND)) if unseen_N is None else np.flatnonzero(unseen_N)
    all_groups = snapshot.groups
    groups = [all_groups[row] for row in rows]
    if len(set(groups)) >= 3:
        curves = learning_curves(
            embeddings_ND[rows],
            snapshot.targets_NL()[rows],
            labels=snapshot.labels,
            groups=groups,
            strengths=[model.card.strengths[label] for label in snapshot.labels],
            text_LD=text_LD,
            seed=snapshot.seed,
        )
    positives = {each.label: each.positives for each in model.card.counts}
    forecasts = (forecast(curve, positives[curve.label], MORE) for curve in curves)
    slices = _slices(model, snapshot, targets_NL, facts)
    known = [facts[sha256] for sha256 in snapshot.sha256s if sha256 in facts]
    return Report(
        sources=_counted(each.host for each in known),
        licences=_counted(each.licence or "none named" for each in known),
        slices=slices,
        learning=tuple(_summary(curve) for curve in curves),
        forecasts=tuple(each for each in forecasts if each is not None),
        suspects=tuple(suspects),
        weaknesses=_weaknesses(model.card, slices, suspects),
    )


def held_out_targets(model: TrainedModel, snapshot: Snapshot) -> NDArray[np.float32]:
    """Return the snapshot's answers (N, L) to the pictures that the model was judged on, in order."""
    row_of = {sha256: row for row, sha256 in enumerate(snapshot.sha256s)}
    targets: NDArray[np.float32] = snapshot.targets_NL()[
        [row_of[sha256] for sha256 in model.sha256s]
    ]
    return targets


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts = Counter(names)
    return dict(counts.most_common())


def _slices(
    model: TrainedModel,
    snapshot: Snapshot,
    targets_NL: NDArray[np.float32],
    facts: Mapping[str, PictureFacts],
) -> tuple[SliceMetrics, ...]:
    known = [facts.get(sha256) for sha256 in model.sha256s]
    hosts = Counter(each.host for each in known if each is not None and each.host)
    of_slice: dict[str, list[int]] = {
        f"site {host}": [n for n, each in enumerate(known) if each and each.host == host]
        for host, _ in hosts.most_common(_MOST_SITES)
    }
    of_slice[f"small (under {SMALL} pixels)"] = [n for n, f in enumerate(known) if f and f.small]
    of_slice["dark"] = [n for n, each in enumerate(known) if each and each.dark]
    of_slice["blurred"] = [n for n, each in enumerate(known) if each and each.blurred]
    group_of = dict(zip(snapshot.sha256s, snapshot.groups, strict=True))
    slices = []
    for name, rows in of_slice.items():
        answers_NL = targets_NL[rows]
        both_L = (answers_NL == 1).any(0) & (answers_NL == 0).any(0)
        columns = np.flatnonzero(both_L)
        if len(rows) < _SLICE_FROM or not len(columns):
            continue
        chosen = np.ix_(np.array(rows), columns)
        found = evaluate(
            model.out_of_fold_NL[chosen],
            targets_NL[chosen],
            model.out_of_fold_thresholds_NL[chosen],
            labels=[model.head.labels[column] for column in columns],
            groups=[group_of[model.sha256s[row]] for row in rows],
            seed=snapshot.seed,
            resamples=300,
        )
        slices.append(
            SliceMetrics(
                name=name,
                pictures=len(rows),
                macro_f1=found.macro_f1,
                recall={each.label: each.recall for each in found.labels},
            )
        )
    return tuple(slices)


def _summary(curve: LearningCurve) -> LearningSummary:
    return LearningSummary(
        label=curve.label,
        positives=tuple(curve.positives_S.tolist()),
        recall=_nanmean(curve.recall_RS),
        recall_deviation=_nanstd(curve.recall_RS),
        average_precision=_nanmean(curve.average_precision_RS),
        average_precision_deviation=_nanstd(curve.average_precision_RS),
    )


def _nanmean(values_RS: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the mean of each column; 0 of a column that has nothing."""
    return tuple(
        float(c[~np.isnan(c)].mean()) if (~np.isnan(c)).any() else 0.0 for c in values_RS.T
    )


def _nanstd(values_RS: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(c[~np.isnan(c)].std()) if (~np.isnan(c)).any() else 0.0 for c in values_RS.T)


def _weaknesses(
    card: ModelCard, slices: Sequence[SliceMetrics], suspects: Sequence[Suspect]
) -> tuple[str, ...]:
    overall = card.evaluation.macro_f1.value
    said = [
        f"{each.name}: macro F1 {each.macro_f1} on {each.pictures} pictures, {overall:.2f} overall"
        for each in slices
        if each.macro_f1.high < overall or each.macro_f1.value < overall - _CLEARLY
    ]
    for label in card.evaluation.labels:
        if label.precision.low < 0.5:
            said.append(
                f"{label.label}: of its yes as few as {label.precision.low:.0%} may be right"
            )
        if label.recall.low < 0.5:
            said.append(
                f"{label.label}: it may find as few as {label.recall.low:.0%} of what is there"
            )
        if label.calibration_error.low > 0.1:
            said.append(
                f"{label.label}: its scores are no probabilities ({label.calibration_error})"
            )
    wrong = Counter(each.label for each in suspects)
    said += [f"{label}: {number} answers look wrong" for label, number in wrong.items()]
    return (*said, *card.warnings)
