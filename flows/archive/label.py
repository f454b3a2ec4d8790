"""Label an archive: plan, label what is not labelled yet, publish.

Any number of these may run at once over the same archive, on any machines: each takes the shards
that no other holds a lease on, and what one that was killed had finished is not done again.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows import observe
from flows.archive.job import Job, Wanted, archive_of, labeller, output_of, prepare
from flows.archive.listing import Archive
from flows.archive.places import Output
from flows.archive.plan import Planner, PlanReader, Shard
from flows.archive.result import ArchiveManifest, publish
from flows.archive.shard import Keys, Labeller, ShardDone
from flows.archive.spread import Future, spread
from flows.archive.tally import Stopped, Tally
from flows.errors import Transient
from flows.leases import BucketLeases
from flows.progress import Watch, unwatched
from flows.scratch import Scratch
from flows.workspace import Workspace

SHARDS_AT_ONCE = 2
"""While the last pictures of one are awaited, those of the next are read."""

ATTEMPTS = 4
"""At a shard during which the store breaks off."""

LEASE_S = 30.0
"""How long the shard of a worker that was killed is left alone."""

_BACKOFF_S = 2.0
_LOOK_AGAIN_S = 1.0  # at shards that another worker holds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveResult:
    """What one run did, and what was published."""

    manifest: ArchiveManifest
    where: str
    """The manifest's place."""
    labelled_now: int
    """Pictures of the shards that this run did itself."""
    published_now: bool
    """False when the same had been published: by an earlier run, or by another at this moment."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        found = self.manifest
        yes = ", ".join(f"{label} {count}" for label, count in found.yes.items())
        unreadable = sum(found.errors.values())
        again = f" ({found.to_retry} to be tried again by the next run)" if found.to_retry else ""
        already = "" if self.published_now else ", published already"
        return (
            f"labelled {found.labelled} of {found.pictures} pictures, {self.labelled_now} now, "
            f"{unreadable} unreadable{again}, by {found.kind} {found.model}: {yes}{already} "
            f"in {self.seconds:.0f} s"
        )


def result_rows(result: ArchiveResult) -> list[dict[str, str | int | float]]:
    """Return what came of the pictures: a row a label, and a row a reason."""
    found = result.manifest
    labels: list[dict[str, str | int | float]] = [
        {"what": label, "pictures": count, "threshold": round(found.thresholds[label], 3)}
        for label, count in found.yes.items()
    ]
    errors: list[dict[str, str | int | float]] = [
        {"what": f"unreadable: {reason}", "pictures": count, "threshold": ""}
        for reason, count in found.errors.items()
    ]
    return [*labels, *errors]


def result_table(result: ArchiveResult) -> str:
    """Return the same for a terminal."""
    rows = result_rows(result)
    width = max(len(str(row["what"])) for row in rows)
    lines = [f"{row['what']:<{width}}  {row['pictures']:>12,}" for row in rows]
    return "\n".join([*lines, f"{len(result.manifest.parts)} parts, named by {result.where}"])


def shards_done(output: Output, keys: Keys) -> set[str]:
    """Return the ids of the shards that have their part, and nothing in it to be tried again."""

    def ids(folder: str) -> set[str]:
        return {key.removeprefix(folder).rpartition(".")[0] for key in output.keys(folder)}

    return ids(keys.done_folder) - ids(keys.unfinished_folder)


def label_archive(
    workspace: Workspace,
    wanted: Wanted,
    *,
    shards_at_once: int = SHARDS_AT_ONCE,
    lease_s: float = LEASE_S,
    watch: Watch = unwatched,
) -> ArchiveResult:
    """Label everything at a location, and publish the result; what was done before stands.

    Raises ArchiveUnreadable when there is nothing, Transient when the store stayed away, and what
    `flows.archive.job.prepare` does.
    """

    def do(job: Job, plan: _Plan) -> None:
        with labeller(workspace, job) as made:
            _Threads(workspace, job, made, plan, lease_s).run(shards_at_once)

    return _labelled(workspace, wanted, do, watch)


def label_spread(
    workspace: Workspace,
    wanted: Wanted,
    give: Callable[[Job, Shard], Future],
    *,
    watch: Watch = unwatched,
) -> ArchiveResult:
    """Do the same with shards that `give` hands to tasks, here or on other machines."""

    def do(job: Job, plan: _Plan) -> None:
        def ended(shard: Shard, done: ShardDone) -> None:
            plan.tally.counted(done.pictures)
            plan.tally.ended(shard, done.pictures)

        spread(plan.planner, lambda shard: give(job, shard), ended=ended)

    return _labelled(workspace, wanted, do, watch)


@observe.stage("archive")
def _labelled(
    workspace: Workspace, wanted: Wanted, do: Callable[[Job, _Plan], None], watch: Watch
) -> ArchiveResult:
    """Plan, have `do` do every shard of the plan, and publish."""
    started = time.monotonic()
    job, question = prepare(workspace, wanted)
    output = output_of(workspace, job)
    workspace.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        archive = archive_of(workspace, job, Scratch(folder=Path(folder), stage="archive"))
        with watch(f"label {archive.name}") as progress:
            plan = _Plan(job, archive, output, Tally(progress))
            with plan.planner:
                do(job, plan)
            manifest, published_now = publish(
                output,
                job.keys,
                question,
                archive=archive.name,
                plan=plan.planner.plan,
                shards=plan.shards,
            )
    return ArchiveResult(
        manifest=manifest,
        where=output.uri(manifest.key(job.keys)),
        labelled_now=plan.tally.done,
        published_now=published_now,
        seconds=round(time.monotonic() - started, 2),
    )


class _Plan:
    """The shards of a job: all of them as they are planned, and those that are to do."""

    def __init__(self, job: Job, archive: Archive, output: Output, tally: Tally) -> None:
        self._done = shards_done(output, job.keys)
        self.tally = tally
        self.shards: list[Shard] = []
        """All so far; all there are once the planner has ended."""
        self.planner = Planner(
            archive,
            output,
            shard_pictures=job.wanted.shard_pictures,
            is_to_do=self._is_to_do,
            ended=tally.all_listed,
        )

    def stop(self) -> None:
        """End the listing, and what is under way."""
        self.tally.stopped.set()
        self.planner.stop()

    def _is_to_do(self, shard: Shard) -> bool:
        self.shards.append(shard)
        if shard.id in self._done:
            self.tally.was_done(shard)
            return False
        self.tally.begun(shard)
        return True


class _Threads:
    """Threads of this process that share the shards of a plan."""

    def __init__(
        self, workspace: Workspace, job: Job, made: Labeller, plan: _Plan, lease_s: float
    ) -> None:
        self._store = workspace.store
        self._job = job
        self._lease_s = lease_s
        self._labeller = made
        self._plan = plan
        self._tally = plan.tally
        self._reader = PlanReader(output_of(workspace, job))
        self._lock = threading.Lock()
        self._coming = iter(plan.planner)
        self._elsewhere: deque[Shard] = deque()

    def run(self, at_once: int) -> None:
        """Do every shard that nobody has done."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="shard") as pool:
            threads = [pool.submit(self._work) for _ in range(at_once)]
            try:
                for thread in threads:
                    thread.result()
            except BaseException:
                self._plan.stop()
                raise

    def _work(self) -> None:
        try:
            while (shard := self._next()) is not None:
                self._take(shard)
            while (shard := self._next_elsewhere()) is not None:
                self._take(shard)
                self._tally.stopped.wait(_LOOK_AGAIN_S)
        except Stopped:
            return  # what stopped it is raised by the thread in which it happened
        except BaseException:
            self._plan.stop()
            raise

    def _next(self) -> Shard | None:
        with self._lock:
            return None if self._tally.stopped.is_set() else next(self._coming, None)

    def _next_elsewhere(self) -> Shard | None:
        with self._lock:
            if self._tally.stopped.is_set() or not self._elsewhere:
                return None
            return self._elsewhere.popleft()

    def _take(self, shard: Shard) -> None:
        """Do a shard, unless another worker is at it: then it is looked at again at the end."""
        owner = f"{platform.node()} {os.getpid()}"
        with BucketLeases(self._store, owner, ttl_s=self._lease_s) as leases:
            if leases.take(f"archive-{self._job.keys.question_id}-{shard.id}"):
                self._do(shard)
                return
        if self._labeller.is_done(shard):
            self._tally.done_elsewhere(shard)
        else:
            with self._lock:
                self._elsewhere.append(shard)

    def _do(self, shard: Shard) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            counted = 0

            def count(more: int) -> None:
                nonlocal counted
                self._tally.counted(more)
                counted += more

            try:
                done = self._labeller.label(shard, self._reader.entries, count)
            except Transient:
                if attempt == ATTEMPTS:
                    raise
                self._tally.counted(-counted)
                self._tally.stopped.wait(_BACKOFF_S * 2**attempt)
            else:
                self._tally.ended(shard, done.pictures)
                return
