"""Scrapy's way to a page: our own guarded session, and the browser where a request asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.http import HtmlResponse, Request, Response

from crawler.ledger import Page
from crawler.spiders.reading import as_scrapy
from crawler.spiders.site import IN_BROWSER, PAGE, RENDERED, SiteSpider

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class PageDownloads(BaseDownloadHandler):
    """Downloads through the spider's `Network`; redirects and retries stay Scrapy's."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        spider = crawler.spider
        if not isinstance(spider, SiteSpider):
            raise TypeError(f"{type(self).__name__} serves SiteSpider alone, not {spider!r}")
        self._network = spider.network

    async def download_request(self, request: Request) -> Response:
        """Return the page, shown by the browser where the request asks for it."""
        page: Page = request.meta[PAGE]
        answer = await self._network.page(request.url, whatever=page.kind != "page")
        response = as_scrapy(request.url, answer.status, answer.headers, answer.body)
        if not (
            request.meta.get(IN_BROWSER)
            and answer.status == 200
            and isinstance(response, HtmlResponse)
        ):
            return response
        rendered = await self._network.browser.render(request.url, answer)
        request.meta[RENDERED] = rendered
        return response.replace(body=rendered.html.encode("utf-8"), encoding="utf-8")

    async def close(self) -> None:
        """Close the network; both schemes share it, and closing it twice is harmless."""
        await self._network.close()
