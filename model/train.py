"""From a snapshot and its embeddings to a trained model that has been judged honestly.

`model.held_out` says which pictures a head is judged on, and how what is chosen by looking at their
scores is kept apart from them. What the model itself uses is chosen from all of them.

Shapes: N examples, D embedding, L labels, F folds or held-out sides, K strengths.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.card import LabelCounts, ModelCard
from model.checkpoint import TrainedModel, head_bytes, model_version
from model.classifier import FittingProblem, Floats, MultiLabelHead, Strength
from model.data import Snapshot
from model.errors import ModelError
from model.held_out import (
    FITTED_ON,
    Deal,
    HeldOut,
    deal_folds,
    deal_sides,
    judge_unseen,
    unseen_rows,
)
from model.metrics import evaluate, rank_labels
from model.readiness import MIN_ANSWERS, answer_warnings, count_answers, refusals
from model.thresholds import Aim, choose_thresholds

__all__ = ["TooFewExamples", "TrainConfig", "TrainedModel", "fit", "train"]

_ONE_TEXT_FROM = 5_000  # examples
_UNSEEN = "judged are only pictures that the encoder was not fine-tuned on, nor their kin"

# In falling order of penalty: in large problems each fit starts from the one before it.
STRENGTHS = tuple(
    Strength(penalty=penalty, text=text)
    for text in (0.0, 0.06)
    for penalty in (0.015, 0.005, 0.0015, 0.0005, 0.00015, 0.00005)
)
DEFAULT_STRENGTH = Strength(penalty=0.005, text=0.06)
"""Where too few pictures are held out to choose by. On six sets of photographs it was never worse
than zero-shot or logistic regression at 1 to 4 shots by more than their noise (model/NOTES.md)."""


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

    Classes are balanced in each label. Weights are pulled toward a share of `text_LD`, by which
    CLIP's own zero-shot logit multiplies an embedding, or toward 0, whichever and however strongly
    separates held-out pictures best; with too few to hold any out, at `DEFAULT_STRENGTH`. Rows of
    one group are kin (default: none are). The same arguments give the same bytes on one machine.
    """
    if groups is None:
        groups = [str(row) for row in range(len(targets_NL))]
    fitted = _fit(embeddings_ND, targets_NL, labels, groups, groups, config, text_LD, None)
    return fitted.head(labels, encoder_id)


def train(
    snapshot: Snapshot,
    embeddings_ND: NDArray[np.float32],
    *,
    config: TrainConfig,
    text_LD: NDArray[np.float32] | None = None,
    seen: Collection[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedModel:
    """Return the model trained on `snapshot`, with its card and out-of-fold scores.

    Row n of `embeddings_ND` (unit, by the snapshot's encoder) is example n. The snapshot's seed is
    the one used. `on_progress` is told how many of how many fits are done. TooFewExamples names
    every label with fewer than 3 positives or 3 negatives, or with all of either in one group of
    kin: such a label could not be measured on pictures that are new to it.

    `seen` are pictures that the encoder itself was fitted on, or chosen by: they and their kin are
    fitted on, and never judged. Of every label enough must be left beside them.
    """
    config = dataclasses.replace(config, seed=snapshot.seed)
    targets_NL, groups = snapshot.targets_NL(), snapshot.groups
    sha256s = snapshot.sha256s
    counts = count_answers(snapshot.labels, targets_NL, groups, snapshot.disagreements)
    unseen_N = unseen_rows(groups, sha256s, seen) if seen else None
    judged = snapshot
    if unseen_N is not None:
        examples = (snapshot.examples[row] for row in np.flatnonzero(unseen_N))
        judged = dataclasses.replace(snapshot, examples=tuple(examples))
    if refused := refusals(judged):
        raise TooFewExamples(
            f"too few examples to train on: {'; '.join(refused)}; review more pictures until "
            f"every label has {MIN_ANSWERS} positives and {MIN_ANSWERS} negatives of different kinds"
        )
    fitted = _fit(
        embeddings_ND,
        targets_NL,
        snapshot.labels,
        groups,
        sha256s,
        config,
        text_LD,
        on_progress,
        unseen_N,
    )
    head = fitted.head(snapshot.labels, snapshot.encoder_id)
    judged_N = np.flatnonzero(fitted.side_N != FITTED_ON)
    judged_targets_NL = targets_NL[judged_N]
    judged_groups = [groups[row] for row in judged_N]
    rankings = rank_labels(
        fitted.out_of_fold_NL[judged_N],
        judged_targets_NL,
        groups=judged_groups,
        seed=config.seed,
        resamples=config.resamples,
    )
    evaluation_at_half, evaluation = (
        evaluate(
            fitted.out_of_fold_NL[judged_N],
            judged_targets_NL,
            thresholds,
            labels=snapshot.labels,
            groups=judged_groups,
            seed=config.seed,
            resamples=config.resamples,
            rankings=rankings,
        )
        for thresholds in (0.5, fitted.fold_thresholds_FL[fitted.side_N[judged_N]])
    )
    thresholds = dict(zip(snapshot.labels, map(float, head.thresholds_L), strict=True))
    evaluation = dataclasses.replace(
        evaluation,
        labels=tuple(
            dataclasses.replace(label, threshold=thresholds[label.label])
            for label in evaluation.labels
        ),
    )
    settings = dataclasses.asdict(config)
    card = ModelCard(
        version=model_version(head, snapshot.id, settings),
        head_sha256=hashlib.sha256(head_bytes(head)).hexdigest(),
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
        fold_scheme=fitted.scheme if unseen_N is None else f"{fitted.scheme}; {_UNSEEN}",
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "scipy")},
        },
        warnings=_warnings(counts, fitted, config),
    )
    return TrainedModel(
        head=head,
        card=card,
        sha256s=tuple(sha256s[row] for row in judged_N),
        out_of_fold_NL=fitted.out_of_fold_NL[judged_N],
        fold_N=fitted.side_N[judged_N],
        fold_thresholds_FL=fitted.fold_thresholds_FL,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fitted:
    """What was fitted, and what was learned on the way to it."""

    weight_LD: Floats
    bias_L: Floats
    thresholds_L: NDArray[np.float32]
    strengths: tuple[Strength, ...]
    scheme: str
    out_of_fold_NL: NDArray[np.float32]  # nan where no score was held out
    side_N: NDArray[np.int64]  # of the first deal: by it thresholds are cross-fitted
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
    sha256s: Sequence[str],
    config: TrainConfig,
    text_LD: NDArray[np.float32] | None,
    on_progress: Callable[[int, int], None] | None,
    unseen_N: NDArray[np.bool_] | None = None,
) -> _Fitted:
    _check_shapes(embeddings_ND, targets_NL, labels, text_LD)
    counts = count_answers(labels, targets_NL, groups)
    strengths = _candidates(len(targets_NL), text_LD is not None)
    default = strengths.index(
        DEFAULT_STRENGTH if text_LD is not None else dataclasses.replace(DEFAULT_STRENGTH, text=0.0)
    )
    if unseen_N is None:
        deals = _deal(targets_NL, counts, groups, sha256s, config)
    else:
        deals = _deal_unseen(targets_NL, labels, groups, config, unseen_N)
    scores_NL = np.zeros(targets_NL.shape)
    held_out = []
    done, fits = 0, sum(len(deal.parts) for deal in deals) + 1
    for deal in deals:
        logits_KNL = np.zeros((len(strengths), *targets_NL.shape), np.float32)
        for fitted_N, scored_N in deal.parts:
            problem = FittingProblem.of(embeddings_ND[fitted_N], targets_NL[fitted_N], text_LD)
            for index, (weight_LD, bias_L) in enumerate(problem.solve(strengths)):
                logits_KNL[index, scored_N] = embeddings_ND[scored_N] @ weight_LD.T + bias_L
            done += 1
            if on_progress:
                on_progress(done, fits)
        sides_N = [deal.side_N == side for side in range(deal.sides)]
        by_side = [HeldOut.of(logits_KNL[:, out_N], targets_NL[out_N]) for out_N in sides_N]
        for side, out_N in enumerate(sides_N):
            others = HeldOut.sum(by_side[:side] + by_side[side + 1 :])
            choice_L = others.best_strengths(default)
            slope_L, shift_L = others.calibration(choice_L)
            chosen_NL = np.take_along_axis(logits_KNL[:, out_N], choice_L[None, None], 0)[0]
            scores_NL[out_N] += expit(slope_L * chosen_NL + shift_L) / len(deals)
        held_out += by_side

    problem = FittingProblem.of(embeddings_ND, targets_NL, text_LD)
    choice_L = np.full(len(labels), default)
    slope_L, shift_L = np.ones(len(labels)), np.zeros(len(labels))
    thresholds_L = np.full(len(labels), 0.5, np.float32)
    side_N = np.full(len(targets_NL), FITTED_ON)
    fold_thresholds_FL = np.empty((0, len(labels)), np.float32)
    if held_out:
        together = HeldOut.sum(held_out)
        choice_L = together.best_strengths(default)
        slope_L, shift_L = together.calibration(choice_L)
        side_N = deals[0].side_N
        judged_N = side_N != FITTED_ON
        thresholds_L = choose_thresholds(scores_NL[judged_N], targets_NL[judged_N], config.aim)
        fold_thresholds_FL = np.stack(
            [
                choose_thresholds(scores_NL[others_N], targets_NL[others_N], config.aim)
                for others_N in (judged_N & (side_N != side) for side in range(deals[0].sides))
            ]
        )
    chosen = tuple(strengths[k] for k in choice_L)
    weight_LD, bias_L = problem.solve_each(chosen)
    if on_progress:
        on_progress(fits, fits)
    return _Fitted(
        weight_LD=weight_LD * slope_L[:, None],
        bias_L=bias_L * slope_L + shift_L,
        thresholds_L=thresholds_L,
        strengths=chosen,
        scheme=_scheme(deals),
        out_of_fold_NL=scores_NL.astype(np.float32),
        side_N=side_N,
        fold_thresholds_FL=fold_thresholds_FL,
    )


def _candidates(number: int, has_text: bool) -> list[Strength]:
    """Return the strengths to choose from; of many pictures' own say, the text is a small part."""
    text = DEFAULT_STRENGTH.text if has_text else 0.0
    texts = {text} if number >= _ONE_TEXT_FROM else {0.0, text}
    return [each for each in STRENGTHS if each.text in texts]


def _deal(
    targets_NL: NDArray[np.float32],
    counts: Sequence[LabelCounts],
    groups: Sequence[str],
    sha256s: Sequence[str],
    config: TrainConfig,
) -> list[Deal]:
    """Return how pictures are held out: not at all when an answer has no two groups of kin."""
    if sides := deal_sides(targets_NL, groups, sha256s):
        return [sides]
    fewest = min(min(each.positive_groups, each.negative_groups) for each in counts)
    if fewest < 2:
        return []
    folds = _possible_folds(counts, groups, config.folds)
    return deal_folds(targets_NL, groups, folds=folds, repeats=config.repeats, seed=config.seed)


def _deal_unseen(
    targets_NL: NDArray[np.float32],
    labels: Sequence[str],
    groups: Sequence[str],
    config: TrainConfig,
    unseen_N: NDArray[np.bool_],
) -> list[Deal]:
    """Return folds of the pictures that the encoder has not seen; the others are in every fit."""
    targets_NL = targets_NL[unseen_N]
    groups = [group for group, unseen in zip(groups, unseen_N, strict=True) if unseen]
    folds = _possible_folds(count_answers(labels, targets_NL, groups), groups, config.folds)
    deals = deal_folds(targets_NL, groups, folds=folds, repeats=config.repeats, seed=config.seed)
    return [judge_unseen(deal, unseen_N) for deal in deals]


def _scheme(deals: Sequence[Deal]) -> str:
    if not deals:
        return "no picture was held out"
    if len(deals[0].parts) == 1:
        return (
            "70 % fitted on, two sides of 15 % held out, by the hash of each picture, kin never "
            "parted; strengths, calibration and thresholds of each side chosen on the other"
        )
    return (
        f"{len(deals)} x {deals[0].sides}-fold, stratified, kin never parted; scores averaged over "
        "the repeats; strengths, calibration and thresholds cross-fitted"
    )


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


def _possible_folds(counts: Sequence[LabelCounts], groups: Sequence[str], wanted: int) -> int:
    """Return as many folds as each can have both answers of every label, but three if need be.

    Two folds would halve what the heads under judgement are fitted on.
    """
    fewest = min(min(each.positive_groups, each.negative_groups) for each in counts)
    return min(wanted, max(fewest, 3), len(set(groups)))


def _warnings(
    counts: Sequence[LabelCounts], fitted: _Fitted, config: TrainConfig
) -> tuple[str, ...]:
    warnings = [said for each in counts for said in answer_warnings(each)]
    folds = len(fitted.fold_thresholds_FL)
    if folds < config.folds and FITTED_ON not in fitted.side_N:
        warnings.append(f"{folds} folds instead of {config.folds}: the rarest answer has no more")
    return tuple(warnings)
