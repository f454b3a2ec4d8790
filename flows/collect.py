"""Collect a source: discover links, fetch them, store what is new, drop duplicates."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator

from crawler.candidates import candidates
from crawler.discover import discover
from crawler.ledger import Ledger
from crawler.politeness import HostLeases
from crawler.sources import Source
from flows.catalog import Catalog
from flows.crawl_report import report_key, report_text, write_report
from flows.dedupe import mark_duplicates
from flows.earlier import Earlier, is_final
from flows.listing import Listing
from flows.live import Live
from flows.progress import Watch, unwatched
from flows.records import new_run_id, once
from flows.rows import LinkRow
from flows.scratch import Scratch, unfinished_run
from flows.sink import CommitLimits, Sink
from flows.tally import Tally
from flows.tombstones import Tombstones
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
    report: str = ""
    """Where the report of the run lies in the bucket."""

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        return (
            f"collected {self.links} kept {self.kept} duplicate {self.duplicates} "
            f"rejected {sum(self.rejected.values())} in {self.seconds:.0f} s"
        )


def collect(
    workspace: Workspace,
    source: str | Source,
    *,
    run_id: str | None = None,
    watch: Watch = unwatched,
    retry_all: bool = False,
    leases: HostLeases | None = None,
    limits: CommitLimits | None = None,
) -> tuple[CollectResult, bool]:
    """Collect a source, or the one of that name; return the result, and whether it was done before.

    Without a run id, an unfinished run of the source is carried on, or else a new one begins. Links
    that earlier runs have rejected for good are left alone, unless `retry_all`. `watch` is asked to
    watch each step; `leases` say which hosts this process may visit.
    """
    if isinstance(source, str):
        source = workspace.project.source(source)
    run_id = run_id or unfinished_run(workspace, source.name, source.table) or new_run_id()
    scratch = Scratch.of(workspace, run_id, source.name)
    crawl = _Crawl(
        workspace=workspace,
        source=source,
        run_id=run_id,
        scratch=scratch,
        retry_all=retry_all,
        leases=leases,
        limits=limits or CommitLimits(),
    )
    stage = f"collect-{source.name}"
    result, repeated = once(workspace.store, run_id, stage, CollectResult, lambda: crawl.run(watch))
    scratch.end()
    return result, repeated


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Crawl:
    """One run over one source."""

    workspace: Workspace
    source: Source
    run_id: str
    scratch: Scratch
    retry_all: bool
    leases: HostLeases | None
    limits: CommitLimits

    def run(self, watch: Watch) -> CollectResult:
        """Discover, fetch and commit; what an earlier attempt of this run has done is left out."""
        started = time.monotonic()
        name, catalog = self.source.name, self.workspace.catalog
        self.scratch.begin(self.source.table)
        listing = Listing(self.workspace, self.source, self.scratch)
        with Earlier(self.scratch.earlier, catalog, name, run_id=self.run_id) as earlier:
            with watch(f"discover {name}") as progress:
                found = discover(
                    self.source,
                    self.workspace.project.policy(),
                    self.scratch.ledger,
                    on_progress=lambda pages, links: progress(links, None, f"{pages} pages read"),
                    listed=listing.links(),
                    known=earlier.kept(),
                )
            with watch(f"fetch {name}") as progress, Ledger(self.scratch.ledger) as ledger:
                live = Live(progress, total=found.links)
                sink = Sink(
                    self.workspace, name, self.run_id, earlier, live=live, limits=self.limits
                )
                sink.settle(each for each in ledger.rejected() if not earlier.is_settled(each.url))
                sink.settle(each for each in listing.rejected() if not earlier.is_settled(each.url))
                sink.settle(self._settled(ledger, earlier, live))
                gone = Tombstones(self.workspace.store).load()
                outcomes = candidates(
                    (
                        link
                        for link in ledger.links()
                        if self._is_open(link.url, earlier)
                        and not gone.covers(link.url, link.page_url)
                    ),
                    policy=self.workspace.project.policy(),
                    allow_private=self.source.allow_private,
                    known=earlier,
                    leases=self.leases,
                )
                asyncio.run(sink.drain(outcomes, live.tell))
        drop_duplicates(catalog)
        return conclude(
            self.workspace, name, self.run_id, pages=found.pages, live=live, started=started
        )

    def _settled(self, ledger: Ledger, earlier: Earlier, live: Live) -> Iterator[LinkRow]:
        """Yield the rows of links that this run need not fetch and has not recorded yet."""
        for link in ledger.links():
            if self._is_open(link.url, earlier):
                continue
            row = earlier.row(link.url)
            if row is not None and row.run_id != self.run_id:
                yield row
            live.tell()

    def _is_open(self, url: str, earlier: Earlier) -> bool:
        row = earlier.row(url)
        if row is None:
            return True
        return row.run_id != self.run_id and (self.retry_all or not is_final(row))


def conclude(
    workspace: Workspace, source: str, run_id: str, *, pages: int, live: Live, started: float
) -> CollectResult:
    """Count what the catalogue holds of a run, and leave its report in the bucket."""
    tally = Tally.of(workspace.catalog, source, run_id)
    result = CollectResult(
        run_id=run_id,
        source=source,
        pages=pages,
        links=tally.links,
        fetched=live.bodies,
        kept=tally.kept,
        duplicates=tally.duplicates,
        rejected={reason: each.count for reason, each in sorted(tally.rejected.items())},
        seconds=round(time.monotonic() - started, 2),
        report=report_key(run_id),
    )
    text = report_text(
        source=source,
        run_id=run_id,
        line=str(result),
        pages=pages,
        tally=tally,
        hosts=live.hosts,
        bodies=live.bodies,
        size=live.bytes,
    )
    write_report(workspace.store, run_id, source, text)
    return result


def drop_duplicates(catalog: Catalog) -> int:
    """Look for duplicates of what is new in the whole dataset and mark them; return the marked.

    Groups of earlier runs are never split: see `crawler.dedupe.group_duplicates`.
    """
    return mark_duplicates(catalog, anew=False).duplicates
