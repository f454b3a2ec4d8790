"""Whether there is enough, and enough of different kinds, to train on; what to collect next.

Shapes: N examples, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.card import LabelCounts
from model.data import Snapshot
from model.facts import PictureFacts
from model.learning_curve import Forecast
from model.mislabels import Suspect

MIN_ANSWERS = 3
"""Positives, and negatives, without which a label is refused."""

FEW_ANSWERS = 20
"""Below this an F1 of 0.9 has an interval wider than 0.2."""

_FEW_SOURCES = 3
_DIFFER = 0.05  # of a label's answers; more than that, and people mean different things by it
_ONE_SIDED = 20  # negatives to a positive, or the other way round


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReadiness:
    """What there is of one label. Sources, `dark`, `blurred` and `small` are those of positives.

    `alike` is the mean cosine between two of them, 0 when there is one or none.
    """

    label: str
    positives: int
    negatives: int
    unreviewed: int
    positive_kin: int
    negative_kin: int
    disagreements: int
    """Pictures on which the last words of two people are yes and no; the later one holds."""
    sources: Mapping[str, int]
    dark: int
    blurred: int
    small: int
    alike: float
    suspects: int
    forecast: Forecast | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Per label what there is; what training would refuse, and what it would be unreliable in."""

    labels: tuple[LabelReadiness, ...]
    pictures: int
    duplicates: int
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    suspects: tuple[Suspect, ...]

    @property
    def ready(self) -> bool:
        """Whether training would go ahead."""
        return not self.refused


def count_answers(
    labels: Sequence[str],
    targets_NL: NDArray[np.float32],
    groups: Sequence[str],
    disagreements: Mapping[str, int] | None = None,
) -> tuple[LabelCounts, ...]:
    """Return for each label how many answers there are, and of how many groups of kin."""
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
                disagreements=(disagreements or {}).get(label, 0),
            )
        )
    return tuple(counts)


def answer_warnings(counts: LabelCounts) -> list[str]:
    """Return what the number of a label's answers makes unreliable, for the check and the card."""
    warnings = []
    for kind, number, distinct in (
        ("positives", counts.positives, counts.positive_groups),
        ("negatives", counts.negatives, counts.negative_groups),
    ):
        if number < FEW_ANSWERS:
            warnings.append(f"{counts.label} has {number} {kind}: its intervals are wide")
        elif distinct < number / 2:
            warnings.append(
                f"the {number} {kind} of {counts.label} come from {distinct} shoots or duplicates: "
                "more variety would teach more than more of the same"
            )
    answers = counts.positives + counts.negatives
    if counts.disagreements > _DIFFER * answers:
        warnings.append(
            f"people differ on {counts.disagreements} of {answers} answers to {counts.label} "
            "(the later one holds): agree on what it means before you add more"
        )
    return warnings


def refusals(snapshot: Snapshot) -> tuple[str, ...]:
    """Return why each label that cannot be trained on is refused, by name and with its counts."""
    refused = []
    for each in count_answers(snapshot.labels, snapshot.targets_NL(), snapshot.groups):
        yes, no = each.positives, each.negatives
        if min(yes, no) < MIN_ANSWERS:
            refused.append(f"{each.label} has {yes} positives and {no} negatives")
            continue
        for kind, number, groups in (
            ("positives", yes, each.positive_groups),
            ("negatives", no, each.negative_groups),
        ):
            if groups < 2:
                refused.append(f"the {number} {kind} of {each.label} are all of one shoot")
    return tuple(refused)


def examine(
    snapshot: Snapshot,
    embeddings_ND: NDArray[np.float32],
    *,
    facts: Mapping[str, PictureFacts],
    unreviewed: Mapping[str, int],
    duplicates: int,
    suspects: Sequence[Suspect] = (),
    forecasts: Mapping[str, Forecast] | None = None,
) -> Readiness:
    """Return what a snapshot is good for.

    Row n of the embeddings is example n. `unreviewed` counts each label's pictures without an
    answer, `duplicates` those that were left out as copies.
    """
    targets_NL = snapshot.targets_NL()
    suspected = Counter(each.label for each in suspects)
    counted = count_answers(snapshot.labels, targets_NL, snapshot.groups, snapshot.disagreements)
    labels = []
    for counts, target_N in zip(counted, targets_NL.T, strict=True):
        label = counts.label
        rows = np.flatnonzero(target_N == 1)
        known = [
            facts[sha256]
            for sha256 in (snapshot.examples[row].sha256 for row in rows)
            if sha256 in facts
        ]
        labels.append(
            LabelReadiness(
                label=label,
                positives=counts.positives,
                negatives=counts.negatives,
                unreviewed=unreviewed.get(label, 0),
                positive_kin=counts.positive_groups,
                negative_kin=counts.negative_groups,
                disagreements=counts.disagreements,
                sources=dict(Counter(each.host for each in known).most_common()),
                dark=sum(each.dark for each in known),
                blurred=sum(each.blurred for each in known),
                small=sum(each.small for each in known),
                alike=_mean_cosine(embeddings_ND[rows]),
                suspects=suspected[label],
                forecast=(forecasts or {}).get(label),
            )
        )
    return Readiness(
        labels=tuple(labels),
        pictures=len(snapshot.examples),
        duplicates=duplicates,
        refused=refusals(snapshot),
        warnings=tuple(
            said
            for counts, each in zip(counted, labels, strict=True)
            for said in (*answer_warnings(counts), *_warnings(each))
        ),
        suspects=tuple(suspects),
    )


def _warnings(each: LabelReadiness) -> list[str]:
    warnings = []
    rarer, commoner = sorted((each.positives, each.negatives))
    if rarer and commoner > _ONE_SIDED * rarer:
        warnings.append(
            f"{each.label} has {each.positives} positives to {each.negatives} negatives"
        )
    number = len(each.sources)
    if each.positives >= MIN_ANSWERS and 0 < number < _FEW_SOURCES:
        sites = "1 site" if number == 1 else f"{number} sites"
        warnings.append(
            f"all {each.positives} pictures of {each.label} come from {sites}: others look different"
        )
    for kind, number in (("dark", each.dark), ("blurred", each.blurred), ("small", each.small)):
        if each.positives >= FEW_ANSWERS and number == 0:
            warnings.append(
                f"none of the {each.positives} pictures of {each.label} is {kind}: "
                "such pictures will be a surprise"
            )
    if each.suspects:
        warnings.append(f"{each.suspects} answers to {each.label} look wrong: review them again")
    return warnings


def _mean_cosine(unit_ND: NDArray[np.float32]) -> float:
    """Return the mean cosine of all pairs of rows, from the length of their sum."""
    number = len(unit_ND)
    if number < 2:
        return 0.0
    total = float((unit_ND.sum(0, dtype=np.float64) ** 2).sum())
    return (total - number) / (number * (number - 1))
