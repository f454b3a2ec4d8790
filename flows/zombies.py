"""Runs that Prefect believes to be at work although nothing has been heard of them for long.

A machine that loses power tells nobody: its run stays "running" for ever, and holds the one place
that its deployment has. A run at work shows itself by its state, by its tasks', or by its progress
artifact, which is renewed every other second.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

SILENT_FOR = timedelta(hours=1)
"""Ample: a live run is heard of every few seconds."""


def crash_zombies(
    project: str, *, silent_for: timedelta = SILENT_FOR, except_for: Iterable[UUID] = ()
) -> list[str]:
    """Mark the project's runs that have been silent for so long as crashed; return their names."""
    before = datetime.now(UTC) - silent_for
    spared = set(except_for)
    crashed = []
    with get_client(sync_client=True) as client:
        running = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
                tags=FlowRunFilterTags(all_=["cratedig", project]),
            )
        )
        for run in running:
            heard = _last_heard_of(client, run)
            if run.id in spared or heard >= before:
                continue
            said = f"nothing was heard of it since {heard.isoformat(timespec='seconds')}"
            client.set_flow_run_state(run.id, Crashed(message=said), force=True)
            crashed.append(run.name)
    return crashed


def _last_heard_of(client: SyncPrefectClient, run: FlowRun) -> datetime:
    only = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    times = [run.state.timestamp if run.state else None, run.start_time, run.created]
    times += [
        task.state.timestamp for task in client.read_task_runs(flow_run_filter=only) if task.state
    ]
    shown = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    )
    times += [artifact.updated for artifact in shown]
    return max(time for time in times if time is not None)
