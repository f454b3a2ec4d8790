"""Scrapy's way out: nothing is scheduled for download that the guard or the site forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy.http import Request

from crawler.spiders.failures import LedElsewhere
from crawler.spiders.site import SiteSpider

if TYPE_CHECKING:
    from typing import Self

    from scrapy.crawler import Crawler


class GateMiddleware:
    """Checks every page request, redirects and retries included, before it is made."""

    def __init__(self, spider: SiteSpider) -> None:
        self._spider = spider

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Make the gate of the crawler's spider."""
        spider = crawler.spider
        if not isinstance(spider, SiteSpider):
            raise TypeError(f"{cls.__name__} serves SiteSpider alone, not {spider!r}")
        return cls(spider)

    async def process_request(self, request: Request) -> None:
        """Return to let `request` pass; raise why not."""
        if not self._spider.covers(request):
            raise LedElsewhere(f"leads off the site, to {request.url}")
        await self._spider.network.permit(request.url)
