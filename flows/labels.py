"""Labels under another name: decisions follow by rule, and the table says where they came from."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.catalog import Catalog
from flows.decision_notes import RETRACTED, kind_of, renamed_from
from flows.errors import ProjectInvalid
from flows.project import FILE_NAME, LabelConfig, Project
from flows.project_edits import change_label, remove_label
from flows.rows import DecisionRow


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of the answers to a label that is no more."""

    moved: int
    """Given to the other label now, by whoever gave them."""
    differed: int
    """Left: the other label has another answer of its own to the same picture, which stands."""

    def __str__(self) -> str:
        """Return the line that says so."""
        left = f", {self.differed} differed and were left" if self.differed else ""
        return f"moved {self.moved} answers{left}"


def rename_label(root: Path, catalog: Catalog, old: str, new: str) -> Moved:
    """Call the label `old` `new`, in project.toml and for every answer that stands.

    The rows of the old name stay; new ones repeat them. Killed half-way, it is done again, and
    repeats nothing. Raises ProjectInvalid when there is no `old`, or when `new` is taken.
    """
    project = Project.load(root)
    _find(project, old)
    if new in project.taxonomy().names:
        raise ProjectInvalid(f"{FILE_NAME} has a label {new!r} already: merge them instead")
    LabelConfig(name=new)  # refuses what is no name
    moved = _move(catalog, old, new, over=True)
    # Left out, the prompts are made of the name: what was asked of CLIP stays what it was.
    prompts = _find(project, old).prompts
    change_label(root, old, {"prompts": prompts, "name": new})
    return moved


def merge_labels(root: Path, catalog: Catalog, label: str, into: str) -> Moved:
    """Make `label` part of `into`: its answers move where `into` has none, and its table goes.

    Where both have an answer, that of `into` stands. Raises ProjectInvalid when one is missing.
    """
    project = Project.load(root)
    _find(project, label)
    _find(project, into)
    if label == into:
        raise ProjectInvalid(f"a label cannot be merged into itself: {label!r}")
    moved = _move(catalog, label, into, over=False)
    remove_label(root, label)
    return moved


def _find(project: Project, name: str) -> LabelConfig:
    for label in project.labels:
        if label.name == name:
            return label
    raise ProjectInvalid(f"{FILE_NAME} has no label {name!r}")


def _move(catalog: Catalog, old: str, new: str, *, over: bool) -> Moved:
    latest = {
        key: row
        for key, row in catalog.latest_decisions().items()
        if kind_of(row.note) != RETRACTED
    }
    now = datetime.now(UTC)
    rows: list[DecisionRow] = []
    differed = 0
    for (sha256, label), row in sorted(latest.items()):
        if label != old:
            continue
        there = latest.get((sha256, new))
        if there is not None and there.answer == row.answer:
            continue
        if there is not None and not over:
            differed += 1
            continue
        at = now + timedelta(microseconds=len(rows))
        rows.append(dataclasses.replace(row, label=new, at=at, note=renamed_from(old)))
    catalog.add_decisions(rows)
    return Moved(moved=len(rows), differed=differed)
