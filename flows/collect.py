"""Collect a source: discover links, fetch them, store what is new, drop duplicates.

The order of writing is what makes a kill harmless: bytes, then the image's row, then the link's
row. A link without a row is fetched again; an image that comes twice is merged by its sha256.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from crawler.archive import archive_members
from crawler.candidates import candidates, examine_members
from crawler.decode import Candidate
from crawler.dedupe import group_duplicates
from crawler.discover import discover
from crawler.fetch import Fetched, Unchanged, Validators
from crawler.ledger import Ledger
from crawler.rejections import Rejected
from flows.catalog import Catalog
from flows.progress import Progress, Watch, unwatched
from flows.records import new_run_id, once
from flows.rows import ImageRow, LinkRow, Provenance
from flows.shards import MAX_SHARD_BYTES, MAX_SHARD_IMAGES, Member, Place, write_shard
from flows.tombstones import Tombstones, keep_out
from flows.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CollectResult:
    """What one run made of a source. Every link is kept, duplicate, or rejected for a reason."""

    run_id: str
    source: str
    pages: int
    links: int
    fetched: int
    """Bodies that were read in this run; the others had not changed since the last one."""
    kept: int
    duplicates: int
    rejected: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        return (
            f"collected {self.links} kept {self.kept} duplicate {self.duplicates} "
            f"rejected {sum(self.rejected.values())} in {self.seconds:.0f} s"
        )


def unfinished_run(workspace: Workspace, source: str) -> str | None:
    """Return the id of the newest run of `source` that was begun on this machine and not ended."""
    runs = sorted(workspace.scratch.glob(f"*/{source}.sqlite"))
    return runs[-1].parent.name if runs else None


def collect(
    workspace: Workspace,
    source_name: str,
    *,
    run_id: str | None = None,
    watch: Watch = unwatched,
) -> tuple[CollectResult, bool]:
    """Collect the source of that name; return the result, and whether it had been done before.

    Without a run id, an unfinished run of the source is carried on, or else a new one begins.
    `watch` is asked to watch each step.
    """
    source = workspace.project.source(source_name)
    run_id = run_id or unfinished_run(workspace, source_name) or new_run_id()
    ledger_path = workspace.scratch / run_id / f"{source_name}.sqlite"
    policy = workspace.project.policy()

    def work() -> CollectResult:
        started = time.monotonic()
        ledger_path.parent.mkdir(parents=True, exist_ok=True)
        with watch(f"discover {source_name}") as progress:
            found = discover(
                source,
                policy,
                ledger_path,
                on_progress=lambda pages, links: progress(links, None),
            )
        catalog = workspace.catalog
        earlier = {row.url: row for row in catalog.links(source_name)}
        settled = {url for url, row in earlier.items() if row.run_id == run_id}
        known = {
            url: Validators(etag=row.etag, last_modified=row.last_modified)
            for url, row in earlier.items()
            if row.outcome == "kept" and (row.etag or row.last_modified)
        }
        sink = _Sink(workspace, source_name, run_id, earlier)
        gone = Tombstones(workspace.store).load()
        with Ledger(ledger_path) as ledger:
            sink.reject(each for each in ledger.rejected() if each.url not in settled)
            outcomes = candidates(
                (
                    link
                    for link in ledger.links()
                    if link.url not in settled and not gone.covers(link.url, link.page_url)
                ),
                policy=policy,
                allow_private=source.allow_private,
                known=known,
            )
            with watch(f"fetch {source_name}") as progress:
                asyncio.run(sink.drain(outcomes, progress, done=len(settled), total=found.links))
        drop_duplicates(catalog)
        return _result(workspace, source_name, run_id, found.pages, sink.fetched, started)

    result, repeated = once(workspace.store, run_id, f"collect-{source_name}", CollectResult, work)
    _forget(ledger_path)
    return result, repeated


def import_archive(
    workspace: Workspace,
    path: Path,
    *,
    run_id: str | None = None,
    watch: Watch = unwatched,
) -> tuple[CollectResult, bool]:
    """Take a folder, tar or zip into the dataset, through the same decoding and deduplication.

    An image's address in its provenance is `archive:NAME/MEMBER`; nothing of the machine's paths
    is recorded. Importing the same archive again adds nothing.
    """
    name = f"import-{path.name}"
    run_id = run_id or new_run_id()

    def work() -> CollectResult:
        started = time.monotonic()
        earlier = {row.url: row for row in workspace.catalog.links(name)}
        sink = _Sink(workspace, name, run_id, earlier)
        outcomes = examine_members(archive_members(path), name, policy=workspace.project.policy())
        with watch(f"import {path.name}") as progress:
            asyncio.run(sink.drain(outcomes, progress, done=0, total=None))
        drop_duplicates(workspace.catalog)
        return _result(workspace, name, run_id, 0, sink.fetched, started)

    return once(workspace.store, run_id, f"collect-{name}", CollectResult, work)


def drop_duplicates(catalog: Catalog) -> int:
    """Group the whole dataset by likeness and mark all but the best of each; return the marked."""
    groups = group_duplicates(catalog.fingerprints())
    marked = {
        duplicate.sha256: (group.kept, duplicate.how)
        for group in groups
        for duplicate in group.duplicates
    }
    catalog.set_duplicates(marked)
    return len(marked)


class _Sink:
    """Takes outcomes as they come and commits them a shard at a time."""

    def __init__(
        self, workspace: Workspace, source: str, run_id: str, earlier: Mapping[str, LinkRow]
    ) -> None:
        self._workspace = workspace
        self._source = source
        self._run_id = run_id
        self._earlier = earlier
        self._candidates: list[Candidate] = []
        self._held_bytes = 0
        self._links: list[LinkRow] = []
        self.fetched = 0

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Take what discovery itself has refused."""
        for each in rejected:
            self._take(each)

    async def drain(
        self,
        outcomes: AsyncGenerator[Candidate | Unchanged | Rejected, None],
        progress: Progress,
        *,
        done: int,
        total: int | None,
    ) -> None:
        """Take every outcome to its end; what is left at the end is committed too."""
        async with aclosing(outcomes):
            async for outcome in outcomes:
                self._take(outcome)
                done += 1
                progress(done, total)
                if self._is_full():
                    await asyncio.to_thread(self._commit)
        await asyncio.to_thread(self._commit)

    def _is_full(self) -> bool:
        held = len(self._candidates) + len(self._links)
        return held >= MAX_SHARD_IMAGES or self._held_bytes >= MAX_SHARD_BYTES

    def _take(self, outcome: Candidate | Unchanged | Rejected) -> None:
        now = datetime.now(UTC)
        if isinstance(outcome, Candidate):
            self.fetched += 1
            self._candidates.append(outcome)
            self._held_bytes += len(outcome.fetched.data)
        elif isinstance(outcome, Unchanged):
            before = self._earlier[outcome.link.url]
            self._links.append(dataclasses.replace(before, run_id=self._run_id, seen_at=now))
        else:
            self.fetched += outcome.sha256 is not None
            self._links.append(
                LinkRow(
                    url=outcome.url,
                    source=self._source,
                    page_url=outcome.page_url,
                    found_by="",
                    outcome="rejected",
                    reason=outcome.reason.value,
                    detail=outcome.detail,
                    transient=outcome.transient,
                    sha256=outcome.sha256,
                    etag="",
                    last_modified="",
                    run_id=self._run_id,
                    seen_at=now,
                )
            )

    def _commit(self) -> None:
        """Bytes, then image rows, then link rows: see the head of this module."""
        catalog, store = self._workspace.catalog, self._workspace.store
        self._candidates, self._links = keep_out(store, self._candidates, self._links)
        by_sha256 = {each.fingerprint.sha256: each for each in self._candidates}
        stored = catalog.places(list(by_sha256))
        new = [each for sha256, each in by_sha256.items() if sha256 not in stored]
        if new:
            prefix = f"shards/{self._run_id}/{self._source}"
            stored |= write_shard(store, prefix, [_member(each) for each in new])
        catalog.add_images(
            [self._image_row(each, stored[each.fingerprint.sha256]) for each in self._candidates]
        )
        catalog.record_links(
            [*self._links, *(self._kept_row(each.fetched) for each in self._candidates)]
        )
        self._candidates, self._links, self._held_bytes = [], [], 0

    def _image_row(self, candidate: Candidate, place: Place) -> ImageRow:
        fetched, seen = candidate.fetched, candidate.fingerprint
        link = fetched.link
        return ImageRow(
            sha256=seen.sha256,
            shard=place.shard,
            offset=place.offset,
            size=place.size,
            format=candidate.format,
            width=seen.width,
            height=seen.height,
            pixel_sha256=seen.pixel_sha256,
            phash=seen.phash,
            dhash=seen.dhash,
            tiny=seen.tiny,
            hashable=seen.hashable,
            thumbnail=candidate.thumbnail,
            provenance=(
                Provenance(
                    source=self._source,
                    url=link.url,
                    page_url=link.page_url,
                    found_by=link.found_by,
                    alt=link.alt,
                    page_title=link.page_title,
                    about=link.about.to_json(),
                    fetched_at=fetched.fetched_at,
                    run_id=self._run_id,
                ),
            ),
            consent_allowed=fetched.consent.allowed,
            consent=fetched.consent.to_json(),
            duplicate_of=None,
            duplicate_how=None,
            added_at=fetched.fetched_at,
        )

    def _kept_row(self, fetched: Fetched) -> LinkRow:
        return LinkRow(
            url=fetched.link.url,
            source=self._source,
            page_url=fetched.link.page_url,
            found_by=fetched.link.found_by,
            outcome="kept",
            reason="",
            detail="",
            transient=False,
            sha256=fetched.sha256,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            run_id=self._run_id,
            seen_at=fetched.fetched_at,
        )


def _member(candidate: Candidate) -> Member:
    fetched = candidate.fetched
    return Member(
        sha256=candidate.fingerprint.sha256,
        format=candidate.format,
        data=fetched.data,
        metadata={
            "url": fetched.link.url,
            "page_url": fetched.link.page_url,
            "alt": fetched.link.alt,
            "about": json.loads(fetched.link.about.to_json()),
            "content_type": fetched.content_type,
            "consent": json.loads(fetched.consent.to_json()),
        },
    )


def _result(
    workspace: Workspace, source: str, run_id: str, pages: int, fetched: int, started: float
) -> CollectResult:
    """Count what the catalogue holds of this run."""
    rows = [row for row in workspace.catalog.links(source) if row.run_id == run_id]
    kept_ids = {row.sha256 for row in rows if row.outcome == "kept" and row.sha256 is not None}
    marked = workspace.catalog.duplicates()
    kept = sum(sha256 not in marked for sha256 in kept_ids)
    rejected = Counter(row.reason for row in rows if row.outcome == "rejected")
    return CollectResult(
        run_id=run_id,
        source=source,
        pages=pages,
        links=len(rows),
        fetched=fetched,
        kept=kept,
        duplicates=len(rows) - kept - rejected.total(),
        rejected=dict(sorted(rejected.items())),
        seconds=round(time.monotonic() - started, 2),
    )


def _forget(ledger_path: Path) -> None:
    """Remove the ledger of a run that has ended, and its folder when it was the last."""
    for path in ledger_path.parent.glob(f"{ledger_path.name}*"):
        path.unlink()
    if ledger_path.parent.exists() and not any(ledger_path.parent.iterdir()):
        ledger_path.parent.rmdir()
