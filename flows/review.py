"""Decisions that were made elsewhere: read from a CSV file, and applied from whatever file."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from flows.decision_notes import stands
from flows.errors import Permanent
from flows.exchange.known import Known
from flows.rows import Answer, DecisionRow
from flows.workspace import Workspace

_ANSWERS: dict[str, Answer] = {answer: answer for answer in get_args(Answer)}
_COMMIT_ROWS = 50_000
_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer from a file: on an image, by sha256 or by an address.

    Without `who` and `at` it is the word of whoever applies it, now. `also` are further names of
    the image, which are tried in their order when the catalogue does not know the first.
    """

    image: str
    label: str
    answer: Answer
    also: tuple[str, ...] = ()
    who: str | None = None
    at: datetime | None = None
    score: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A yes that came upon another person's no, or the other way round; both are recorded."""

    sha256: str
    label: str
    answer: Answer
    who: str
    stood: Answer
    stood_by: str

    def __str__(self) -> str:
        """Return one line about it."""
        return (
            f"{self.label} of {self.sha256}: {self.who} says {self.answer}, "
            f"{self.stood_by} said {self.stood}"
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReviewResult:
    """What applying decisions changed."""

    decisions: int
    """How many were given."""
    new: int
    """How many say something that had not been said before."""
    unknown: tuple[str, ...]
    """Images that the catalogue does not have; of many the first."""
    unknown_count: int
    conflicts: tuple[Conflict, ...]
    """Of many the first."""
    conflict_count: int

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        unknown = f" unknown images {self.unknown_count}" if self.unknown_count else ""
        conflicts = f" conflicts {self.conflict_count}" if self.conflict_count else ""
        return f"reviewed {self.decisions} new {self.new}{conflicts}{unknown}"


def read_decisions(path: Path) -> Iterator[Answered]:
    """Read a CSV with the columns `image` (sha256 or address), `label`, `answer`.

    `who` and `at` (ISO 8601, with a zone) are read where they are there and not empty, and so are
    `score` and `note` with them. Raises Permanent, naming the line, for a missing column or a value
    that is none.
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
            line = f"{path} line {reader.line_num}"
            answer = _ANSWERS.get(row["answer"])
            if answer is None:
                raise Permanent(
                    f"{line}: answer {row['answer']!r} is not one of {', '.join(_ANSWERS)}"
                )
            at, who = _time(line, row.get("at")), row.get("who") or None
            if (at is None) != (who is None):
                raise Permanent(f"{line}: who and at are given together or not at all")
            yield Answered(
                image=row["image"],
                label=row["label"],
                answer=answer,
                who=who,
                at=at,
                score=_number(line, row.get("score")) if who else None,
                note=(row.get("note") or "") if who else "",
            )


def apply_decisions(
    workspace: Workspace, answered: Iterable[Answered], *, who: str, source: str | None = None
) -> ReviewResult:
    """Append the decisions that say something new; applying the same ones twice appends nothing.

    One without a time of its own is new when it differs from the latest on the same picture and
    label; one with a time, when its person had not said it then, nor last. An address stands for
    the picture that was fetched from it, by `source` or by any. Everything is read before anything
    is written: a file with a mistake in it changes nothing.
    """
    labels = set(workspace.project.taxonomy().names)
    with Known() as known:
        known.put_words(workspace.catalog, sorted(labels))
        known.put_prelabels(workspace.catalog)
        known.put_pictures(workspace.catalog)
        known.put_addresses(workspace.catalog, source)
        known.index()
        return _Application(workspace, known, labels, who).run(answered)


class _Application:
    """Sorts answers into what is new, what contradicts, and what is about no picture of ours."""

    def __init__(self, workspace: Workspace, known: Known, labels: set[str], who: str) -> None:
        self._catalog = workspace.catalog
        self._known = known
        self._labels = labels
        self._who = who
        self._now = datetime.now(UTC)
        self._unknown: dict[str, None] = {}
        self._conflicts: list[Conflict] = []
        self._conflict_count = 0

    def run(self, answered: Iterable[Answered]) -> ReviewResult:
        given = 0
        for each in answered:
            given += 1
            if each.label not in self._labels:
                known = ", ".join(sorted(self._labels))
                raise Permanent(f"label {each.label!r} is not in project.toml, which has {known}")
            self._take(each)
        new = 0
        for rows in self._known.added(_COMMIT_ROWS):
            new += self._catalog.add_decisions(rows)
        return ReviewResult(
            decisions=given,
            new=new,
            unknown=tuple(self._unknown)[:_SHOWN],
            unknown_count=len(self._unknown),
            conflicts=tuple(self._conflicts),
            conflict_count=self._conflict_count,
        )

    def _take(self, each: Answered) -> None:
        names = (each.image, *each.also)
        sha256 = next(filter(None, map(self._known.picture, names)), None)
        if sha256 is None:
            self._unknown[each.image] = None
            return
        history = self._known.history(sha256, each.label)
        standing = next((row for row in reversed(history) if stands(row.note)), None)
        if _is_said(each, history, standing):
            return
        row = DecisionRow(
            sha256=sha256,
            label=each.label,
            answer=each.answer,
            who=each.who or self._who,
            at=each.at or self._now,
            score=each.score if each.at else self._known.prelabel(sha256, each.label),
            note=each.note,
        )
        if (
            standing is not None
            and standing.who != row.who
            and {standing.answer, row.answer} == {"yes", "no"}
        ):
            self._conflict(row, standing)
        self._known.add(row)

    def _conflict(self, row: DecisionRow, standing: DecisionRow) -> None:
        self._conflict_count += 1
        if len(self._conflicts) < _SHOWN:
            self._conflicts.append(
                Conflict(
                    sha256=row.sha256,
                    label=row.label,
                    answer=row.answer,
                    who=row.who,
                    stood=standing.answer,
                    stood_by=standing.who,
                )
            )


def _is_said(each: Answered, history: list[DecisionRow], standing: DecisionRow | None) -> bool:
    """Return whether an answer says nothing that is not known already."""
    if standing is None:
        return False
    if each.at is None:
        return standing.answer == each.answer
    own = [row for row in history if row.who == each.who and stands(row.note)]
    if any((row.at, row.answer) == (each.at, each.answer) for row in own):
        return True
    # The same again, at another time, is news only where somebody has contradicted since.
    repeats = bool(own) and own[-1].answer == each.answer
    return repeats and (standing.answer == each.answer or each.at <= own[-1].at)


def _time(line: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Permanent(f"{line}: {text!r} is no time with a zone, such as 2026-01-02T03:04:05Z")
    return at.astimezone(UTC)


def _number(line: str, text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise Permanent(f"{line}: score {text!r} is no number") from None


def waiting(workspace: Workspace) -> dict[str, int]:
    """Return for each label how many distinct, permitted pictures nobody has answered."""
    permitted = workspace.catalog.permitted()
    answered = Counter(
        label for sha256, label in workspace.catalog.latest_decisions() if sha256 in permitted
    )
    return {label: len(permitted) - answered[label] for label in workspace.project.taxonomy().names}
