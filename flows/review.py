"""Decisions that were made elsewhere, taken from a CSV file."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from flows.errors import Permanent
from flows.rows import Answer, DecisionRow
from flows.workspace import Workspace

_ANSWERS: dict[str, Answer] = {answer: answer for answer in get_args(Answer)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One line of a decision file: an image, by sha256 or by an address, and an answer."""

    image: str
    label: str
    answer: Answer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReviewResult:
    """What applying decisions changed."""

    decisions: int
    """How many were given."""
    new: int
    """How many differ from the latest decision on the same picture and label."""
    unknown: tuple[str, ...]
    """Images that the catalogue does not have."""

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        unknown = f" unknown images {len(self.unknown)}" if self.unknown else ""
        return f"reviewed {self.decisions} new {self.new}{unknown}"


def read_decisions(path: Path) -> Iterator[Answered]:
    """Read a CSV with the columns `image` (sha256 or address), `label`, `answer`.

    Raises Permanent, naming the line, for a missing column or an answer that is none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"image", "label", "answer"} - set(reader.fieldnames or ())
        if missing:
            raise Permanent(
                f"{path} has no column {', '.join(sorted(missing))}; "
                f"its first line must name image, label and answer"
            )
        for row in reader:
            answer = _ANSWERS.get(row["answer"])
            if answer is None:
                raise Permanent(
                    f"{path} line {reader.line_num}: answer {row['answer']!r} is not one of "
                    f"yes, no, unsure"
                )
            yield Answered(image=row["image"], label=row["label"], answer=answer)


def apply_decisions(
    workspace: Workspace, answered: Iterable[Answered], *, who: str
) -> ReviewResult:
    """Append the decisions that differ from the latest on the same picture and label.

    Applying the same decisions twice appends nothing. An address stands for the picture that was
    fetched from it.
    """
    labels = set(workspace.project.taxonomy().names)
    catalog = workspace.catalog
    by_address = {row.url: row.sha256 for row in catalog.links() if row.sha256 is not None}
    known = set(catalog.sha256s())
    latest = catalog.latest_decisions()
    scores = {(row.sha256, row.label): row.score for row in catalog.prelabels()}
    rows: list[DecisionRow] = []
    unknown: list[str] = []
    given = 0
    now = datetime.now(UTC)
    for each in answered:
        given += 1
        if each.label not in labels:
            raise Permanent(
                f"label {each.label!r} is not in project.toml, which has {', '.join(sorted(labels))}"
            )
        sha256 = each.image if each.image in known else by_address.get(each.image)
        if sha256 not in known:
            unknown.append(each.image)
            continue
        before = latest.get((sha256, each.label))
        if before is not None and before.answer == each.answer:
            continue
        row = DecisionRow(
            sha256=sha256,
            label=each.label,
            answer=each.answer,
            who=who,
            at=now,
            score=scores.get((sha256, each.label)),
            note="",
        )
        latest[(sha256, each.label)] = row
        rows.append(row)
    catalog.add_decisions(rows)
    return ReviewResult(decisions=given, new=len(rows), unknown=tuple(dict.fromkeys(unknown)))


def waiting(workspace: Workspace) -> dict[str, int]:
    """Return for each label how many distinct, permitted pictures nobody has answered."""
    permitted = workspace.catalog.permitted()
    answered = Counter(
        label for sha256, label in workspace.catalog.latest_decisions() if sha256 in permitted
    )
    return {label: len(permitted) - answered[label] for label in workspace.project.taxonomy().names}
