"""The model in production, as the pages show it."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from flows.errors import Corrupt
from flows.workspace import Workspace

if TYPE_CHECKING:  # scipy and all it takes are imported when a model is shown, not at start
    from numpy.typing import NDArray

    from model.card import ModelCard
    from model.checkpoint import TrainedModel
    from model.intervals import Interval
    from model.metrics import LabelMetrics

VERSIONS_KEPT = 3
"""In memory: the one in production, and two that are compared."""

_ROWS_AT_ONCE = 8192


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownModel:
    """The card of a version, and how much it has been used."""

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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingPictures:
    """The pictures that a model was trained on: N of them, with unit vectors of 16 bits."""

    sha256s: tuple[str, ...]
    vectors_ND: NDArray[np.float16]
    answers: Mapping[str, Mapping[str, bool]]

    def nearest(self, vector_D: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """Return the ids nearest to a unit vector with their cosines, nearest first."""
        parts = [
            self.vectors_ND[start : start + _ROWS_AT_ONCE].astype(np.float32) @ vector_D
            for start in range(0, len(self.vectors_ND), _ROWS_AT_ONCE)
        ]
        if not parts or count == 0:
            return []
        cosine_N = np.concatenate(parts)
        order = np.argsort(-cosine_N, kind="stable")[:count]
        return [(self.sha256s[row], float(cosine_N[row])) for row in order]


class Production:
    """Reads the model in production; what belongs to a version is read once, for it never changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: OrderedDict[str, TrainedModel] = OrderedDict()
        self._training: tuple[str, TrainingPictures] | None = None

    def in_production(self, workspace: Workspace) -> TrainedModel | None:
        """Return the model in production, whole, or None before the first promotion."""
        from flows.registry import Registry

        version = Registry(workspace.store, workspace.project.name).production()
        return None if version is None else self.trained(workspace, version)

    def training_pictures(self, workspace: Workspace, model: TrainedModel) -> TrainingPictures:
        """Return what a model was trained on; only the last one that was asked for is kept."""
        from model.data import Snapshot

        with self._lock:
            if self._training is None or self._training[0] != model.card.version:
                text = workspace.store.get(f"snapshots/{model.card.snapshot_id}.json").decode()
                examples = Snapshot.from_json(text).examples
                sha256s, vectors_ND = workspace.catalog.embeddings(
                    model.head.encoder_id, [each.sha256 for each in examples]
                )
                pictures = TrainingPictures(
                    sha256s=tuple(sha256s),
                    vectors_ND=vectors_ND.astype(np.float16),
                    answers={each.sha256: each.answers for each in examples},
                )
                self._training = (model.card.version, pictures)
            return self._training[1]

    def model(self, workspace: Workspace) -> ShownModel | None:
        """Return the model in production, or None before the first promotion."""
        from flows.registry import Registry

        version = Registry(workspace.store, workspace.project.name).production()
        return None if version is None else self.shown(workspace, version)

    def shown(self, workspace: Workspace, version: str) -> ShownModel:
        """Return what pages show of a version. Raises as `trained`."""
        from flows.predictions import manifests

        return ShownModel(
            card=self.trained(workspace, version).card,
            predictions=sum(each.pictures for each in manifests(workspace.store, version)),
        )

    def trained(self, workspace: Workspace, version: str) -> TrainedModel:
        """Return a version, whole. Raises NotFound, and Corrupt when its files are not one model's."""
        from flows.registry import Registry
        from model.card import CheckpointInvalid

        with self._lock:
            if version not in self._models:
                registry = Registry(workspace.store, workspace.project.name)
                try:
                    self._models[version] = registry.load(version)
                except CheckpointInvalid as error:
                    raise Corrupt(f"model {version} cannot be shown: {error}") from error
                while len(self._models) > VERSIONS_KEPT:
                    self._models.popitem(last=False)
            self._models.move_to_end(version)
            return self._models[version]
