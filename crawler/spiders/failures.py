"""Why a page did not come, as a row says it."""

from __future__ import annotations

import logging

import aiohttp
from scrapy.exceptions import IgnoreRequest
from scrapy.spidermiddlewares.httperror import HttpError

from crawler.browser import PageBroken
from crawler.guard import AddressForbidden
from crawler.ledger import Page
from crawler.rejections import Reason, Rejected
from crawler.robots import RobotsUnreachable
from crawler.spiders.network import ForbiddenBySite, ToldToWait
from crawler.transport import BodyTooLarge, TooManyRedirects

# Statuses that a later run may find mended.
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})

log = logging.getLogger(__name__)


class LedElsewhere(IgnoreRequest):
    """A redirect leaves the sites that are crawled."""


def rejection(page: Page, error: BaseException | None) -> Rejected:
    """Return the row for a page, feed, sitemap or style sheet that `error` kept from coming."""
    reason, detail, transient = _why(error)
    return Rejected(
        url=page.url, page_url=page.parent, reason=reason, detail=detail, transient=transient
    )


def _why(error: BaseException | None) -> tuple[Reason, str, bool]:
    """Return the reason, in words, and whether it may pass."""
    said = str(error) or type(error).__name__
    match error:
        case HttpError():
            status = error.response.status
            return Reason.HTTP_ERROR, f"HTTP {status}", status in _TRANSIENT_STATUSES
        case ToldToWait():
            return Reason.HTTP_ERROR, said, True
        case ForbiddenBySite():
            return error.reason, said, False
        case RobotsUnreachable():
            return error.reason, said, True
        case AddressForbidden() | LedElsewhere():
            return Reason.ADDRESS_FORBIDDEN, said, False
        case TooManyRedirects():
            return Reason.TOO_MANY_REDIRECTS, said, False
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
