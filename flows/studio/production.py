"""The model in production, as the pages show it."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

from flows.errors import Corrupt
from flows.studio.view import Picture, View
from flows.workspace import Workspace

if TYPE_CHECKING:  # scipy and all it takes are imported when a model is shown, not at start
    from model.card import ModelCard
    from model.checkpoint import TrainedModel
    from model.intervals import Interval
    from model.metrics import LabelMetrics

GALLERY_PICTURES = 12


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProductionModel:
    """The card of the model in production, and how much it has been used."""

    card: ModelCard
    predictions: int
    """Pictures whose predictions by this version are published."""

    @property
    def version(self) -> str:
        """The version, 12 hex digits."""
        return self.card.version

    @property
    def labels(self) -> tuple[LabelMetrics, ...]:
        """Precision, recall, F1 and average precision of each label, at its threshold."""
        return self.card.evaluation.labels

    @property
    def macro_f1(self) -> Interval:
        """The mean of the labels' F1."""
        return self.card.evaluation.macro_f1

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What it was made from, as pairs of a name and a value."""
        card = self.card
        settings = ", ".join(f"{name} {value}" for name, value in card.settings.items())
        versions = ", ".join(f"{name} {value}" for name, value in card.versions.items())
        return (
            ("version", card.version),
            ("snapshot", card.snapshot_id),
            ("encoder", card.encoder_id),
            ("pictures", f"{card.examples:,} in {card.groups:,} groups of kin"),
            ("folds", card.fold_scheme),
            ("settings", settings),
            ("made with", versions),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Pictures on which the model and the people disagree, the widest apart first."""

    label: str
    said: str
    items: tuple[tuple[Picture, float], ...]
    """A picture and its out-of-fold score."""
    total: int


class Production:
    """Reads the model in production; what belongs to a version is read once, for it never changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: TrainedModel | None = None

    def model(self, workspace: Workspace) -> ProductionModel | None:
        """Return the model in production, or None before the first promotion."""
        from flows.predictions import manifests
        from flows.registry import Registry

        version = Registry(workspace.store, workspace.project.name).production()
        if version is None:
            return None
        return ProductionModel(
            card=self._trained(workspace, version).card,
            predictions=sum(each.pictures for each in manifests(workspace.store, version)),
        )

    def galleries(
        self, workspace: Workspace, model: ProductionModel, view: View
    ) -> tuple[Gallery, ...]:
        """Return each label's false positives and false negatives, against today's decisions.

        Every picture is judged by the score and the threshold that it had no part in.
        """
        trained = self._trained(workspace, model.version)
        thresholds_NL = trained.out_of_fold_thresholds_NL
        found = []
        for column, label in enumerate(trained.card.labels):
            wrong: dict[str, list[tuple[float, Picture, float]]] = {"yes": [], "no": []}
            for row, sha256 in enumerate(trained.sha256s):
                score = float(trained.out_of_fold_NL[row, column])
                threshold = float(thresholds_NL[row, column])
                said = "yes" if score >= threshold else "no"
                answer = view.answer(sha256, label)
                if answer in wrong and answer != said and sha256 in view.pictures:
                    apart = abs(score - threshold)
                    wrong[said].append((apart, view.pictures[sha256], score))
            for said, words in (("yes", "false positives"), ("no", "false negatives")):
                widest = sorted(wrong[said], key=lambda each: (-each[0], each[1].sha256))
                items = tuple((picture, score) for _, picture, score in widest[:GALLERY_PICTURES])
                found.append(Gallery(label=label, said=words, items=items, total=len(widest)))
        return tuple(found)

    def _trained(self, workspace: Workspace, version: str) -> TrainedModel:
        from flows.registry import Registry
        from model.card import CheckpointInvalid

        with self._lock:
            if self._model is None or self._model.card.version != version:
                registry = Registry(workspace.store, workspace.project.name)
                try:
                    self._model = registry.load(version)
                except CheckpointInvalid as error:
                    raise Corrupt(f"model {version} cannot be shown: {error}") from error
            return self._model
