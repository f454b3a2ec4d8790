"""Import: pictures out of folders, tars, zips and buckets, on the way that crawled ones take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from crawler.candidates import Candidate, examine_members
from crawler.webdataset import described
from flows.collect import CollectResult, conclude, drop_duplicates
from flows.earlier import Earlier
from flows.holdings import holdings_at
from flows.live import Live
from flows.locations import is_object, source_name
from flows.progress import Watch, silent, unwatched
from flows.records import new_run_id, once
from flows.scratch import Scratch, unfinished_run
from flows.sink import CommitLimits, Sink
from flows.workspace import Workspace


def import_pictures(
    workspace: Workspace,
    location: str,
    *,
    run_id: str | None = None,
    watch: Watch = unwatched,
    limits: CommitLimits | None = None,
) -> tuple[CollectResult, bool]:
    """Take what lies at `location` into the dataset; return the result, and whether it was done before.

    A location is a folder, a tar, a zip, a pattern of such (`shard-{000..099}.tar`, `*.tar`), or
    `s3://bucket/prefix` at the project's store, with a pattern or not. An image's address in its
    provenance is `archive:NAME/MEMBER`; nothing of the machine's paths is recorded. Importing the
    same again adds nothing; an import that was cut off is carried on, and what it has committed is
    not read again. Raises ArchiveUnreadable when there is nothing to open.
    """
    if not is_object(location):
        location = str(Path(location).expanduser().absolute())
    name = source_name(location, "import-")
    run_id = run_id or unfinished_run(workspace, name, location) or new_run_id()
    scratch = Scratch.of(workspace, run_id, name)

    def work() -> CollectResult:
        started = time.monotonic()
        scratch.begin(location)
        with (
            Earlier(scratch.earlier, workspace.catalog, name, run_id=run_id) as earlier,
            watch(f"import {name}") as progress,
        ):
            live = Live(progress)
            sink = Sink(
                workspace, name, run_id, earlier, live=live, limits=limits or CommitLimits()
            )
            holdings = holdings_at(workspace, location, scratch.download)
            members = holdings.members(
                lambda member: earlier.is_settled(f"archive:{holdings.name}/{member}")
            )
            outcomes = examine_members(
                described(members), holdings.name, policy=workspace.project.policy()
            )
            asyncio.run(sink.drain(outcomes, live.tell))
        drop_duplicates(workspace.catalog)
        return conclude(workspace, name, run_id, pages=0, live=live, started=started)

    result, repeated = once(workspace.store, run_id, f"collect-{name}", CollectResult, work)
    scratch.end()
    return result, repeated


def add_candidates(
    workspace: Workspace, source: str, candidates: Sequence[Candidate]
) -> CollectResult:
    """Take pictures that are at hand, examined already, into the dataset under `source`.

    They come by the door of an import, with its order of writing, tombstones and duplicates; the
    addresses in them are their provenance. What is there already is merged.
    """
    started = time.monotonic()
    run_id = new_run_id()
    scratch = Scratch.of(workspace, run_id, source)
    scratch.begin("")
    with Earlier(scratch.earlier, workspace.catalog, source, run_id=run_id) as earlier:
        live = Live(silent)
        sink = Sink(workspace, source, run_id, earlier, live=live, limits=CommitLimits())
        asyncio.run(sink.drain(_each(candidates), live.tell))
    drop_duplicates(workspace.catalog)
    result = conclude(workspace, source, run_id, pages=0, live=live, started=started)
    scratch.end()
    return result


async def _each(candidates: Sequence[Candidate]) -> AsyncGenerator[Candidate, None]:
    for each in candidates:
        yield each
