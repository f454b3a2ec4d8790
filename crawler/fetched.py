"""What comes of fetching: the original bytes, or word that nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crawler.consent import Consent
from crawler.pages import ImageLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server said about a body's version; sent back, it may answer that nothing changed."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A body as the server has it, and where it came from."""

    link: ImageLink
    data: bytes
    sha256: str
    """Of `data`, hex."""
    final_url: str
    """After redirects."""
    content_type: str
    """As the server said, without parameters; not to be trusted."""
    etag: str
    last_modified: str
    fetched_at: datetime
    """In UTC."""
    consent: Consent
    """What page, robots.txt and response header said, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The server says that the body is the one already known (304)."""

    link: ImageLink
