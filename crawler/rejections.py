"""Why something was not taken, in one vocabulary for pages, links and images; and the room's errors.

What a site does wrong becomes a `Rejected` row and never stops a run. Only what no rerun can mend
is raised to the user:

    CrawlerError             one sentence: what, which, and what to do
    |-- SourceInvalid        a source or policy that contradicts itself (crawler/sources.py)
    |-- CrawlFailed          the site cannot be reached, or the crawl broke down (crawler/discover.py)
    |-- TableUnreadable      a table of addresses that is none (crawler/table_rows.py)
    |-- ArchiveUnreadable    nothing to import (crawler/archive.py)
    `-- BrowserMissing       no Chromium for a source that needs one (crawler/browser.py)

    ImageRejected            raised by decoding, caught where rows are made
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a page, a link or an image was rejected; the value is what tables and reports show."""

    # Forbidden by the site.
    ROBOTS_TXT = "robots_txt"
    X_ROBOTS_TAG = "x_robots_tag"
    META_ROBOTS = "meta_robots"
    TDMREP = "tdmrep"
    AIPREF = "aipref"
    # Forbidden by the file itself.
    IPTC = "iptc"
    C2PA = "c2pa"
    # Forbidden by the guard: not public, a wrong scheme, a user name in the address.
    ADDRESS_FORBIDDEN = "address_forbidden"
    # A row of a table of addresses that holds none.
    BAD_ROW = "bad_row"
    # It did not come.
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    CONNECTION_FAILED = "connection_failed"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    # It came, and is not a picture that can be used.
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    SVG = "svg"
    TOO_SMALL = "too_small"
    TOO_MANY_PIXELS = "too_many_pixels"
    CORRUPT = "corrupt"
    DECODER_CRASHED = "decoder_crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A page or picture that was not taken, and why."""

    url: str
    page_url: str
    """The page that led to it; for a page that was asked for first, its own address."""
    reason: Reason
    detail: str
    """One line for people: what was seen, and where."""
    transient: bool = False
    """A later run may succeed."""
    sha256: str | None = None
    """Of the bytes, hex, when there were any."""


class CrawlerError(Exception):
    """An error for the user, in one sentence that says what, which and what to do."""


class ImageRejected(Exception):
    """Bytes that do not become a picture, with the reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        # Both go to Exception, so that it survives pickling between the decoding processes.
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
