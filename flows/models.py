"""The commands on models: list, show, compare, promote, roll back, export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from flows.errors import NotFound, Permanent
from flows.registry import Registry
from flows.tuned_encoders import source_of
from flows.workspace import Workspace
from model.card import ModelCard
from model.checkpoint import TrainedModel
from model.data import Snapshot
from model.intervals import Interval
from model.metrics import paired_difference
from model.onnx_model import export_onnx, write_export


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One line of `cratedig models list`."""

    version: str
    production: bool
    promoted_at: str | None
    """When it last went into production; None if it never did."""
    pictures: int
    labels: tuple[str, ...]
    macro_f1: Interval
    snapshot_id: str

    def __str__(self) -> str:
        """Return the line."""
        state = "production" if self.production else (self.promoted_at or "never promoted")
        return f"{self.version}  macro F1 {self.macro_f1}  {self.pictures} pictures  {state}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A picture on whose label two models disagree, by the scores and thresholds held out from it."""

    sha256: str
    label: str
    challenger: bool
    champion: bool
    answer: bool | None
    """What people decided; None if the challenger's snapshot has no answer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same pictures, neither fitted on those that it is judged by."""

    challenger: str
    champion: str
    pictures: int
    labels: tuple[str, ...]
    difference: Interval
    """Macro F1 of challenger minus champion."""
    changed: tuple[Changed, ...]

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        right = sum(each.answer == each.challenger for each in self.changed)
        wrong = sum(each.answer == each.champion for each in self.changed)
        found = self.difference
        return (
            f"{self.challenger} against {self.champion}: macro F1 {found.value:+.3f} "
            f"[{found.low:+.3f}, {found.high:+.3f}] on {self.pictures} pictures; "
            f"{len(self.changed)} answers changed, {right} for the better, {wrong} for the worse"
        )


def compare_models(
    challenger: TrainedModel, champion: TrainedModel, snapshot: Snapshot
) -> Comparison | None:
    """Compare by out-of-fold scores; None when the two share no picture or label.

    On the labels and pictures that both were judged on, against the answers of `snapshot`, which is
    the challenger's.
    """
    labels = [name for name in challenger.head.labels if name in champion.head.labels]
    row_in_champion = {sha256: row for row, sha256 in enumerate(champion.sha256s)}
    row_in_snapshot = {sha256: row for row, sha256 in enumerate(snapshot.sha256s)}
    rows = [row for row, sha256 in enumerate(challenger.sha256s) if sha256 in row_in_champion]
    if not rows or not labels:
        return None
    sha256s = [challenger.sha256s[row] for row in rows]
    own = np.ix_(np.array(rows), _columns(challenger.head.labels, labels))
    theirs = np.ix_(
        np.array([row_in_champion[each] for each in sha256s]),
        _columns(champion.head.labels, labels),
    )
    asked_rows = np.array([row_in_snapshot[each] for each in sha256s])
    targets_NL = snapshot.targets_NL()[np.ix_(asked_rows, _columns(snapshot.labels, labels))]
    own_thresholds = challenger.out_of_fold_thresholds_NL[own]
    their_thresholds = champion.out_of_fold_thresholds_NL[theirs]
    groups = snapshot.groups
    difference = paired_difference(
        challenger.out_of_fold_NL[own],
        champion.out_of_fold_NL[theirs],
        targets_NL,
        challenger_thresholds=own_thresholds,
        champion_thresholds=their_thresholds,
        groups=[groups[row] for row in asked_rows],
        seed=snapshot.seed,
    )
    own_yes_NL = challenger.out_of_fold_NL[own] >= own_thresholds
    their_yes_NL = champion.out_of_fold_NL[theirs] >= their_thresholds
    changed = tuple(
        Changed(
            sha256=sha256s[row],
            label=labels[column],
            challenger=bool(own_yes_NL[row, column]),
            champion=bool(their_yes_NL[row, column]),
            answer=None if np.isnan(targets_NL[row, column]) else bool(targets_NL[row, column]),
        )
        for row, column in np.argwhere(own_yes_NL != their_yes_NL)
    )
    return Comparison(
        challenger=challenger.card.version,
        champion=champion.card.version,
        pictures=len(rows),
        labels=tuple(labels),
        difference=difference,
        changed=changed,
    )


def _columns(
    names: tuple[str, ...], wanted: list[str]
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array([names.index(name) for name in wanted], np.intp)


def list_models(workspace: Workspace) -> list[ModelLine]:
    """Return every version, the one in production first, then those promoted last."""
    registry = _registry(workspace)
    production = registry.production()
    promoted = {each["version"]: each["at"] for each in registry.promotions()}
    lines = []
    for version in registry.versions():
        card = registry.card(version)
        lines.append(
            ModelLine(
                version=version,
                production=version == production,
                promoted_at=promoted.get(version),
                pictures=card.examples,
                labels=card.labels,
                macro_f1=card.evaluation.macro_f1,
                snapshot_id=card.snapshot_id,
            )
        )
    lines.sort(key=lambda each: each.version)
    lines.sort(key=lambda each: (each.production, each.promoted_at or ""), reverse=True)
    return lines


def show_model(
    workspace: Workspace, version: str | None = None, *, page: Path | None = None
) -> ModelCard:
    """Return the card of a version (default: the one in production); write its page to `page`."""
    registry = _registry(workspace)
    version = _version(registry, version)
    if page is not None:
        page.write_text(registry.page(version), encoding="utf-8")
    return registry.card(version)


def compare_versions(
    workspace: Workspace, challenger: str, champion: str | None = None
) -> Comparison:
    """Compare a version with another (default: the one in production)."""
    registry = _registry(workspace)
    champion = _version(registry, champion)
    model = registry.load(_version(registry, challenger))
    text = workspace.store.get(f"snapshots/{model.card.snapshot_id}.json").decode()
    found = compare_models(model, registry.load(champion), Snapshot.from_json(text))
    if found is None:
        raise Permanent(f"{challenger} and {champion} have no picture or label in common")
    return found


def promote_model(workspace: Workspace, version: str, *, reason: str = "by hand") -> str | None:
    """Put a version into production whatever the rule says; return the one that it replaces.

    Raises Transient when something else was promoted in the meantime.
    """
    registry = _registry(workspace)
    before = registry.production()
    if before != version:
        registry.promote(version, instead_of=before, reason=reason)
    return before


def roll_back(workspace: Workspace) -> str:
    """Put back the version that was in production before the present one; return it.

    Rolling back twice goes back two steps, as undoing does, and not to and fro.
    """
    registry = _registry(workspace)
    steps: list[str] = []
    for each in registry.promotions():
        if each["reason"].startswith(_ROLLED_BACK):
            steps.pop()
        else:
            steps.append(each["version"])
    if len(steps) < 2:
        raise Permanent("there is no earlier model to roll back to: see `cratedig models list`")
    now, before = steps[-1], steps[-2]
    registry.promote(before, instead_of=now, reason=f"{_ROLLED_BACK} {now}")
    return before


_ROLLED_BACK = "rolled back from"


ExportKind = Literal["onnx", "torchscript", "program"]


def export_model(
    workspace: Workspace, path: Path, version: str | None = None, *, kind: ExportKind = "onnx"
) -> str:
    """Write a version (default: the one in production) to `path` as one file; return the version.

    "onnx", "torchscript", or "program": what `torch.export` makes.
    """
    registry = _registry(workspace)
    version = _version(registry, version)
    head = registry.load(version).head
    config = source_of(workspace, head.encoder_id).config()
    if kind == "onnx":
        data = export_onnx(head, config, version)
    else:
        # Imports torch, which takes seconds.
        from model.torch_model import export_torch

        data = export_torch(head, config, version, kind)
    write_export(path, data)
    return version


def _registry(workspace: Workspace) -> Registry:
    return Registry(workspace.store, workspace.project.name)


def _version(registry: Registry, version: str | None) -> str:
    """Return the version that was asked for, or the one in production; it exists."""
    if version is None:
        version = registry.production()
        if version is None:
            raise Permanent("no model is in production yet: run `cratedig train` first")
    elif not registry.has(version):
        raise NotFound(f"there is no model version {version}: see `cratedig models list`")
    return version
