"""One crawl on many workers: found by one of them, shared out by host, fetched by all.

    runs/<run>/links-<source>/<shard>.parquet     the links of some hosts, in the order of finding
    runs/<run>/plan-<source>.json                 which shards there are; written last

Discovery has its ledger on the disk of the worker that does it. When it has ended, its links go to
the bucket, where each worker finds those of a shard; a shard's tasks need nothing else, and may run
anywhere and again. All links of a registrable host are in one shard, so a crawl never visits a host
from two workers; leases see to it that two crawls do not, either.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.candidates import candidates
from crawler.consent import Consent
from crawler.discover import discover
from crawler.hosts import host_of
from crawler.ledger import Ledger
from crawler.pages import About, ImageLink
from crawler.sources import Source
from flows.collect import CollectResult, conclude, drop_duplicates
from flows.earlier import Earlier, is_final
from flows.errors import Transient
from flows.leases import BucketLeases
from flows.listing import Listing
from flows.live import Live
from flows.objects import ObjectStore
from flows.progress import Watch, silent, unwatched
from flows.records import once
from flows.rows import LinkRow
from flows.scratch import Scratch
from flows.sink import CommitLimits, Sink
from flows.tombstones import Tombstones
from flows.workspace import Workspace

SHARDS = 64
"""How many parts a crawl has at most; more than workers, so that they end at about the same time."""

_BATCH_LINKS = 1000
_WAIT_FOR_HOSTS_S = 600.0
_POLL_S = 2.0

_LINKS = pa.schema(
    [
        (name, pa.string())
        for name in ("url", "page_url", "found_by", "alt", "page_title", "about", "consent")
    ]
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CrawlPlan:
    """A crawl whose links are in the bucket."""

    run_id: str
    source: str
    pages: int
    links: int
    shards: tuple[str, ...]
    """Keys, each for one task."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What came of one shard."""

    shard: str
    links: int
    fetched: int
    """Bodies that were read."""
    bytes: int
    """Of pictures that were kept."""

    def __str__(self) -> str:
        """Return the line with which the task ends."""
        return f"collected {self.shard}: links {self.links} fetched {self.fetched}"


def shard_of(host: str, shards: int = SHARDS) -> int:
    """Return the number of the shard that a registrable host belongs to, always the same."""
    return int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "big") % shards


def plan_crawl(
    workspace: Workspace,
    source_name: str,
    *,
    run_id: str,
    shards: int = SHARDS,
    watch: Watch = unwatched,
) -> CrawlPlan:
    """Discover a source, and put its links into the bucket by host; what is done is not done again.

    Killed, it has to be called again on the same machine to go on with its ledger; elsewhere it
    begins anew. The hosts that it starts at are leased meanwhile. Raises Transient when another
    worker visits one of them for ten minutes on end.
    """
    source = workspace.project.source(source_name)
    scratch = Scratch.of(workspace, run_id, source_name)

    def work() -> CrawlPlan:
        scratch.begin(source.table)
        listing = Listing(workspace, source, scratch)
        with Earlier(scratch.earlier, workspace.catalog, source_name, run_id=run_id) as earlier:
            with (
                worker_leases(workspace.store) as leases,
                watch(f"discover {source_name}") as progress,
            ):
                _take_start_hosts(leases, source)
                found = discover(
                    source,
                    workspace.project.policy(),
                    scratch.ledger,
                    on_progress=lambda pages, links: progress(links, None, f"{pages} pages read"),
                    listed=listing.links(),
                    known=earlier.kept(),
                )
                for address in source.start:
                    leases.rest(host_of(address), workspace.project.policy().delay_s)
            gone = Tombstones(workspace.store).load()
            with Ledger(scratch.ledger) as ledger:
                sink = Sink(
                    workspace,
                    source_name,
                    run_id,
                    earlier,
                    live=Live(silent),
                    limits=CommitLimits(),
                )
                for rejected in (ledger.rejected(), listing.rejected()):
                    sink.settle(each for each in rejected if not earlier.is_settled(each.url))
                sink.settle(_settled(ledger.links(), earlier))
                keys = write_links(
                    workspace.store,
                    f"runs/{run_id}/links-{source_name}",
                    (
                        link
                        for link in ledger.links()
                        if _is_open(earlier.row(link.url), run_id)
                        and not gone.covers(link.url, link.page_url)
                    ),
                    shards=shards,
                )
        return CrawlPlan(
            run_id=run_id,
            source=source_name,
            pages=found.pages,
            links=found.links,
            shards=tuple(keys),
        )

    plan, _ = once(workspace.store, run_id, f"plan-{source_name}", CrawlPlan, work)
    scratch.end()
    return plan


def collect_shard(
    workspace: Workspace, plan: CrawlPlan, shard: str, *, watch: Watch = unwatched
) -> ShardResult:
    """Fetch and store the links of one shard of `plan`, host by leased host.

    Killed and called again, anywhere, it goes on with the links that have no row yet.
    """
    source = workspace.project.source(plan.source)
    stage = f"{plan.source}-{Path(shard).stem}"
    scratch = Scratch.of(workspace, plan.run_id, f"shard-{stage}")

    def work() -> ShardResult:
        scratch.begin(shard)
        gone = Tombstones(workspace.store).load()
        links = list(read_links(workspace.store, shard))
        with (
            Earlier(scratch.earlier, workspace.catalog, plan.source, run_id=plan.run_id) as earlier,
            worker_leases(workspace.store) as leases,
            watch(f"fetch {shard}") as progress,
        ):
            live = Live(progress, total=len(links))
            sink = Sink(
                workspace, plan.source, plan.run_id, earlier, live=live, limits=CommitLimits()
            )
            outcomes = candidates(
                (
                    link
                    for link in links
                    if not earlier.is_settled(link.url) and not gone.covers(link.url, link.page_url)
                ),
                policy=workspace.project.policy(),
                allow_private=source.allow_private,
                known=earlier,
                leases=leases,
            )
            asyncio.run(sink.drain(outcomes, live.tell))
        return ShardResult(shard=shard, links=len(links), fetched=live.bodies, bytes=live.bytes)

    result, _ = once(workspace.store, plan.run_id, f"shard-{stage}", ShardResult, work)
    scratch.end()
    return result


def finish_crawl(
    workspace: Workspace, plan: CrawlPlan, results: Iterable[ShardResult]
) -> CollectResult:
    """Drop duplicates when all shards are done; return what a crawl by one process would have.

    It stands as the run's result: `collect` under the same run id finds it done.
    """
    started = time.monotonic()

    def work() -> CollectResult:
        drop_duplicates(workspace.catalog)
        live = Live(silent)
        for result in results:
            live.bodies += result.fetched
            live.bytes += result.bytes
        return conclude(
            workspace, plan.source, plan.run_id, pages=plan.pages, live=live, started=started
        )

    stage = f"collect-{plan.source}"
    return once(workspace.store, plan.run_id, stage, CollectResult, work)[0]


def _settled(links: Iterable[ImageLink], earlier: Earlier) -> Iterator[LinkRow]:
    """Yield the rows of links that need not be fetched again, and are not of this run yet."""
    for link in links:
        row = earlier.row(link.url)
        if row is not None and is_final(row) and not earlier.is_settled(link.url):
            yield row


def _is_open(row: LinkRow | None, run_id: str) -> bool:
    """Return whether a link is to be fetched, going by what was recorded of it."""
    return row is None or (row.run_id != run_id and not is_final(row))


def worker_leases(store: ObjectStore, *, ttl_s: float = 120.0) -> BucketLeases:
    """Return the leases of this process, named so that people know which it is."""
    return BucketLeases(store, f"{platform.node()} {os.getpid()}", ttl_s=ttl_s)


def write_links(
    store: ObjectStore, prefix: str, links: Iterable[ImageLink], *, shards: int
) -> list[str]:
    """Write links below `prefix`, a Parquet file a shard that has any; return their keys, in order."""
    batches: dict[int, list[dict[str, str]]] = defaultdict(list)
    writers: dict[int, pq.ParquetWriter] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def flush(shard: int) -> None:
            if shard not in writers:
                writers[shard] = pq.ParquetWriter(folder / f"{shard:04d}.parquet", _LINKS)
            writers[shard].write_table(pa.Table.from_pylist(batches.pop(shard), schema=_LINKS))

        try:
            for link in links:
                shard = shard_of(host_of(link.url), shards)
                batches[shard].append(_to_row(link))
                if len(batches[shard]) == _BATCH_LINKS:
                    flush(shard)
            for shard in list(batches):
                flush(shard)
        finally:
            for writer in writers.values():
                writer.close()
        keys = []
        for path in sorted(folder.iterdir()):
            key = f"{prefix}/{path.name}"
            with path.open("rb") as file:
                store.upload(key, file)
            keys.append(key)
        return keys


def read_links(store: ObjectStore, key: str) -> Iterator[ImageLink]:
    """Yield the links of a shard, in the order in which they were found."""
    file = pq.ParquetFile(io.BytesIO(store.get(key)))
    for batch in file.iter_batches(_BATCH_LINKS):
        for row in batch.to_pylist():
            about, consent = About.from_json(row["about"]), Consent.from_json(row["consent"])
            yield ImageLink(**{**row, "about": about, "consent": consent})


def _to_row(link: ImageLink) -> dict[str, str]:
    return {
        "url": link.url,
        "page_url": link.page_url,
        "found_by": link.found_by,
        "alt": link.alt,
        "page_title": link.page_title,
        "about": link.about.to_json(),
        "consent": link.consent.to_json(),
    }


def _take_start_hosts(leases: BucketLeases, source: Source) -> None:
    """Wait until no other worker visits a host that `source` starts at."""
    if source.kind == "urls":
        return  # nothing is asked of a host to list its addresses
    deadline = time.monotonic() + _WAIT_FOR_HOSTS_S
    # In one order for all, so that no two workers wait for each other.
    for host in sorted({host_of(address) for address in source.start}):
        while not leases.take(host):
            if time.monotonic() > deadline:
                raise Transient(f"{host} is being visited by another worker: try again later")
            time.sleep(_POLL_S)
