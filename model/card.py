"""What a model is, what it was trained on, and how good it is: the card that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from model.classifier import Strength
from model.errors import ModelError
from model.intervals import Interval
from model.learning_curve import Forecast
from model.metrics import Evaluation
from model.mislabels import Suspect


class CheckpointInvalid(ModelError):
    """The files are not those of one whole model; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """How the pictures of the snapshot were answered for one label.

    `positive_groups` and `negative_groups` count kin groups: how many are not more of the same.
    `disagreements` are pictures on which the last words of two people are yes and no; the later
    one holds.
    """

    label: str
    positives: int
    negatives: int
    unreviewed: int
    positive_groups: int
    negative_groups: int
    disagreements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetrics:
    """How good the model is on one kind of picture: "site a.example", "small", "dark", "blurred".

    `macro_f1` is the mean over the labels that have a yes and a no there.
    """

    name: str
    pictures: int
    macro_f1: Interval
    recall: Mapping[str, Interval]
    """By label, where it has a yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSummary:
    """One label's learning curve: positives fitted on, and means and deviations of the repeats."""

    label: str
    positives: tuple[float, ...]
    recall: tuple[float, ...]
    recall_deviation: tuple[float, ...]
    average_precision: tuple[float, ...]
    average_precision_deviation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a card says beyond the measures: where pictures came from, what the model is weak in."""

    sources: Mapping[str, int]
    licences: Mapping[str, int]
    slices: tuple[SliceMetrics, ...]
    learning: tuple[LearningSummary, ...]
    forecasts: tuple[Forecast, ...]
    suspects: tuple[Suspect, ...]
    weaknesses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model is, what it was trained on, and how good it is.

    Both evaluations come from out-of-fold scores. `evaluation` is at thresholds for the user's
    aim, cross-fitted: those that a picture is judged by were chosen on other folds' pictures.
    `thresholds`, chosen on all of them, are what the model answers with.
    """

    version: str
    head_sha256: str
    snapshot_id: str
    encoder_id: str
    labels: tuple[str, ...]
    examples: int
    groups: int
    counts: tuple[LabelCounts, ...]
    evaluation_at_half: Evaluation
    evaluation: Evaluation
    thresholds: Mapping[str, float]
    strengths: Mapping[str, Strength]
    settings: Mapping[str, str | int | float]
    seed: int
    fold_scheme: str
    versions: Mapping[str, str]
    warnings: tuple[str, ...]
    report: Report | None = None

    def to_json(self) -> str:
        """Return the card as JSON; the same card gives the same text."""
        return _CARD.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Return the card that `to_json` wrote. CheckpointInvalid says what is wrong with it."""
        try:
            return _CARD.validate_json(text)
        except ValueError as error:
            raise CheckpointInvalid(f"card.json is not a model card: {error}") from error


_CARD = TypeAdapter(ModelCard)
