"""The Prefect flows: thin wrappers on the plain functions, so that runs can be seen and scheduled.

They stand together, and apart from the functions, because importing Prefect takes seconds that a
command on one machine need not pay. Each flow works on the project that CRATEDIG_PROJECT names, or
on the current folder. What Prefect's forms say of a parameter is the docstring's `Args`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

from prefect import flow, get_run_logger, task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff

from flows import collect as collecting
from flows import observe
from flows import predict as predicting
from flows import prelabel as prelabelling
from flows import train as training
from flows.archive import spread as spreading
from flows.archive.job import Job, Wanted
from flows.archive.label import ArchiveResult, label_spread
from flows.archive.plan import Shard
from flows.archive.rows import Format
from flows.archive.shard import ShardDone
from flows.collect import CollectResult
from flows.counts import record_counts
from flows.crawl_shards import (
    CrawlPlan,
    ShardResult,
    collect_shard,
    finish_crawl,
    plan_crawl,
    worker_leases,
)
from flows.drift import drift_notice
from flows.encoders import EncoderSource
from flows.errors import Transient
from flows.maintain import SweepResult, rubbish, sweep
from flows.night import AfterNight, after_night
from flows.notify import Notice, NotifySettings, failed_notice, send, trained_notice
from flows.predict import PredictResult
from flows.prelabel import PrelabelResult
from flows.progress import Progress
from flows.run_artifacts import (
    show_archive,
    show_collected,
    show_counts,
    show_drift,
    show_predicted,
    show_prelabelled,
    show_rubbish,
    show_swept,
    show_trained,
    show_verified,
    watch,
)
from flows.settings import project_root
from flows.snapshots import new_decisions
from flows.train import TrainResult
from flows.verify import VerifyResult, verify
from flows.workspace import Workspace, open_workspace
from flows.zombies import crash_zombies

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

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


@flow(name="collect", flow_run_name="collect-{source}")
def collect_flow(source: str, run_id: str | None = None, retry_all: bool = False) -> CollectResult:
    """Crawl one source, fetch its pictures, store what is new, and drop duplicates.

    Args:
        source: The name of a [[sources]] entry in project.toml.
        run_id: Carry on or look up the run of this id. Empty: a run of its own.
        retry_all: Try links again that earlier runs have rejected for good.
    """
    workspace = _open()
    result = collect_task(workspace, source, run_id, retry_all)
    show_collected(workspace, source, result)
    return result


@flow(
    name="collect-shards",
    flow_run_name="collect-shards-{source}",
    task_runner=_SHARD_RUNNER,
)
def collect_shards_flow(source: str, run_id: str | None = None) -> CollectResult:
    """Crawl one source as `collect` does, its hosts shared out over tasks.

    Worth it for sources with many hosts; with another task runner the tasks may run on other machines.

    Args:
        source: The name of a [[sources]] entry in project.toml.
        run_id: Carry on or look up the run of this id. Empty: a run of its own.
    """
    workspace = _open()
    plan = plan_task(workspace, source, run_id or _own_id())
    results = shard_task.map(unmapped(plan), list(plan.shards)).result()
    result = finish_crawl(workspace, plan, results)
    show_collected(workspace, source, result)
    return result


@task(task_run_name="plan-{source}", **RETRIES)
def plan_task(workspace: Workspace, source: str, run_id: str) -> CrawlPlan:
    """Find the links of a source, and put them into the bucket by host."""
    return plan_crawl(workspace, source, run_id=run_id, watch=watch(workspace, "collect"))


@task(task_run_name="fetch-{shard}", **RETRIES)
def shard_task(plan: CrawlPlan, shard: str) -> ShardResult:
    """Fetch and store the links of some hosts."""
    # Opened here: a store's client does not travel between machines.
    workspace = _open()
    return collect_shard(workspace, plan, shard, watch=watch(workspace, "collect"))


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
            watch=watch(workspace, "collect"),
            retry_all=retry_all,
            leases=leases,
        )
    _log(result, repeated)
    return result


@flow(name="prelabel")
def prelabel_flow(run_id: str | None = None) -> PrelabelResult:
    """Embed what is new with the project's encoder, and score it against the prompts.

    Args:
        run_id: Carry on or look up the run of this id. Empty: a run of its own.
    """
    workspace = _open()
    source = EncoderSource(workspace)
    embedded = 0
    if shards := prelabelling.plan_embedding(workspace, source.id()):
        with watch(workspace, "embed", flow="prelabel")("embed") as progress:
            watched = prelabelling.watched_shards(shards, progress)
            for number, (shard, part) in enumerate(watched):
                embedded += embed_task(workspace, source, shard, number, part)
    result = score_task(workspace, run_id or _own_id(), embedded)
    show_prelabelled(workspace, result)
    return result


@task(task_run_name="embed-{number}", **RETRIES)
def embed_task(
    workspace: Workspace, source: EncoderSource, shard: list[str], number: int, progress: Progress
) -> int:
    """Embed one shard of pictures; `progress` counts it as a part of all."""
    return prelabelling.embed_shard(workspace, source.load(), shard, progress=progress)


@task(task_run_name="score", **RETRIES)
def score_task(workspace: Workspace, run_id: str, embedded: int) -> PrelabelResult:
    """Score every embedded picture on every label; `embedded` is what the run's tasks embedded."""
    result, repeated = prelabelling.prelabel(workspace, run_id=run_id, embedded=embedded)
    _log(result, repeated)
    return result


@flow(name="train")
def train_flow(mail_to: str = "") -> TrainResult:
    """Train on the decisions so far, judge the model, promote it if it is better, and tell people.

    Where project.toml says so the encoder is fine-tuned, too.

    Args:
        mail_to: Whom to write to when it has ended. Empty: CRATEDIG_MAIL_TO.
    """
    workspace = _open()
    return _train(workspace, workspace.project.train.fine_tune, mail_to)


@flow(name="train-when-decided")
def train_when_decided_flow() -> TrainResult | None:
    """Train if as much was decided as train_after_decisions of project.toml asks for."""
    workspace = _open()
    return _train(workspace) if _enough_decided(workspace) else None


def _train(
    workspace: Workspace,
    fine_tune: Literal["off", "last_blocks", "lora"] = "off",
    mail_to: str = "",
) -> TrainResult:
    project = workspace.project
    settings = NotifySettings.load(workspace.root)
    if mail_to:
        settings = settings.model_copy(update={"mail_to": mail_to})
    try:
        result = (
            train_task(workspace) if fine_tune == "off" else fine_tune_task(workspace, fine_tune)
        )
    except Exception as error:
        _tell(failed_notice(error, project=project.name), settings)
        raise
    show_trained(workspace, result)
    studio_url = workspace.settings.studio_url
    _tell(trained_notice(result, project=project.name, studio_url=studio_url), settings)
    return result


def _enough_decided(workspace: Workspace) -> bool:
    wanted = workspace.project.train.train_after_decisions
    if wanted is None:
        return True
    new = new_decisions(workspace)
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
    result = training.train(workspace, rule=rule, watch=watch(workspace, "train"))
    _log(result, not result.trained)
    return result


@task(task_run_name="fine-tune", **RETRIES)
def fine_tune_task(workspace: Workspace, mode: Literal["last_blocks", "lora"]) -> TrainResult:
    """Train, fine-tune, judge and promote; what was cut off is carried on, on the same machine."""
    # Imports torch, which takes seconds: only for those who fine-tune.
    from flows.fine_tune import fine_tune_and_train

    project = workspace.project
    result = fine_tune_and_train(
        workspace,
        project.fine_tune.config(mode, project.train.seed),
        rule=project.promotion_rule(),
        watch=watch(workspace, "train"),
        say=get_run_logger().info,
    )
    _log(result, repeated=False)
    return result.model


@flow(name="predict")
def predict_flow() -> PredictResult:
    """Label what is new, look for drift, and put up for review what would teach most."""
    workspace = _open()
    result = predict_task(workspace)
    show_predicted(workspace, result)
    after = after_task(workspace, result)
    show_drift(workspace, after)
    if after.news:
        name, studio_url = workspace.project.name, workspace.settings.studio_url
        notice = drift_notice(after.drift, project=name, studio_url=studio_url)
        _tell(notice, NotifySettings.load(workspace.root))
    return result


@task(task_run_name="predict", **RETRIES)
def predict_task(workspace: Workspace) -> PredictResult:
    """Embed, label and publish."""
    result = predicting.predict(workspace, watch=watch(workspace, "predict"))
    _log(result, result.predicted == 0)
    return result


@task(task_run_name="after", **RETRIES)
def after_task(workspace: Workspace, result: PredictResult) -> AfterNight:
    """Compare, draw and queue; done again, it makes the same queues of what is there then."""
    after = after_night(workspace, result)
    _log(after, repeated=False)
    return after


@flow(name="label-archive", flow_run_name="label-archive {location}")
def label_archive_flow(
    location: str,
    out: str,
    model: str | None = None,
    format: Format = "parquet",  # noqa: A002 - as the command's option is called
    keep_embeddings: bool = False,
    url_column: str = "",
    allow_private: bool = False,
) -> ArchiveResult:
    """Label an archive where it lies, a task a shard, on the runner that [archive] names.

    Args:
        location: A folder, tar, table or pattern of files, or s3://bucket/prefix.
        out: A folder or s3://bucket/prefix for the answers.
        model: A version, production or prompts. Empty is production, and prompts without one.
        format: Of the answers.
        keep_embeddings: Keep the vectors, so that the next question reads no picture.
        url_column: The column of a table that holds the addresses. Empty: it is looked for.
        allow_private: Let a table lead to addresses that are not public.
    """
    workspace = _open()
    config = workspace.project.archive
    wanted = Wanted(
        location=location,
        out=out,
        model=model,
        format=format,
        keep_embeddings=keep_embeddings,
        url_column=url_column,
        allow_private=allow_private,
        shard_pictures=config.shard_pictures,
    )
    runner, options = spreading.task_runner(config)
    # Chosen by a setting, so that it is this flow's tasks that run there, and no second flow's.
    with spreading.closing_at_end(), runner as tasks, options:
        result = label_spread(
            workspace,
            wanted,
            lambda job, shard: tasks.submit(label_shard_task, {"job": job, "shard": shard}),
            watch=watch(workspace, "label-archive"),
        )
    show_archive(workspace, result)
    _log(result, result.labelled_now == 0)
    return result


@task(task_run_name="shard-{shard.id}", **RETRIES)
def label_shard_task(job: Job, shard: Shard) -> ShardDone:
    """Label one shard of an archive."""
    return spreading.label_shard(job, shard)


@flow(name="sweep")
def sweep_flow() -> SweepResult:
    """List what no row points at, then delete it, and pack the tables."""
    workspace = _open()
    show_rubbish(rubbish(workspace))
    result = sweep_task(workspace)
    show_swept(workspace, result)
    return result


@task(task_run_name="sweep", **RETRIES)
def sweep_task(workspace: Workspace) -> SweepResult:
    """Sweep the bucket."""
    result = sweep(workspace, watch=watch(workspace, "sweep"))
    _log(result, repeated=False)
    return result


@flow(name="maintain")
def maintain_flow(sample: int = 1000) -> VerifyResult:
    """Mark silent runs as crashed, count everything, and check a sample of the pictures.

    Args:
        sample: How many pictures are read and checked.
    """
    workspace = _open()
    crashed = crash_zombies(workspace.project.name, except_for=[UUID(_own_id())])
    if crashed:
        get_run_logger().warning("marked as crashed: %s", ", ".join(crashed))
    show_counts(workspace, record_counts(workspace))
    return verify_task(workspace, sample)


@task(task_run_name="verify", **RETRIES)
def verify_task(workspace: Workspace, sample: int) -> VerifyResult:
    """Check a sample; what is wrong is listed, and people are told."""
    troubles: list[str] = []
    result = verify(
        workspace,
        sample=sample,
        seed=time.time_ns(),  # other pictures every day
        on_trouble=lambda trouble: troubles.append(str(trouble)),
        watch=watch(workspace, "verify", flow="maintain"),
    )
    _log(result, repeated=False)
    show_verified(workspace, result, troubles)
    if troubles:
        notice = Notice(
            subject=f"{workspace.project.name}: stored bytes are damaged",
            summary=str(result),
            next_steps=["run `cratedig verify` for all of it, and collect again what is named"],
        )
        _tell(notice, NotifySettings.load(workspace.root))
    return result


def _open() -> Workspace:
    """Open the project of this process; its logs, metrics and traces begin with it."""
    observe.begin(project_root())
    return open_workspace(project_root())


def _own_id() -> str:
    return str(flow_run.id)


def _log(result: object, repeated: bool) -> None:
    said = f"{result}; this had been done before, nothing was done twice" if repeated else result
    get_run_logger().info("%s", said)
