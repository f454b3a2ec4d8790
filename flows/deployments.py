"""Serve every flow with its schedule, in one readable table: `python -m flows.deployments`.

| deployment        | schedule in project.toml     |
|-------------------|------------------------------|
| collect/<source>  | `schedule` of each source    |
| prelabel/new      | `[prelabel] schedule`        |
| train/model       | `[train] schedule`           |
| predict/nightly   | `[predict] schedule`         |

A deployment without a schedule runs when somebody asks for it, in the Prefect UI for example.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flows.project import Project

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment


CHECK_DECISIONS = "*/30 * * * *"
SWEEP = "0 6 * * 0"


def deployments(project: Project) -> list[RunnerDeployment]:
    """Return the deployments of the project; times of the schedules are UTC."""
    from flows.runs import (
        collect_flow,
        collect_shards_flow,
        predict_flow,
        prelabel_flow,
        sweep_flow,
        train_flow,
        train_when_decided_flow,
    )

    table: list[tuple[Flow[Any, Any], str, str | None, dict[str, Any]]] = [
        *(
            (collect_flow, source.name, source.schedule, {"source": source.name})
            for source in project.sources
        ),
        (collect_shards_flow, "any", None, {}),
        (prelabel_flow, "new", project.prelabel.schedule, {}),
        (train_flow, "model", project.train.schedule, {}),
        *(
            [(train_when_decided_flow, "model", CHECK_DECISIONS, {})]
            if project.train.train_after_decisions is not None
            else []
        ),
        (predict_flow, "nightly", project.predict.schedule, {}),
        (sweep_flow, "weekly", SWEEP, {}),
    ]
    made = [
        flow.to_deployment(
            name=name,
            cron=schedule,
            parameters=parameters,
            tags=["cratedig", project.name],
            # One run of a kind at a time: politeness and publishing are counted within a run.
            concurrency_limit=1,
        )
        for flow, name, schedule, parameters in table
    ]
    # Outside an event loop Prefect answers at once, with no coroutine to await.
    return cast("list[RunnerDeployment]", made)


def main() -> None:
    """Register the deployments with the Prefect server and run what comes due, until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="the folder of project.toml")
    parser.add_argument("--limit", type=int, default=2, help="flow runs at once")
    arguments = parser.parse_args()
    root = arguments.project.resolve()
    project = Project.load(root)
    # Each flow run is a process of its own, and finds the project by this.
    os.environ["CRATEDIG_PROJECT"] = str(root)
    from prefect import serve

    serve(*deployments(project), limit=arguments.limit, pause_on_shutdown=False)


if __name__ == "__main__":
    main()
