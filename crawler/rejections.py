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
    """The site's robots.txt forbids it."""
    X_ROBOTS_TAG = "x_robots_tag"
    """A header of the page or picture forbids indexing it."""
    META_ROBOTS = "meta_robots"
    """A meta tag of the page forbids indexing its pictures."""
    TDMREP = "tdmrep"
    """Rights for text and data mining are reserved (TDMRep)."""
    AIPREF = "aipref"
    """A `Content-Usage` or `Content-Signal` preference forbids it."""
    # Forbidden by the file itself.
    IPTC = "iptc"
    """The file's IPTC data mining field forbids it."""
    C2PA = "c2pa"
    """The file's C2PA manifest says not to train on it."""
    # Forbidden by the guard: not public, a wrong scheme, a user name in the address.
    ADDRESS_FORBIDDEN = "address_forbidden"
    """The address is not public, of another scheme, or holds a user name."""
    # A row of a table of addresses that holds none.
    BAD_ROW = "bad_row"
    """A row of a table of addresses holds none."""
    # It did not come.
    HTTP_ERROR = "http_error"
    """The server answered with an error."""
    TIMEOUT = "timeout"
    """It did not come in time."""
    CONNECTION_FAILED = "connection_failed"
    """The server could not be reached."""
    TOO_MANY_REDIRECTS = "too_many_redirects"
    """It was passed on too often."""
    # It came, and is not a picture that can be used.
    TOO_LARGE = "too_large"
    """More bytes than `max_bytes`."""
    TRUNCATED = "truncated"
    """The file ends before the picture does."""
    NOT_AN_IMAGE = "not_an_image"
    """The bytes are no picture."""
    UNSUPPORTED_FORMAT = "unsupported_format"
    """A format that is not decoded."""
    SVG = "svg"
    """A drawing, not a photograph."""
    TOO_SMALL = "too_small"
    """A side is shorter than `min_side`."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """More pixels than `max_pixels`."""
    CORRUPT = "corrupt"
    """It does not decode."""
    DECODER_CRASHED = "decoder_crashed"
    """The process that decoded it died of it."""


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
