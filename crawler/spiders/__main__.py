"""`python -m crawler.spiders`: crawl one source in this process; `crawler.discover` starts it.

A reactor runs once in a process, hence a process for each crawl. The job comes as one line of JSON
on stdin; stdout gets one line of JSON after each page, and a last one that says how it ended. Stdin
stays open as a lifeline: when it closes, whoever wanted the result is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from scrapy.crawler import AsyncCrawlerProcess

from crawler.ledger import Ledger
from crawler.settings import CrawlPolicy, scrapy_settings
from crawler.sources import Source
from crawler.spiders.site import Job, SiteSpider


def main() -> None:
    """Crawl what stdin says."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    lists = {name: tuple(each) for name, each in order["source"].items() if isinstance(each, list)}
    source = Source(**{**order["source"], **lists})
    policy = CrawlPolicy(**order["policy"])
    with Ledger(Path(order["ledger"])) as ledger:

        def report() -> None:
            stats = ledger.stats()
            _say({"pages": stats.pages + stats.rejected_pages, "links": stats.links})

        process = AsyncCrawlerProcess(scrapy_settings(source, policy))
        crawler = process.create_crawler(SiteSpider)
        process.crawl(crawler, job=Job(source=source, policy=policy, ledger=ledger, on_page=report))
        process.start()
        if isinstance(crawler.spider, SiteSpider):
            _say(_ending(crawler.spider))


def _ending(spider: SiteSpider) -> dict[str, int | str]:
    if spider.failure is not None:
        return {"failed": str(spider.failure)}
    return {"left": spider.pages_left, "ended_by": spider.ended_by}


def _say(said: dict[str, int | str]) -> None:
    print(json.dumps(said), flush=True)


def _die_with_parent() -> None:
    sys.stdin.read()
    # At once, as a kill would: the ledger is made for that, and Chromium ends with its pipe.
    os._exit(1)


if __name__ == "__main__":
    main()
