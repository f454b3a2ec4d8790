"""Precision in production: by people's answers to pictures drawn by lot from those answered yes.

    spot-checks/<version>/<time>.json      what was drawn after one night

What a model is unsure about, or what is unlike training, says nothing of how often it is right;
pictures that were drawn by lot do. They are drawn from what the model had not been fitted on and
nobody had decided, and stay in the count whatever else they are asked for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict

from flows.objects import ObjectStore
from flows.workspace import Workspace
from model.intervals import Interval, wilson


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpotCheck(_Stored):
    """What was drawn after one night: per label, of how many answered yes, which."""

    version: str
    at: AwareDatetime
    answered_yes: dict[str, int]
    drawn: dict[str, tuple[str, ...]]


class Measured(_Stored):
    """What people say of the pictures that were drawn for one label of one model in one month."""

    version: str
    label: str
    month: str
    drawn: int
    yes: int
    no: int
    """`drawn` less these two are not answered yet, or unsure."""

    @property
    def precision(self) -> Interval:
        """The share of yes, and its 95 % interval; [0, 1] before anybody has answered."""
        told = self.yes + self.no
        return wilson(self.yes / told if told else 0.0, told)


def draw_spot_check(
    workspace: Workspace, version: str, parts: Sequence[str], *, seed: int = 0
) -> SpotCheck | None:
    """Draw from what `parts` answer yes, and keep the draw; None when nothing is to be drawn."""
    wanted = workspace.project.predict.spot_check
    if wanted == 0 or not parts:
        return None
    decided = workspace.catalog.latest_decisions()
    rng = np.random.default_rng(seed)
    answered: dict[str, int] = {}
    drawn: dict[str, tuple[str, ...]] = {}
    for label in workspace.project.taxonomy().names:
        known = pa.array([sha256 for sha256, each in decided if each == label], pa.string())
        # A random number a picture, of which the smallest win: part by part, in flat memory.
        best: list[tuple[float, str]] = []
        answered[label] = 0
        for part in parts:
            table = pq.read_table(
                io.BytesIO(workspace.store.get(part)),
                columns=["sha256"],
                filters=[("label", "=", label), ("answer", "=", True), ("fitted", "=", False)],
            )
            column = table.column("sha256")
            answered[label] += len(column)
            free = column.filter(pc.invert(pc.is_in(column, value_set=known))).to_pylist()
            best = sorted([*best, *zip(rng.random(len(free)).tolist(), free, strict=True)])[:wanted]
        drawn[label] = tuple(sha256 for _, sha256 in best)
    check = SpotCheck(version=version, at=datetime.now(UTC), answered_yes=answered, drawn=drawn)
    key = f"spot-checks/{version}/{check.at.strftime('%Y%m%dT%H%M%S%fZ')}.json"
    workspace.store.put(key, check.model_dump_json(indent=1).encode())
    return check


def spot_checks(store: ObjectStore) -> list[SpotCheck]:
    """Return every draw so far, oldest first."""
    found = [
        SpotCheck.model_validate_json(store.get(info.key)) for info in store.list("spot-checks/")
    ]
    return sorted(found, key=lambda check: check.at)


def precision_in_production(workspace: Workspace) -> list[Measured]:
    """Return what the answers so far say, a row a model, label and month of the draw, in order."""
    decided = workspace.catalog.latest_decisions()
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for check in spot_checks(workspace.store):
        for label, sha256s in check.drawn.items():
            month = check.at.strftime("%Y-%m")
            count = counts.setdefault((month, check.version, label), dict.fromkeys(_COUNTED, 0))
            for sha256 in sha256s:
                decision = decided.get((sha256, label))
                count["drawn"] += 1
                if decision is not None and decision.answer != "unsure":
                    count[decision.answer] += 1
    return [
        Measured(version=version, label=label, month=month, **count)
        for (month, version, label), count in sorted(counts.items())
    ]


_COUNTED = ("drawn", "yes", "no")
