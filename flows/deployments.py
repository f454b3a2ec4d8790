"""Every flow with its schedule, in one readable table, served by `python -m flows.deployments`.

| deployment           | pool    | schedule in project.toml              |
|----------------------|---------|---------------------------------------|
| collect/<source>     | crawl   | `schedule` of each source             |
| collect-shards/any   | crawl   |                                       |
| prelabel/new         | compute | `[prelabel] schedule`                 |
| train/model          | compute | `[train] schedule`                    |
| train-when-decided/model | compute | each half hour, with `train_after_decisions` |
| predict/nightly      | compute | `[predict] schedule`                  |
| maintain/daily       | compute | every day at 5:30                     |
| label-archive/any    | compute |                                       |
| sweep/weekly         | compute | Sundays at 6:00                       |

A night that was missed because nothing was running is run late by Prefect when the worker is back,
and labels whatever has no answer yet.
A deployment without a schedule runs when somebody asks for it, in the Prefect UI for example. On one
machine this module serves them all; for a team `cratedig deploy` gives them to work pools.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from flows.project import Project
from flows.settings import Settings
from flows.studio_links import OF_FLOW, pictures_of, source_page, with_links

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment


CHECK_DECISIONS = "*/30 * * * *"
MAINTAIN = "30 5 * * *"
SWEEP = "0 6 * * 0"

Pool = Literal["crawl", "compute"]
"""Crawling wants a browser and patience, the rest wants processors or a GPU."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """One row of the table. `schedule` is cron in UTC, or None: only when somebody asks."""

    flow: Flow[Any, Any]
    name: str
    pool: Pool
    schedule: str | None = None
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name by which Prefect finds it."""
        return f"{self.flow.name}/{self.name}"


def table(project: Project) -> Sequence[Deployed]:
    """Return every deployment of the project."""
    from flows import runs

    collects = [
        Deployed(
            flow=runs.collect_flow,
            name=source.name,
            pool="crawl",
            schedule=source.schedule,
            parameters={"source": source.name},
        )
        for source in project.sources
    ]
    checks = []
    if project.train.train_after_decisions is not None:
        flow = runs.train_when_decided_flow
        checks = [Deployed(flow=flow, name="model", pool="compute", schedule=CHECK_DECISIONS)]
    return [
        *collects,
        Deployed(flow=runs.collect_shards_flow, name="any", pool="crawl"),
        Deployed(
            flow=runs.prelabel_flow,
            name="new",
            pool="compute",
            schedule=project.prelabel.schedule,
        ),
        Deployed(
            flow=runs.train_flow, name="model", pool="compute", schedule=project.train.schedule
        ),
        *checks,
        Deployed(
            flow=runs.predict_flow,
            name="nightly",
            pool="compute",
            schedule=project.predict.schedule,
        ),
        Deployed(flow=runs.maintain_flow, name="daily", pool="compute", schedule=MAINTAIN),
        Deployed(flow=runs.label_archive_flow, name="any", pool="compute"),
        Deployed(flow=runs.sweep_flow, name="weekly", pool="compute", schedule=SWEEP),
    ]


def tags(project: Project) -> list[str]:
    """Return the tags by which the project's deployments are known among others."""
    return ["cratedig", project.name]


def pool_name(pool: Pool) -> str:
    """Return the name of a pool at the Prefect server."""
    return f"cratedig-{pool}"


def made(
    row: Deployed,
    project: Project,
    *,
    studio_url: str | None = None,
    job_variables: dict[str, Any] | None = None,
    paused: bool | None = None,
) -> RunnerDeployment:
    """Return the row as Prefect takes it, described with links to the studio's pages.

    With `job_variables` it is for the row's work pool, and its code is what is installed there;
    without, it is for a process that serves it.
    """
    from prefect.types.entrypoint import EntrypointType

    served = job_variables is None
    deployment = row.flow.to_deployment(
        name=row.name,
        cron=row.schedule,
        parameters=dict(row.parameters),
        description=described(row, studio_url),
        tags=tags(project),
        # One run of a kind at a time: politeness and publishing are counted within a run.
        concurrency_limit=1,
        paused=paused,
        work_pool_name=None if served else pool_name(row.pool),
        job_variables=job_variables,
        # By a file, Prefect would put its folder before all others on sys.path, where `flows/copy.py`
        # hides Python's own `copy` from every process that a run starts.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Outside an event loop Prefect answers at once, with no coroutine to await.
    return cast("RunnerDeployment", deployment)


def described(row: Deployed, studio_url: str | None) -> str:
    """Return what Prefect's pages say of a deployment, in Markdown."""
    pages = OF_FLOW[row.flow.name]
    if "source" in row.parameters:
        source = str(row.parameters["source"])
        pages = (source_page(source), pictures_of(source), *pages[2:])
    return with_links(row.flow.description or "", studio_url, *pages)


def deployments(project: Project, studio_url: str | None = None) -> list[RunnerDeployment]:
    """Return the deployments of the project for one process that serves them all."""
    return [made(row, project, studio_url=studio_url) for row in table(project)]


def main() -> None:
    """Register the deployments with the Prefect server and run what comes due, until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="the folder of project.toml")
    parser.add_argument("--limit", type=int, default=2, help="flow runs at once")
    arguments = parser.parse_args()
    root = arguments.project.resolve()
    project = Project.load(root)
    studio_url = Settings.load(root).studio_url
    # Each flow run is a process of its own, and finds the project by this.
    os.environ["CRATEDIG_PROJECT"] = str(root)
    from prefect import serve

    serve(*deployments(project, studio_url), limit=arguments.limit, pause_on_shutdown=False)


if __name__ == "__main__":
    main()
