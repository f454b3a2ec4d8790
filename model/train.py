"""From a snapshot and its embeddings to a trained model that has been judged honestly.

How a number is kept honest. Pictures are dealt into folds that never part kin, several times over
(`repeats`); in each, every picture is scored by a head fitted on the other folds. Whatever is then
chosen by looking at scores (the strength of the pull, the calibration, the thresholds) is chosen
for a fold's pictures from the scores of the other folds' pictures alone. What the model itself
uses is chosen from all of them.

Shapes: N examples, D embedding, L labels, F folds, K strengths.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.checkpoint import LabelCounts, ModelCard, TrainedModel, model_version
from model.classifier import FittingProblem, Floats, MultiLabelHead, Strength
from model.data import Snapshot, grouped_folds
from model.errors import ModelError
from model.metrics import Aim, choose_thresholds, evaluate

__all__ = ["TooFewExamples", "TrainConfig", "TrainedModel", "fit", "train"]

MIN_ANSWERS = 3
_FEW_ANSWERS = 20  # below this an F1 of 0.9 has an interval wider than 0.2
_ONE_REPEAT_FROM = 2_000  # examples; with so many, another deal of the cards changes nothing

# In falling order of penalty: each fit starts from the one before. The first are nearly the text
# alone, or nearly the mean of yes less the mean of no; the last nearly free.
STRENGTHS = tuple(
    Strength(penalty=penalty, text=text)
    for text in (False, True)
    for penalty in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
)


class TooFewExamples(ModelError):
    """A label has too few answers to be learned and measured; the message names it and counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained and judged. `aim`: "f1", "precision >= 0.95" or "recall >= 0.9"."""

    folds: int = 5
    repeats: int = 3
    seed: int = 0
    aim: str = "f1"
    resamples: int = 1000

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repeats < 1 or self.resamples < 100 or self.seed < 0:
            raise ValueError(
                f"folds {self.folds} (2 or more), repeats {self.repeats} (1 or more), resamples "
                f"{self.resamples} (100 or more) or seed {self.seed} (0 or more) is out of range"
            )
        Aim.parse(self.aim)


def fit(
    embeddings_ND: NDArray[np.float32],
    targets_NL: NDArray[np.float32],
    *,
    labels: Sequence[str],
    encoder_id: str,
    config: TrainConfig,
    text_LD: NDArray[np.float32] | None = None,
    groups: Sequence[str] | None = None,
) -> MultiLabelHead:
    """Return the head that fits unit embeddings (N, D) to targets (N, L), nan unreviewed.

    Classes are balanced in each label. Weights are pulled toward the label's text embedding, or
    toward 0, whichever and however strongly separates held-out pictures best; without `text_LD`
    toward 0 alone. Rows of one group are kin (default: none are). The same arguments give the same
    bytes on one machine. TooFewExamples is raised as by `train`.
    """
    if groups is None:
        groups = [str(row) for row in range(len(targets_NL))]
    fitted = _fit(embeddings_ND, targets_NL, labels, groups, config, text_LD, None)
    return fitted.head(labels, encoder_id)


def train(
    snapshot: Snapshot,
    embeddings_ND: NDArray[np.float32],
    *,
    config: TrainConfig,
    text_LD: NDArray[np.float32] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedModel:
    """Return the model trained on `snapshot`, with its card and out-of-fold scores.

    Row n of `embeddings_ND` (unit, by the snapshot's encoder) is example n. The snapshot's seed is
    the one used. `on_progress` is told how many of how many fits are done. TooFewExamples names
    every label with fewer than 3 positives or 3 negatives, or with all of either in one group of
    kin: such a label could not be measured on pictures that are new to it.
    """
    config = dataclasses.replace(config, seed=snapshot.seed)
    targets_NL, groups = snapshot.targets_NL(), snapshot.groups
    fitted = _fit(embeddings_ND, targets_NL, snapshot.labels, groups, config, text_LD, on_progress)
    head = fitted.head(snapshot.labels, snapshot.encoder_id)
    folds = len(fitted.fold_thresholds_FL)
    evaluation_at_half, evaluation = (
        evaluate(
            fitted.out_of_fold_NL,
            targets_NL,
            thresholds,
            labels=snapshot.labels,
            groups=groups,
            seed=config.seed,
            resamples=config.resamples,
        )
        for thresholds in (0.5, fitted.fold_thresholds_FL[fitted.fold_N])
    )
    thresholds = dict(zip(snapshot.labels, map(float, head.thresholds_L), strict=True))
    evaluation = dataclasses.replace(
        evaluation,
        labels=tuple(
            dataclasses.replace(label, threshold=thresholds[label.label])
            for label in evaluation.labels
        ),
    )
    counts = _count(snapshot.labels, targets_NL, groups)
    settings = dataclasses.asdict(config)
    card = ModelCard(
        version=model_version(head, snapshot.id, settings),
        snapshot_id=snapshot.id,
        encoder_id=snapshot.encoder_id,
        labels=snapshot.labels,
        examples=len(snapshot.examples),
        groups=len(set(groups)),
        counts=counts,
        evaluation_at_half=evaluation_at_half,
        evaluation=evaluation,
        thresholds=thresholds,
        strengths=dict(zip(snapshot.labels, fitted.strengths, strict=True)),
        settings=settings,
        seed=config.seed,
        fold_scheme=(
            f"{fitted.repeats} x {folds}-fold, stratified, kin never parted; scores averaged over "
            "the repeats; strengths, calibration and thresholds cross-fitted"
        ),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "scipy")},
        },
        warnings=_warnings(counts, folds, config),
    )
    return TrainedModel(
        head=head,
        card=card,
        sha256s=snapshot.sha256s,
        out_of_fold_NL=fitted.out_of_fold_NL,
        fold_N=fitted.fold_N,
        fold_thresholds_FL=fitted.fold_thresholds_FL,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fitted:
    """What was fitted, and what was learned on the way to it."""

    weight_LD: Floats
    bias_L: Floats
    thresholds_L: NDArray[np.float32]
    strengths: tuple[Strength, ...]
    repeats: int
    out_of_fold_NL: NDArray[np.float32]
    fold_N: NDArray[np.int64]  # of the first repeat: by it thresholds are cross-fitted
    fold_thresholds_FL: NDArray[np.float32]

    def head(self, labels: Sequence[str], encoder_id: str) -> MultiLabelHead:
        return MultiLabelHead(
            labels=tuple(labels),
            weight_LD=self.weight_LD.astype(np.float32),
            bias_L=self.bias_L.astype(np.float32),
            thresholds_L=self.thresholds_L,
            encoder_id=encoder_id,
        )


def _fit(
    embeddings_ND: NDArray[np.float32],
    targets_NL: NDArray[np.float32],
    labels: Sequence[str],
    groups: Sequence[str],
    config: TrainConfig,
    text_LD: NDArray[np.float32] | None,
    on_progress: Callable[[int, int], None] | None,
) -> _Fitted:
    _check_shapes(embeddings_ND, targets_NL, labels, text_LD)
    counts = _count(labels, targets_NL, groups)
    _refuse_too_few(counts)
    strengths = [each for each in STRENGTHS if text_LD is not None or not each.text]
    repeats = 1 if len(targets_NL) >= _ONE_REPEAT_FROM else config.repeats
    folds = _possible_folds(counts, groups, config.folds)
    fold_RN = np.stack(
        [
            grouped_folds(targets_NL, groups, folds=folds, seed=config.seed + repeat)
            for repeat in range(repeats)
        ]
    )

    scores_NL = np.zeros(targets_NL.shape)
    held_out = []
    for repeat, fold_N in enumerate(fold_RN):
        logits_KNL = np.empty((len(strengths), *targets_NL.shape), np.float32)
        for fold in range(folds):
            out = fold_N == fold
            problem = FittingProblem.of(embeddings_ND[~out], targets_NL[~out], text_LD)
            for index, (weight_LD, bias_L) in enumerate(problem.solve(strengths)):
                logits_KNL[index, out] = embeddings_ND[out] @ weight_LD.T + bias_L
            if on_progress:
                on_progress(repeat * folds + fold + 1, repeats * folds + 1)
        by_fold = [
            HeldOut.of(logits_KNL[:, fold_N == fold], targets_NL[fold_N == fold])
            for fold in range(folds)
        ]
        for fold in range(folds):
            out = fold_N == fold
            others = HeldOut.sum(by_fold[:fold] + by_fold[fold + 1 :])
            choice_L = others.best_strengths()
            slope_L, shift_L = others.calibration(choice_L)
            chosen_NL = np.take_along_axis(logits_KNL[:, out], choice_L[None, None], 0)[0]
            scores_NL[out] += expit(slope_L * chosen_NL + shift_L) / repeats
        held_out += by_fold

    together = HeldOut.sum(held_out)
    choice_L = together.best_strengths()
    slope_L, shift_L = together.calibration(choice_L)
    solutions = FittingProblem.of(embeddings_ND, targets_NL, text_LD).solve(strengths)
    chosen = [
        (solutions[k][0][column], solutions[k][1][column]) for column, k in enumerate(choice_L)
    ]
    if on_progress:
        on_progress(repeats * folds + 1, repeats * folds + 1)

    out_of_fold_NL = scores_NL.astype(np.float32)
    fold_N = fold_RN[0]
    return _Fitted(
        weight_LD=np.stack([weight_D for weight_D, _ in chosen]) * slope_L[:, None],
        bias_L=np.array([bias for _, bias in chosen]) * slope_L + shift_L,
        thresholds_L=choose_thresholds(out_of_fold_NL, targets_NL, config.aim),
        strengths=tuple(strengths[k] for k in choice_L),
        repeats=repeats,
        out_of_fold_NL=out_of_fold_NL,
        fold_N=fold_N,
        fold_thresholds_FL=np.stack(
            [
                choose_thresholds(
                    out_of_fold_NL[fold_N != fold], targets_NL[fold_N != fold], config.aim
                )
                for fold in range(folds)
            ]
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Sums over held-out logits: all that strengths and calibration are chosen by.

    `sums_3KLC` holds count, sum and sum of squares, for each strength, label and class (no, yes).
    Sums of several folds add up, so a fold is left out by leaving it out.
    """

    sums_3KLC: Floats

    @classmethod
    def of(cls, logits_KNL: NDArray[np.float32], targets_NL: NDArray[np.float32]) -> HeldOut:
        """Sum the logits of each strength (K, N, L) by their targets; nan takes no part."""
        class_NLC = np.stack([targets_NL == 0, targets_NL == 1], axis=2).astype(np.float64)
        counts = np.broadcast_to(class_NLC.sum(0), (len(logits_KNL), *class_NLC.shape[1:]))
        logits = logits_KNL.astype(np.float64)
        sums = [np.einsum("knl,nlc->klc", power, class_NLC) for power in (logits, logits**2)]
        return cls(np.stack([counts, *sums]))

    @classmethod
    def sum(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """Return what all the parts hold together."""
        return cls(np.sum([part.sums_3KLC for part in parts], axis=0))

    def best_strengths(self) -> NDArray[np.intp]:
        """Return the index (L,) of the strength that parts yes from no best, for every label.

        What counts is d', the distance between their means over the spread within them: unlike
        log loss it does not mind overconfidence, which calibration mends, and unlike average
        precision it is smooth in a few dozen pictures. The mean over the labels counts as much as
        the label's own, for a label with a handful of positives.
        """
        gap_KL, variance_KL, _ = self._discriminant()
        separation_KL = gap_KL / np.sqrt(variance_KL)
        judged_KL = separation_KL + separation_KL.mean(1, keepdims=True)
        best_L: NDArray[np.intp] = np.argmax(judged_KL, axis=0)
        return best_L

    def calibration(self, choice_L: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return slope and shift (L,) that make the chosen strengths' logits log odds.

        Linear discriminant analysis, classes weighed equally: held-out logits of one class are
        taken as normal, with one variance.
        """
        gap_L, variance_L, middle_L = (
            np.take_along_axis(each_KL, choice_L[None], 0)[0] for each_KL in self._discriminant()
        )
        # A label that nothing tells apart keeps its order, on scores near a half.
        slope_L = np.clip(gap_L / variance_L, 0.05, 20)
        return slope_L, -slope_L * middle_L

    def _discriminant(self) -> tuple[Floats, Floats, Floats]:
        """Return the gap between the classes' means, the variance within, the middle; each (K, L)."""
        count_KLC, sum_KLC, square_KLC = self.sums_3KLC
        mean_KLC = sum_KLC / count_KLC.clip(min=1)
        variance_KLC = square_KLC / count_KLC.clip(min=1) - mean_KLC**2
        gap_KL = mean_KLC[..., 1] - mean_KLC[..., 0]
        return gap_KL, variance_KLC.mean(2).clip(min=1e-9), mean_KLC.mean(2)


def _check_shapes(
    embeddings_ND: NDArray[np.float32],
    targets_NL: NDArray[np.float32],
    labels: Sequence[str],
    text_LD: NDArray[np.float32] | None,
) -> None:
    if embeddings_ND.ndim != 2 or targets_NL.shape != (len(embeddings_ND), len(labels)):
        raise ValueError(
            f"embeddings {embeddings_ND.shape}, targets {targets_NL.shape} and "
            f"{len(labels)} labels do not fit together"
        )
    expected = (len(labels), embeddings_ND.shape[1])
    if text_LD is not None and text_LD.shape != expected:
        raise ValueError(f"text embeddings have shape {text_LD.shape}, not {expected}")
    length_N = np.linalg.norm(embeddings_ND, axis=1)
    if not np.all(np.abs(length_N - 1) < 0.01):  # float16 storage rounds by less; nan fails, too
        raise ValueError("embeddings are not unit vectors: store them as the encoder gives them")


def _count(
    labels: Sequence[str], targets_NL: NDArray[np.float32], groups: Sequence[str]
) -> tuple[LabelCounts, ...]:
    group_N = np.asarray(groups)
    counts = []
    for label, targets_N in zip(labels, targets_NL.T, strict=True):
        positive, negative = targets_N == 1, targets_N == 0
        counts.append(
            LabelCounts(
                label=label,
                positives=int(positive.sum()),
                negatives=int(negative.sum()),
                unreviewed=int(np.isnan(targets_N).sum()),
                positive_groups=len(np.unique(group_N[positive])),
                negative_groups=len(np.unique(group_N[negative])),
            )
        )
    return tuple(counts)


def _refuse_too_few(counts: Sequence[LabelCounts]) -> None:
    troubles = []
    for each in counts:
        if min(each.positives, each.negatives) < MIN_ANSWERS:
            troubles.append(
                f"{each.label} has {each.positives} positives and {each.negatives} negatives"
            )
        elif min(each.positive_groups, each.negative_groups) < 2:
            which = "positives" if each.positive_groups < 2 else "negatives"
            number = each.positives if each.positive_groups < 2 else each.negatives
            troubles.append(f"the {number} {which} of {each.label} are all of one shoot")
    if troubles:
        raise TooFewExamples(
            f"too few examples to train on: {'; '.join(troubles)}; review more pictures until "
            f"every label has {MIN_ANSWERS} positives and {MIN_ANSWERS} negatives of different kinds"
        )


def _possible_folds(counts: Sequence[LabelCounts], groups: Sequence[str], wanted: int) -> int:
    """Return as many folds as each can have both answers of every label, but three if need be.

    Two folds would halve what the heads under judgement are fitted on.
    """
    fewest = min(min(each.positive_groups, each.negative_groups) for each in counts)
    return min(wanted, max(fewest, 3), len(set(groups)))


def _warnings(counts: Sequence[LabelCounts], folds: int, config: TrainConfig) -> tuple[str, ...]:
    warnings = []
    for each in counts:
        for kind, number, distinct in (
            ("positives", each.positives, each.positive_groups),
            ("negatives", each.negatives, each.negative_groups),
        ):
            if number < _FEW_ANSWERS:
                warnings.append(f"{each.label} has {number} {kind}: its intervals are wide")
            elif distinct < number / 2:
                warnings.append(
                    f"the {number} {kind} of {each.label} come from {distinct} shoots or duplicates: "
                    "more variety would teach more than more of the same"
                )
    if folds < config.folds:
        warnings.append(f"{folds} folds instead of {config.folds}: the rarest answer has no more")
    return tuple(warnings)
