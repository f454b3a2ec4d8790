"""Find the pictures of a source: run the spider in a process of its own, over the run's ledger."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from crawler.addresses import web_address
from crawler.browser import chromium_executable
from crawler.ledger import DiscoverStats, Ledger, Page
from crawler.pages import ImageLink
from crawler.rejections import CrawlerError, Rejected
from crawler.settings import CrawlPolicy, require_contact
from crawler.sources import Source, SourceInvalid

__all__ = ["CrawlFailed", "DiscoverStats", "discover"]


_LISTED_BATCH = 5000


class CrawlFailed(CrawlerError):
    """The site cannot be reached at all, or the crawl broke down; what was found is kept."""


def discover(
    source: Source,
    policy: CrawlPolicy,
    ledger_path: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    listed: Iterable[ImageLink] | None = None,
    known: Iterable[str] = (),
) -> DiscoverStats:
    """Record every picture of `source` in the ledger; return the counts.

    Killed and called again over the same ledger, it goes on with the pages that were not done, and
    ends with the same links. Called again after its end, it returns at once. `on_progress` gets the
    pages done and the links found so far. `listed` are the links of the source's table, if it has
    one; `known` are addresses of pictures that earlier runs have kept.

    Raises `CrawlFailed` when no start page can be reached, or the spider dies; `SourceInvalid`
    when the policy has no contact for a public site; `BrowserMissing`.
    """
    require_contact(source, policy)
    started = time.monotonic()
    with Ledger(ledger_path) as ledger:
        done = ledger.final_stats()
        if done is not None:
            return done
        if source.kind == "urls":
            on_links = on_progress or _ignore
            links = chain(_listed(source), listed or ())
            while batch := list(islice(links, _LISTED_BATCH)):
                ledger.add_links(batch)
                on_links(0, ledger.count_links())
        else:
            if source.browser != "never":
                chromium_executable()  # refused now, not at the first page that needs it
            ledger.add_pages(_start_pages(source), max_pages=source.max_pages)
            ledger.retry_pages()
            _crawl(source, policy, ledger_path, on_progress or _ignore)
            _require_reached(source, ledger)
        stats = ledger.stats(time.monotonic() - started)
        ledger.finish_discovery(stats)
        return stats


def _ignore(pages: int, links: int) -> None:
    """Watch nothing."""


def _listed(source: Source) -> Iterator[ImageLink]:
    for address in source.start:
        yield ImageLink(url=address, page_url="", found_by="url list")


def _start_pages(source: Source) -> Iterator[Page]:
    for address in source.start:
        url = web_address(address)
        if url is None:
            raise SourceInvalid(f"source {source.name} starts at {address!r}, which is no address")
        yield Page(url=url, parent=url, depth=0)


def _crawl(
    source: Source,
    policy: CrawlPolicy,
    ledger_path: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Run the spider to its end."""
    order = {
        "source": dataclasses.asdict(source),
        "policy": dataclasses.asdict(policy),
        "ledger": str(ledger_path.absolute()),
    }
    ending: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with _spider(log) as (process, to_spider, from_spider):
            try:
                to_spider.write(json.dumps(order) + "\n")
                to_spider.flush()
            except BrokenPipeError:
                pass  # it died at once: its exit status and its log say why
            for line in from_spider:
                ending = json.loads(line)
                if "pages" in ending:
                    on_progress(ending["pages"], ending["links"])
            status = process.wait()
        log.seek(0)
        said = log.read().strip()
    if "failed" in ending:
        raise CrawlFailed(ending["failed"])
    if status != 0 or ending.get("left") != 0:
        last = said.rsplit("\n", 1)[-1] or f"exit status {status}"
        raise CrawlFailed(
            f"the crawl of {source.name} broke down ({last}); run it again to go on from there"
        )


@contextmanager
def _spider(log: IO[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """Yield the spider's process, its stdin and its stdout; it is gone afterwards, come what may."""
    room = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (room, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "crawler.spiders"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        try:
            if process.stdin is None or process.stdout is None:  # asked for above
                raise CrawlFailed("the spider was started without its pipes")
            yield process, process.stdin, process.stdout
        finally:
            process.kill()


def _require_reached(source: Source, ledger: Ledger) -> None:
    """Raise `CrawlFailed` if nothing was read because no start page could be reached."""
    if ledger.stats().pages:
        return
    starts = {page.url for page in _start_pages(source)}
    failures: list[Rejected] = [each for each in ledger.rejected() if each.url in starts]
    if failures and all(each.transient for each in failures):
        first = failures[0]
        raise CrawlFailed(
            f"{first.url} cannot be reached ({first.detail}); check the address and the network"
        )
