"""The Prefect flows: thin wrappers on the plain functions, so that runs can be seen and scheduled.

They stand together, and apart from the functions, because importing Prefect takes seconds that a
command on one machine need not pay. Each flow works on the project that CRATEDIG_PROJECT names, or
on the current folder.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, task, unmapped
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff
from pydantic import Field

from flows import collect as collecting
from flows import predict as predicting
from flows import prelabel as prelabelling
from flows import train as training
from flows.collect import CollectResult
from flows.crawl_report import read_report
from flows.crawl_shards import (
    CrawlPlan,
    ShardResult,
    collect_shard,
    finish_crawl,
    plan_crawl,
    worker_leases,
)
from flows.encoders import EncoderSource
from flows.errors import Transient
from flows.maintain import SweepResult, sweep
from flows.notify import Notice, NotifySettings, failed_notice, send, trained_notice
from flows.predict import PredictResult
from flows.prelabel import PrelabelResult
from flows.progress import Progress, Watch, progress_bar
from flows.settings import project_root
from flows.train import TrainResult
from flows.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

PROGRESS_EVERY_S = 2.0
"""An update of the progress artifact is a request to the server: not more often than this."""

SHARDS_AT_ONCE = 2
"""Each has decoding processes of its own."""

# Its futures are narrower than what `flow` declares; a runner is invariant in them.
_SHARD_RUNNER = cast(
    "TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE)
)


def _is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only what a rerun can mend."""
    result = state.result(raise_on_failure=False)
    return isinstance(result, Transient)


RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _is_transient,
    # The inputs are open connections; what was done is remembered in the bucket.
    "cache_policy": NO_CACHE,
}

RunId = Annotated[
    str | None,
    Field(description="Carry on or look up the run of this id. Empty: a run of its own."),
]


@flow(name="collect", flow_run_name="collect-{source}")
def collect_flow(
    source: Annotated[str, Field(description="The name of a [[sources]] entry in project.toml.")],
    run_id: RunId = None,
    retry_all: Annotated[
        bool, Field(description="Try links again that earlier runs have rejected for good.")
    ] = False,
) -> CollectResult:
    """Crawl one source, fetch its pictures, store what is new, and drop duplicates."""
    workspace = open_workspace(project_root())
    result = collect_task(workspace, source, run_id, retry_all)
    _show_collected(workspace, source, result)
    return result


@flow(
    name="collect-shards",
    flow_run_name="collect-shards-{source}",
    task_runner=_SHARD_RUNNER,
)
def collect_shards_flow(
    source: Annotated[str, Field(description="The name of a [[sources]] entry in project.toml.")],
    run_id: RunId = None,
) -> CollectResult:
    """Crawl one source as `collect` does, its hosts shared out over tasks.

    Worth it for sources with many hosts; with another task runner the tasks may run on other machines.
    """
    workspace = open_workspace(project_root())
    plan = plan_task(workspace, source, run_id or _own_id())
    results = shard_task.map(unmapped(plan), list(plan.shards)).result()
    result = finish_crawl(workspace, plan, results)
    _show_collected(workspace, source, result)
    return result


@task(task_run_name="plan-{source}", **RETRIES)
def plan_task(workspace: Workspace, source: str, run_id: str) -> CrawlPlan:
    """Find the links of a source, and put them into the bucket by host."""
    return plan_crawl(workspace, source, run_id=run_id, watch=_watch_by_artifact("collect"))


@task(task_run_name="fetch-{shard}", **RETRIES)
def shard_task(plan: CrawlPlan, shard: str) -> ShardResult:
    """Fetch and store the links of some hosts."""
    # Opened here: a store's client does not travel between machines.
    workspace = open_workspace(project_root())
    return collect_shard(workspace, plan, shard, watch=_watch_by_artifact("collect"))


def _show_collected(workspace: Workspace, source: str, result: CollectResult) -> None:
    outcomes = {"kept": result.kept, "duplicate": result.duplicates, **result.rejected}
    create_table_artifact(
        [{"outcome": outcome, "links": count} for outcome, count in outcomes.items()],
        key=f"collect-{source}",
        description=f"What became of the {result.links} links of {source}: {result}",
    )
    create_markdown_artifact(
        read_report(workspace.store, result.run_id),
        key=f"collect-{source}-report",
        description=f"{result.report} in the bucket",
    )


@task(task_run_name="collect-{source}", **RETRIES)
def collect_task(
    workspace: Workspace, source: str, run_id: str | None, retry_all: bool
) -> CollectResult:
    """Collect the links of one source; a crawl that was cut off is carried on."""
    with worker_leases(workspace.store) as leases:
        result, repeated = collecting.collect(
            workspace,
            source,
            run_id=run_id,
            watch=_watch_by_artifact("collect"),
            retry_all=retry_all,
            leases=leases,
        )
    _log(result, repeated)
    return result


@flow(name="prelabel")
def prelabel_flow(run_id: RunId = None) -> PrelabelResult:
    """Embed what is new with the project's encoder, and score it against the prompts."""
    workspace = open_workspace(project_root())
    source = EncoderSource(workspace)
    embedded = sum(
        embed_task(workspace, source, shard, number)
        for number, shard in enumerate(prelabelling.plan_embedding(workspace, source.id()))
    )
    result = score_task(workspace, run_id or _own_id(), embedded)
    create_table_artifact(
        [{"label": label, "suggested": count} for label, count in result.suggested.items()],
        key="prelabels",
        description=f"Pictures that score 0.5 or more: {result}",
    )
    return result


@task(task_run_name="embed-{number}", **RETRIES)
def embed_task(workspace: Workspace, source: EncoderSource, shard: list[str], number: int) -> int:
    """Embed one shard of pictures."""
    with _watch_by_artifact("embed")(f"shard {number}") as progress:
        return prelabelling.embed_shard(workspace, source.load(), shard, progress=progress)


@task(task_run_name="score", **RETRIES)
def score_task(workspace: Workspace, run_id: str, embedded: int) -> PrelabelResult:
    """Score every embedded picture on every label; `embedded` is what the run's tasks embedded."""
    result, repeated = prelabelling.prelabel(workspace, run_id=run_id, embedded=embedded)
    _log(result, repeated)
    return result


@flow(name="train")
def train_flow() -> TrainResult:
    """Train on the decisions so far, judge the model, promote it if it is better, and tell people."""
    return _train(open_workspace(project_root()))


@flow(name="train-when-decided")
def train_when_decided_flow() -> TrainResult | None:
    """Train if as much was decided as train_after_decisions of project.toml asks for."""
    workspace = open_workspace(project_root())
    return _train(workspace) if _enough_decided(workspace) else None


def _train(workspace: Workspace) -> TrainResult:
    project = workspace.project
    settings = NotifySettings.load(workspace.root)
    try:
        result = train_task(workspace)
    except Exception as error:
        _tell(failed_notice(error, project=project.name), settings)
        raise
    create_table_artifact(
        training.report_rows(result.card),
        key="model-report",
        description=f"Model {result.version}, on pictures that it was not fitted on.",
    )
    create_markdown_artifact(training.report_markdown(result), key="model-verdict")
    studio_url = workspace.settings.studio_url
    _tell(trained_notice(result, project=project.name, studio_url=studio_url), settings)
    return result


def _enough_decided(workspace: Workspace) -> bool:
    wanted = workspace.project.train.train_after_decisions
    if wanted is None:
        return True
    new = training.new_decisions(workspace)
    if new < wanted:
        get_run_logger().info("%d new decisions, %d are wanted: not trained", new, wanted)
    return new >= wanted


def _tell(notice: Notice, settings: NotifySettings) -> None:
    for said in send(notice, settings):
        get_run_logger().info("%s", said)


@task(task_run_name="train", **RETRIES)
def train_task(workspace: Workspace) -> TrainResult:
    """Train, judge and promote."""
    rule = workspace.project.promotion_rule()
    result = training.train(workspace, rule=rule, watch=_watch_by_artifact("train"))
    _log(result, not result.trained)
    return result


@flow(name="predict")
def predict_flow() -> PredictResult:
    """Label with the production model what it has not labelled yet, and publish it."""
    result = predict_task(open_workspace(project_root()))
    create_table_artifact(
        [{"label": label, "pictures": count} for label, count in result.answers.items()],
        key="predictions",
        description=f"Labelled by {result.version}: {result}",
    )
    return result


@task(task_run_name="predict", **RETRIES)
def predict_task(workspace: Workspace) -> PredictResult:
    """Embed, label and publish."""
    result = predicting.predict(workspace, watch=_watch_by_artifact("predict"))
    _log(result, result.predicted == 0)
    return result


@flow(name="sweep")
def sweep_flow() -> SweepResult:
    """Delete what no row points at, and pack the tables."""
    result = sweep_task(open_workspace(project_root()))
    create_markdown_artifact(f"{result}", key="sweep")
    return result


@task(task_run_name="sweep", **RETRIES)
def sweep_task(workspace: Workspace) -> SweepResult:
    """Sweep the bucket."""
    result = sweep(workspace, watch=_watch_by_artifact("sweep"))
    _log(result, repeated=False)
    return result


def _own_id() -> str:
    return str(flow_run.id)


def _log(result: object, repeated: bool) -> None:
    said = f"{result}; this had been done before, nothing was done twice" if repeated else result
    get_run_logger().info("%s", said)


def _watch_by_artifact(stage: str) -> Watch:
    """Return what keeps one progress artifact a step up to date, and shows it on stderr.

    A thread of its own sends the updates, so that a slow server never slows the work.
    """

    @contextmanager
    def watch(title: str) -> Iterator[Progress]:
        # Outside an event loop Prefect answers at once, with no coroutine to await.
        made = create_progress_artifact(0.0, key=f"{stage}-progress", description=title)
        artifact = cast("UUID", made)
        started = time.monotonic()
        ended = threading.Event()
        latest: tuple[int, int | None, object] = (0, None, "")

        def update(done: int, total: int | None, said: object = "") -> None:
            nonlocal latest
            latest = (done, total, said)
            show(done, total, said)

        def send() -> None:
            done, total, said = latest
            rate = done / max(time.monotonic() - started, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if total and done else ""
            update_progress_artifact(
                artifact,
                100 * done / total if total else 0.0,
                description=f"{title}: {done} of {total or 'unknown'}, {rate:.1f}/s{left}. {said}",
            )

        def send_until_ended() -> None:
            while not ended.wait(PROGRESS_EVERY_S):
                send()
            send()

        # The copied context carries which server this run talks to.
        sender = threading.Thread(target=contextvars.copy_context().run, args=(send_until_ended,))
        sender.start()
        try:
            with progress_bar(title) as show:
                yield update
        finally:
            ended.set()
            sender.join()

    return watch
