"""Find the pictures of a source: run the spider in a process of its own, over the run's ledger."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from crawler.addresses import web_address
from crawler.browser import chromium_executable
from crawler.ledger import DiscoverStats, Ledger, Page, PageKind
from crawler.pages import ImageLink
from crawler.rejections import CrawlerError, Rejected
from crawler.settings import CrawlPolicy, require_contact
from crawler.sources import Source, SourceInvalid

# A packed file's type says nothing of what is in it.
_SITEMAP_NAME = re.compile(r"sitemap[^/]*\.(?:xml|txt)$|\.(?:xml|txt)\.gz$", re.IGNORECASE)

__all__ = ["CrawlFailed", "DiscoverStats", "discover"]


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

    For kind `urls`, `listed` are the links of its table, instead of `source.start`: any number, of
    which a thousand are in memory at a time. `known` are the addresses of pictures that earlier
    runs have kept; they are asked for only where the source has `stop_after_known`.

    Killed and called again over the same ledger, it goes on with the pages that were not done, and
    ends with the same links. Called again after its end, it returns at once. `on_progress` gets the
    pages done and the links found so far.

    Raises `CrawlFailed` when no start page can be reached, or the spider dies; `SourceInvalid`
    when the policy has no contact for a public site; `BrowserMissing`.
    """
    require_contact(source, policy)
    started = time.monotonic()
    with Ledger(ledger_path) as ledger:
        done = ledger.final_stats()
        if done is not None:
            return done
        watch = on_progress or _ignore
        ended_by = ""
        if source.kind == "urls":
            _record(ledger, _listed(source) if listed is None else listed, watch)
        else:
            if source.browser != "never":
                chromium_executable()  # refused now, not at the first page that needs it
            if source.stop_after_known is not None:
                ledger.add_known(known)
            ledger.add_pages(_start_pages(source), at_most=source.max_pages)
            ledger.retry_pages()
            ended_by = _crawl(source, policy, ledger_path, watch)
            _require_reached(source, ledger)
        stats = ledger.stats(time.monotonic() - started, ended_by=ended_by)
        ledger.finish_discovery(stats)
        return stats


def _ignore(pages: int, links: int) -> None:
    """Watch nothing."""


def _record(
    ledger: Ledger, links: Iterable[ImageLink], on_progress: Callable[[int, int], None]
) -> None:
    found = ledger.count_links()
    for new in ledger.add_many_links(links):
        found += new
        on_progress(0, found)


def _listed(source: Source) -> Iterator[ImageLink]:
    if source.table:
        raise SourceInvalid(
            f"source {source.name} reads the table {source.table}, whose links were not given"
        )
    for address in source.start:
        yield ImageLink(url=address, page_url="", found_by="url list")


def _start_pages(source: Source) -> Iterator[Page]:
    for address in source.start:
        url = web_address(address)
        if url is None:
            raise SourceInvalid(f"source {source.name} starts at {address!r}, which is no address")
        kind: PageKind = "sitemap" if _SITEMAP_NAME.search(urlsplit(url).path) else "page"
        yield Page(url=url, parent=url, depth=0, kind=kind)


def _crawl(
    source: Source,
    policy: CrawlPolicy,
    ledger_path: Path,
    on_progress: Callable[[int, int], None],
) -> str:
    """Run the spider to its end; return the setting that ended it before all was seen, if one did."""
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
    return str(ending.get("ended_by", ""))


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
            # Closing writes what could not be written to a spider that died at once, and fails so.
            with suppress(BrokenPipeError):
                if process.stdin is not None:
                    process.stdin.close()


def _require_reached(source: Source, ledger: Ledger) -> None:
    """Raise `CrawlFailed` if nothing was read because no start page could be reached."""
    if ledger.stats().pages or ledger.count_links():
        return
    starts = {page.url for page in _start_pages(source)}
    failures: list[Rejected] = [each for each in ledger.rejected() if each.url in starts]
    if failures and all(each.transient for each in failures):
        first = failures[0]
        raise CrawlFailed(
            f"{first.url} cannot be reached ({first.detail}); check the address and the network"
        )
