"""Follow a site's pages and record the pictures that they show."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import scrapy
from scrapy.exceptions import CloseSpider
from scrapy.http import Request, Response
from scrapy.spidermiddlewares.httperror import HttpError

from crawler.addresses import web_address
from crawler.frontier import Frontier
from crawler.guard import AddressForbidden
from crawler.ledger import Ledger, Page
from crawler.pages import ImageLink
from crawler.rejections import CrawlerError, Reason, Rejected
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from crawler.spiders.failures import rejection
from crawler.spiders.network import Network
from crawler.spiders.reading import Holdings, read_response
from crawler.spiders.sheets import StyleSheets
from crawler.transport import BodyTooLarge

if TYPE_CHECKING:
    from twisted.python.failure import Failure

IN_BROWSER = "in_browser"
"""In a request's meta: show the page in the browser."""
RENDERED = "rendered"
"""In a response's meta, if the browser showed the page: what it `Rendered`."""
PAGE = "page"
"""In a request's meta: the `Page` that it is for."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Every story of some sites has a feed of its comments: only what the start pages name is read.
_MAX_FEEDS = 10
# Pages recorded for each that may be visited: enough to choose from, and no disk full of a trap.
_RECORDED_FOR_EACH = 20
_ENDED_BY = {
    "stop_after_known": "stop_after_known",
    "closespider_timeout": "max_minutes",  # Scrapy's own, set in crawler/settings.py
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one spider does, and whom it tells."""

    source: Source
    policy: CrawlPolicy
    ledger: Ledger
    """With the start pages in it; the spider goes on from whatever is still to visit."""
    on_page: Callable[[], None]
    """Called when a page is done."""


class SiteSpider(scrapy.Spider):
    """Visits the pages that the ledger says are still to visit, and those that they lead to.

    The ledger holds what has been seen, so Scrapy's own filter of duplicates is not used. A page is
    done when its links are committed; until then a kill puts it back.
    """

    name = "site"

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._source = job.source
        self._policy = job.policy
        self._ledger = job.ledger
        self._on_page = job.on_page
        self._sites = {_site(address) for address in job.ledger.start_addresses()}
        self._frontier = Frontier(max_pages=job.source.max_pages)
        self.network = Network(job.policy, allow_private=job.source.allow_private)
        self._sheets = StyleSheets(self.network.file, self._refused_sheet)
        self.failure: CrawlerError | None = None
        """What ended the crawl, if it is for the user to mend."""
        self.ended_by = ""
        """The setting that ended the crawl before all was seen."""

    @property
    def pages_left(self) -> int:
        """How many pages were to be visited and are not done."""
        return 0 if self.ended_by else self._frontier.pending

    async def start(self) -> AsyncIterator[Request]:
        """Yield the pages that are still to visit, nearest to the start first, then the sitemaps."""
        for page, brought in self._ledger.pages_done():
            self._frontier.recall(page, brought=brought)
        for request in self._offered(self._ledger.pages_to_visit()):
            yield request
        if self._source.sitemaps and self._source.max_depth:
            for address in self._source.start:
                new = self._ledger.add_pages(await self._sitemaps(address), at_most=self._at_most)
                for request in self._offered(new):
                    yield request

    def closed(self, reason: str) -> None:
        """Note why Scrapy ended the crawl."""
        self.ended_by = _ENDED_BY.get(reason, "")

    def covers(self, request: Request) -> bool:
        """Return whether `request` stays on the crawled sites; a start page may lead anywhere.

        So may robots.txt, when it names a sitemap.
        """
        page: Page = request.meta[PAGE]
        return page.is_start or page.kind == "sitemap" or _site(request.url) in self._sites

    async def read(self, response: Response) -> AsyncIterator[Request]:
        """Record what a page shows, and yield the pages that it leads to."""
        page: Page = response.meta[PAGE]
        if page.is_start:
            self._sites.add(_site(response.url))
        try:
            found = read_response(
                page,
                response,
                user_agent=self._policy.user_agent,
                rendered=response.meta.get(RENDERED),
            )
            if self._needs_browser(found, response):
                yield self._request(page, in_browser=True)
                return
            images = await self._images(found, response.url)
        except BodyTooLarge as error:
            next_requests = self._reject(rejection(page, error), page)
        except Exception as error:  # one strange page must not stop the run
            log.exception("cannot read %s", response.url)
            next_requests = self._reject(_unreadable(page, error), page)
        else:
            next_requests = self._finish(page, response, found, images)
        for request in next_requests:
            yield request

    def refused(self, failure: Failure) -> Iterator[Request]:
        """Record why a page did not come."""
        page: Page = failure.request.meta[PAGE]  # type: ignore[attr-defined]  # set by Scrapy
        error = failure.value
        if isinstance(error, CrawlerError):
            self.failure = error
            raise CloseSpider("failed")
        if page.kind == "sitemap" and isinstance(error, HttpError):
            # Most sites have none, and nobody has asked for it: no row.
            yield from self._finish(page, error.response, Holdings(), ())
        else:
            yield from self._reject(rejection(page, error), page)

    async def _sitemaps(self, address: str) -> list[Page]:
        try:
            named = await self.network.sitemaps(address)
        except AddressForbidden:
            return []  # the start page's own row says so
        urls = (web_address(urljoin(address, each)) for each in named or ("/sitemap.xml",))
        return [_sitemap(url, address) for url in urls if url is not None]

    def _request(self, page: Page, *, in_browser: bool = False) -> Request:
        return Request(
            page.url,
            callback=self.read,
            errback=self.refused,
            dont_filter=True,
            priority=-page.depth,
            meta={PAGE: page, IN_BROWSER: in_browser or self._source.browser == "always"},
        )

    def _offered(self, pages: list[Page]) -> Iterator[Request]:
        """Yield requests for those of `pages` that may be visited now."""
        for page in pages:
            if self._frontier.offer(page):
                yield self._request(page)

    def _needs_browser(self, found: Holdings, response: Response) -> bool:
        return (
            self._source.browser == "auto" and not response.meta[IN_BROWSER] and found.wants_browser
        )

    async def _images(self, found: Holdings, url: str) -> tuple[ImageLink, ...]:
        """Return a page's pictures, with those of its style sheets, under all that was said."""
        known = {image.url for image in found.images} | found.passed_over
        in_sheets = await self._sheets.pictures(found.style_sheets, page_url=url)
        images = list(found.images)
        images += (
            ImageLink(
                url=picture,
                page_url=url,
                found_by="css",
                page_title=found.title,
                consent=found.consent,
            )
            for picture in in_sheets
            if picture not in known
        )
        return tuple([await self._under_consent(image, url) for image in images])

    async def _under_consent(self, image: ImageLink, page_url: str) -> ImageLink:
        """Return `image` with what the site's own files say about its page, and about itself.

        Other hosts are asked when it is fetched.
        """
        said = await self.network.use(page_url)
        if _site(image.url) == _site(page_url):
            said = said.merge(await self.network.use(image.url))
        if said.allowed:
            return image
        return dataclasses.replace(image, consent=image.consent.merge(said))

    def _leads_to(self, page: Page, found: Holdings) -> Iterator[Page]:
        for url in found.page_links:
            depth = page.depth if url in found.next_pages else page.depth + 1
            if (
                depth <= self._source.max_depth
                and _site(url) in self._sites
                and self._source.wants_page(url)
            ):
                yield Page(url=url, parent=page.url, depth=depth)
        if page.is_start:
            for url in found.feeds[:_MAX_FEEDS]:
                if _site(url) in self._sites and self._source.wants_page(url):
                    yield Page(url=url, parent=page.url, depth=page.depth, kind="feed")
        for url in found.sitemaps:
            yield _sitemap(url, page.url)

    @property
    def _at_most(self) -> int:
        return _RECORDED_FOR_EACH * self._source.max_pages

    def _finish(
        self, page: Page, response: Response, found: Holdings, images: tuple[ImageLink, ...]
    ) -> Iterator[Request]:
        finished = self._ledger.finish_page(
            page,
            final_url=response.url,
            links=images,
            leads_to=self._leads_to(page, found),
            at_most=self._at_most,
            browser=bool(response.meta[IN_BROWSER]),
        )
        self._on_page()
        enough = self._source.stop_after_known
        if enough is not None and finished.known_in_a_row >= enough:
            raise CloseSpider("stop_after_known")
        for waited in self._frontier.done(page, brought=finished.new_links):
            yield self._request(waited)
        yield from self._offered(list(finished.new_pages))

    def _reject(self, rejected: Rejected, page: Page) -> Iterator[Request]:
        self._ledger.reject_page(rejected)
        self._on_page()
        for waited in self._frontier.done(page, brought=0):
            yield self._request(waited)

    def _refused_sheet(self, url: str, page_url: str, error: Exception) -> None:
        sheet = Page(url=url, parent=page_url, depth=0)
        self._ledger.add_rejected([rejection(sheet, error)])


def _unreadable(page: Page, error: Exception) -> Rejected:
    return Rejected(
        url=page.url,
        page_url=page.parent,
        reason=Reason.CORRUPT,
        detail=f"its HTML cannot be read: {error!r}",
    )


def _sitemap(url: str, parent: str) -> Page:
    return Page(url=url, parent=parent, depth=0, kind="sitemap")


def _site(url: str) -> str:
    """Return what pages of the same site share: host and port, `www.` aside.

    Not the registrable domain: under one university, or one host of shops, live many sites.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.")
    try:
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # beyond 65535: nobody's
        return url
    # One site, whether a link says http or https.
    return host if port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"
