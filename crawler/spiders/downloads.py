"""Scrapy's way to a page: our own guarded session, and the browser where a request asks for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.http import HtmlResponse, Request, Response

from crawler.browser import Answer
from crawler.spiders.site import IN_BROWSER, LOADED, SiteSpider

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class PageDownloads(BaseDownloadHandler):
    """Downloads through the spider's `Network`; redirects, retries and delays stay Scrapy's."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        spider = crawler.spider
        if not isinstance(spider, SiteSpider):
            raise TypeError(f"{type(self).__name__} serves SiteSpider alone, not {spider!r}")
        self._network = spider.network

    async def download_request(self, request: Request) -> Response:
        """Return the page, shown by the browser where the request asks for it."""
        started = time.monotonic()
        answer = await self._network.page(request.url)
        # What AutoThrottle steers by: the server's time, not the browser's.
        request.meta["download_latency"] = time.monotonic() - started
        if not (request.meta.get(IN_BROWSER) and answer.status == 200 and answer.body):
            return _response(request, answer)
        rendered = await self._network.browser.render(request.url, answer)
        request.meta[LOADED] = rendered.pictures
        return _response(request, answer).replace(
            body=rendered.html.encode("utf-8"), encoding="utf-8"
        )

    async def close(self) -> None:
        """Close the network; both schemes share it, and closing it twice is harmless."""
        await self._network.close()


def _response(request: Request, answer: Answer) -> Response:
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    kind = HtmlResponse if answer.body else Response
    return kind(request.url, status=answer.status, headers=headers, body=answer.body)
