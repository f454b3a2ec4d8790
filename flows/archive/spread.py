"""The shards of an archive, spread over the tasks of a Prefect flow: on threads or on Ray.

What counts is what lies in the result's place, not how a task ended: a node that dies takes its
tasks' states with it, and their shards are simply given out again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from flows import logs, observe
from flows.archive.job import Job, labeller, output_of
from flows.archive.plan import PlanReader, Shard
from flows.archive.shard import Labeller, ShardDone
from flows.errors import Permanent
from flows.settings import project_root
from flows.workspace import open_workspace

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

    from flows.project import ArchiveConfig

IN_FLIGHT = 256
"""Tasks given out and not ended: at least as many as a cluster has places for."""

ROUNDS = 3
"""How often shards are given out whose task was lost."""


class Future(Protocol):
    """A task that was given out."""

    def result(self) -> ShardDone:
        """Wait for it; raises what it raised."""


def spread(
    shards: Iterable[Shard],
    give: Callable[[Shard], Future],
    *,
    ended: Callable[[Shard, ShardDone], None],
) -> None:
    """Give out every shard, and those that were lost again, until all are done.

    Raises a task's own `Permanent`, and after `ROUNDS` whatever the last lost task raised.
    """
    for round_ in range(1, ROUNDS + 1):
        lost: list[Shard] = []
        for shard, future in _given(shards, give):
            try:
                done = future.result()
            except Permanent:
                raise
            except Exception as error:
                # A node or a process that dies shows as an error of the runner's own.
                if round_ == ROUNDS:
                    raise
                logs.tell(f"shard {shard.id} is given out again: {type(error).__name__}: {error}")
                lost.append(shard)
            else:
                ended(shard, done)
        if not lost:
            return
        shards = lost


def _given(
    shards: Iterable[Shard], give: Callable[[Shard], Future]
) -> Iterator[tuple[Shard, Future]]:
    """Give out so many shards ahead, and yield the oldest to be waited for."""
    under_way: deque[tuple[Shard, Future]] = deque()
    for shard in shards:
        under_way.append((shard, give(shard)))
        if len(under_way) == IN_FLIGHT:
            yield under_way.popleft()
    yield from under_way


class _Process:
    """What labels in this process: made with its first shard, shared by its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._for: Job | None = None
        self._made: tuple[Labeller, PlanReader] | None = None

    def ready(self, job: Job) -> tuple[Labeller, PlanReader]:
        with self._lock:
            if self._made is None or self._for != job:
                self._close()
                observe.begin(project_root())  # a node of a cluster begins here
                workspace = open_workspace(project_root())
                made = self._open.enter_context(labeller(workspace, job))
                self._made = made, PlanReader(output_of(workspace, job))
                self._for = job
            return self._made

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._made = None
        self._open.close()


_process = _Process()


def label_shard(job: Job, shard: Shard) -> ShardDone:
    """Label one shard of the project that this process works on (`flows.settings.project_root`)."""
    made, plan = _process.ready(job)
    return made.label(shard, plan.entries, lambda count: None)


@contextlib.contextmanager
def closing_at_end() -> Iterator[None]:
    """End what `label_shard` has started in this process."""
    try:
        yield
    finally:
        _process.close()


def task_runner(
    config: ArchiveConfig,
) -> tuple[TaskRunner[Any], AbstractContextManager[object]]:
    """Return what runs the tasks, and the context in which they are given out.

    Raises Permanent when the runner is Ray and it is not installed.
    """
    from prefect.task_runners import ThreadPoolTaskRunner

    if config.runner == "threads":
        # Enough on one machine: pictures are decoded in processes, and the encoder has its threads.
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=config.shards_at_once)
        return runner, contextlib.nullcontext()
    try:
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
    except ImportError as error:
        raise Permanent(
            "project.toml asks for Ray, which is not installed: install cratedig[ray]"
        ) from error
    options = remote_options(num_cpus=config.cpus_per_shard, num_gpus=config.gpus_per_shard)
    return RayTaskRunner(address=os.environ.get("RAY_ADDRESS")), options
