"""Follow a site's pages and record the pictures that they show."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import scrapy
from scrapy.exceptions import IgnoreRequest
from scrapy.http import HtmlResponse, Request, Response
from scrapy.spidermiddlewares.httperror import HttpError

from crawler.addresses import web_address
from crawler.browser import PageBroken
from crawler.consent import consent_from_headers
from crawler.guard import AddressForbidden
from crawler.ledger import Ledger, Page
from crawler.pages import ImageLink, PageContent, read_page
from crawler.rejections import CrawlerError, Reason, Rejected
from crawler.robots import RobotsUnreachable
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from crawler.spiders.network import ForbiddenBySite, Network
from crawler.transport import BodyTooLarge

if TYPE_CHECKING:
    from twisted.python.failure import Failure

IN_BROWSER = "in_browser"
"""In a request's meta: show the page in the browser."""
LOADED = "loaded_pictures"
"""In a response's meta, if the browser showed it: the addresses it loaded as pictures."""
_PAGE = "page"
# Statuses that a later run may find mended.
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_DEFAULT_PORTS = {"http": 80, "https": 443}

log = logging.getLogger(__name__)


class LedElsewhere(IgnoreRequest):
    """A redirect leaves the sites that are crawled."""


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
        self.network = Network(job.policy, allow_private=job.source.allow_private)
        self.failure: CrawlerError | None = None
        """What ended the crawl, if it is for the user to mend."""

    async def start(self) -> AsyncIterator[Request]:
        """Yield the pages that are still to visit, nearest to the start first."""
        for page in self._ledger.pages_to_visit():
            yield self._request(page)

    def covers(self, request: Request) -> bool:
        """Return whether `request` stays on the crawled sites; a start page may lead anywhere."""
        page: Page = request.meta[_PAGE]
        return page.depth == 0 or _site(request.url) in self._sites

    def read(self, response: Response) -> Iterator[Request]:
        """Record what a page shows, and yield the pages that it leads to."""
        page: Page = response.meta[_PAGE]
        if page.depth == 0:
            self._sites.add(_site(response.url))
        headers = _pairs(response)
        images: tuple[ImageLink, ...] = ()
        leads_to: tuple[str, ...] = ()
        if isinstance(response, HtmlResponse):
            content = self._content(page, response, headers)
            if content is None:
                return
            if self._needs_browser(content, response):
                yield self._request(page, in_browser=True)
                return
            images = (*content.images, *_only_loaded(content, response))
            leads_to = content.page_links
        elif _is_picture(response):
            images = (self._picture_itself(page, response, headers),)
        yield from self._finish(page, response, images, leads_to)

    def refused(self, failure: Failure) -> None:
        """Record why a page did not come."""
        page: Page = failure.request.meta[_PAGE]  # type: ignore[attr-defined]  # set by Scrapy
        error = failure.value
        if isinstance(error, CrawlerError):
            self.failure = error
            raise scrapy.exceptions.CloseSpider("failed")
        reason, detail, transient = _why(error)
        self._reject(page, reason, detail, transient=transient)

    def _request(self, page: Page, *, in_browser: bool = False) -> Request:
        return Request(
            page.url,
            callback=self.read,
            errback=self.refused,
            dont_filter=True,
            priority=-page.depth,
            meta={_PAGE: page, IN_BROWSER: in_browser or self._source.browser == "always"},
        )

    def _content(
        self, page: Page, response: HtmlResponse, headers: list[tuple[str, str]]
    ) -> PageContent | None:
        try:
            return read_page(
                response.text, response.url, headers=headers, user_agent=self._policy.user_agent
            )
        except Exception as error:  # one strange page must not stop the run
            log.exception("cannot read %s", response.url)
            self._reject(page, Reason.CORRUPT, f"its HTML cannot be read: {error!r}")
            return None

    def _needs_browser(self, content: PageContent, response: Response) -> bool:
        return (
            self._source.browser == "auto"
            and not response.meta[IN_BROWSER]
            and not content.images
            and content.has_script
        )

    def _picture_itself(
        self, page: Page, response: Response, headers: list[tuple[str, str]]
    ) -> ImageLink:
        """Return the link for a page that turned out to be a picture."""
        consent = consent_from_headers(
            headers, url=response.url, user_agent=self._policy.user_agent
        )
        return ImageLink(
            url=response.url, page_url=page.parent, found_by="a[href]", consent=consent
        )

    def _finish(
        self,
        page: Page,
        response: Response,
        images: tuple[ImageLink, ...],
        leads_to: tuple[str, ...],
    ) -> Iterator[Request]:
        wanted = (
            Page(url=url, parent=page.url, depth=page.depth + 1)
            for url in leads_to
            if page.depth < self._source.max_depth
            and _site(url) in self._sites
            and self._source.wants_page(url)
        )
        new = self._ledger.finish_page(
            page,
            final_url=response.url,
            links=images,
            leads_to=wanted,
            max_pages=self._source.max_pages,
            browser=LOADED in response.meta,
        )
        self._on_page()
        for found in new:
            yield self._request(found)

    def _reject(self, page: Page, reason: Reason, detail: str, *, transient: bool = False) -> None:
        self._ledger.reject_page(
            Rejected(
                url=page.url,
                page_url=page.parent,
                reason=reason,
                detail=detail,
                transient=transient,
            )
        )
        self._on_page()


def _why(error: BaseException | None) -> tuple[Reason, str, bool]:
    """Return the reason for which a page did not come, in words, and whether that may pass."""
    said = str(error) or type(error).__name__
    match error:
        case HttpError():
            status = error.response.status
            return Reason.HTTP_ERROR, f"HTTP {status}", status in _TRANSIENT_STATUSES
        case ForbiddenBySite():
            return error.reason, said, False
        case RobotsUnreachable():
            return error.reason, said, True
        case AddressForbidden() | LedElsewhere():
            return Reason.ADDRESS_FORBIDDEN, said, False
        case IgnoreRequest():  # Scrapy's redirect middleware: the only one left that raises it
            return Reason.TOO_MANY_REDIRECTS, said, False
        case BodyTooLarge():
            return Reason.TOO_LARGE, said, False
        case TimeoutError():
            return Reason.TIMEOUT, "no answer in time", True
        case aiohttp.ClientPayloadError():
            return Reason.TRUNCATED, said, True
        case aiohttp.ClientConnectionError() | OSError() | PageBroken():
            return Reason.CONNECTION_FAILED, said, True
        case aiohttp.ClientError():
            return Reason.HTTP_ERROR, f"not an HTTP answer: {said}", False
    log.error("unforeseen failure of a page", exc_info=error)
    return Reason.CONNECTION_FAILED, f"unforeseen: {error!r}", True


def _only_loaded(content: PageContent, response: Response) -> Iterator[ImageLink]:
    """Yield the pictures that the browser loaded and the HTML does not show."""
    known = {image.url for image in content.images} | content.passed_over
    for loaded in response.meta.get(LOADED, ()):
        url = web_address(loaded)
        if url is not None and url not in known:
            yield ImageLink(
                url=url,
                page_url=response.url,
                found_by="browser",
                page_title=content.title,
                consent=content.consent,
            )


def _pairs(response: Response) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]


def _is_picture(response: Response) -> bool:
    kind = response.headers.get("Content-Type") or b""
    return kind.strip().lower().startswith(b"image/")


def _site(url: str) -> str:
    """Return what pages of the same site share: host and port, `www.` aside."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    # One site, whether a link says http or https.
    return host if port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"
