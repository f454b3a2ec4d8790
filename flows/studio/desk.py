"""Where decisions are handed in: checked, appended to the bucket, and only then acknowledged."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.rows import DecisionRow
from flows.studio.reader import Reader
from flows.studio.view import RETRACTED

MAX_DECISIONS = 500
"""In one request."""

REMEMBERED_IDS = 20_000


class NewDecision(BaseModel):
    """One answer, as the page sends it. `id` is the page's own, and the same when it is resent."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[0-9a-z-]{8,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    label: str = Field(min_length=1, max_length=200)
    answer: Literal["yes", "no", "unsure", "retracted"]


class NewDecisions(BaseModel):
    """Decisions in the order in which they were made."""

    model_config = ConfigDict(extra="forbid")

    decisions: list[NewDecision] = Field(min_length=1, max_length=MAX_DECISIONS)


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
        self._seen: OrderedDict[str, None] = OrderedDict()

    def hand_in(self, decisions: Sequence[NewDecision]) -> Receipt:
        """Append the decisions to the catalogue in one commit; return when they are durable.

        A decision whose acknowledgement was lost comes again under the same id, and is not
        appended a second time. (After a restart of the studio it is: the same answer twice, which
        changes nothing.) Raises CratedigError when the store does not take them.
        """
        with self._lock:
            workspace = self.reader.workspace()
            view = self.reader.view()
            labels = workspace.project.taxonomy().names
            now = datetime.now(UTC)
            rows: list[DecisionRow] = []
            saved: list[str] = []
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
                if each.id in self._seen:
                    continue
                rows.append(
                    DecisionRow(
                        sha256=each.sha256,
                        label=each.label,
                        answer="unsure" if each.answer == "retracted" else each.answer,
                        who=self.reviewer,
                        # A microsecond apart: the order of a batch survives in the table.
                        at=now + timedelta(microseconds=len(rows)),
                        score=view.score(each.sha256, each.label),
                        note=RETRACTED if each.answer == RETRACTED else "",
                    )
                )
            if rows:
                workspace.catalog.add_decisions(rows)
                self.reader.changed()
            self._remember(saved)
            return Receipt(saved=saved, refused=refused)

    def _remember(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._seen[each] = None
            self._seen.move_to_end(each)
        while len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
