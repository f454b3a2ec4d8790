"""What follows a night: look for drift, and put up for review what would teach most."""

from __future__ import annotations

import dataclasses

from flows import observe
from flows.drift import DriftReport, check_drift, latest_report
from flows.memory import give_memory_back
from flows.predict import PredictResult
from flows.questions import renew_queues
from flows.registry import Registry
from flows.spot_checks import draw_spot_check
from flows.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AfterNight:
    """What followed the labelling."""

    drift: DriftReport
    news: bool
    """Whether something crossed that had not crossed the night before: people are told once."""
    queued: dict[str, int]
    """Pictures a label that are put up for review."""

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        queued = ", ".join(f"{label} {count}" for label, count in self.queued.items())
        return f"{self.drift}; queued {queued}"


@observe.stage("after")
def after_night(workspace: Workspace, result: PredictResult) -> AfterNight:
    """Compare what came with training, draw the spot check, and renew every label's queue."""
    registry = Registry(workspace.store, workspace.project.name)
    before = latest_report(workspace.store, result.version)
    give_memory_back()
    drift = check_drift(workspace)
    known = {(each.kind, each.about) for each in before.crossed} if before else set()
    news = any((each.kind, each.about) not in known for each in drift.crossed)
    draw_spot_check(workspace, result.version, result.parts)
    encoder_id = registry.card(result.version).encoder_id
    give_memory_back()
    queued = renew_queues(workspace, result.version, encoder_id, drift=drift)
    return AfterNight(drift=drift, news=news, queued=queued)
