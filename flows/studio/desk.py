"""Where decisions are handed in: checked, appended to the bucket, and only then acknowledged."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.decision_notes import AGAIN, AGAIN_RETRACTED, RETRACTED, SETTLED, note_of
from flows.rows import DecisionRow
from flows.studio.reader import Reader

MAX_DECISIONS = 500
"""In one request."""

REVIEWER = r"^(?:\S(?:[^\x00-\x1f]*\S)?)?$"
"""What a name looks like; it may be empty."""


class NewDecision(BaseModel):
    """One answer, as the page sends it. `id` is the page's own, and the same when it is resent."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[0-9a-z-]{8,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    label: str = Field(min_length=1, max_length=200)
    answer: Literal["yes", "no", "unsure", "retracted"]
    given: Literal["plain", "again", "settled"] = "plain"
    """"again": blind, to a picture that is decided; "settled": with what others said in view."""


class NewDecisions(BaseModel):
    """Decisions in the order in which they were made."""

    model_config = ConfigDict(extra="forbid")

    decisions: list[NewDecision] = Field(min_length=1, max_length=MAX_DECISIONS)
    reviewer: str = Field(default="", max_length=60, pattern=REVIEWER)
    """Who decided; empty: whom the studio runs for."""


class RefusedDecision(BaseModel):
    """A decision that will never be saved, and why."""

    id: str
    reason: str


class Receipt(BaseModel):
    """What became of each decision: `saved` ones are in the bucket."""

    saved: list[str]
    refused: list[RefusedDecision]


@dataclasses.dataclass
class Desk:
    """Takes decisions one request at a time, so that their order is that of their arrival."""

    reader: Reader
    reviewer: str

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def hand_in(self, decisions: Sequence[NewDecision], *, reviewer: str = "") -> Receipt:
        """Append the decisions to the catalogue in one commit; return when they are durable.

        A decision whose acknowledgement was lost comes again under the same id, which its row
        bears: it is not appended a second time, also by a studio that was started anew. Raises
        CratedigError when the store does not take them.
        """
        with self._lock:
            workspace = self.reader.workspace()
            view = self.reader.recent()
            labels = workspace.project.taxonomy().names
            now = datetime.now(UTC)
            rows: list[DecisionRow] = []
            saved: list[str] = []
            new: set[str] = set()
            refused: list[RefusedDecision] = []
            for each in decisions:
                if each.label not in labels:
                    reason = f"project.toml has no label {each.label!r}"
                    refused.append(RefusedDecision(id=each.id, reason=reason))
                    continue
                if each.sha256 not in view.pictures:
                    reason = f"the catalogue has no picture {each.sha256}"
                    refused.append(RefusedDecision(id=each.id, reason=reason))
                    continue
                saved.append(each.id)
                if each.id in new or view.decisions.knows(each.id):
                    continue
                new.add(each.id)
                rows.append(
                    DecisionRow(
                        sha256=each.sha256,
                        label=each.label,
                        answer="unsure" if each.answer == "retracted" else each.answer,
                        who=reviewer or self.reviewer,
                        # A microsecond apart: the order of a batch survives in the table.
                        at=now + timedelta(microseconds=len(rows)),
                        score=view.score(each.sha256, each.label),
                        note=note_of(_kind(each), each.id),
                    )
                )
            if rows:
                workspace.catalog.add_decisions(rows)
                self.reader.handed_in(rows)
            return Receipt(saved=saved, refused=refused)


def _kind(decision: NewDecision) -> str:
    if decision.given == "again":
        return AGAIN_RETRACTED if decision.answer == RETRACTED else AGAIN
    if decision.answer == RETRACTED:
        return RETRACTED
    return SETTLED if decision.given == "settled" else ""
