"""Where pictures are looked for: a site to follow, or a list of addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from crawler.rejections import CrawlerError

_NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")


class SourceInvalid(CrawlerError):
    """A source that contradicts itself, or a policy that does not permit it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place to crawl. Raises `SourceInvalid` when it cannot mean anything."""

    name: str
    """Lower-case letters, digits and hyphens: it becomes part of keys and file names."""
    start: tuple[str, ...] = ()
    """Page, feed or sitemap addresses; for kind `urls`, picture addresses.

    Pages are followed on the hosts of the start pages, with and without `www.`; of another host of
    the same owner, name a page here. Pictures may lie anywhere.
    """
    table: str = ""
    """For kind `urls`: a file of picture addresses, or `s3://bucket/key`, instead of `start`."""
    url_column: str = ""
    """The column of `table` that holds the addresses, where its name does not say so."""
    kind: Literal["site", "urls"] = "site"
    browser: Literal["never", "auto", "always"] = "never"
    """`auto`: only where the page as served shows too little, and carries a script that may show more."""
    allow: tuple[str, ...] = ()
    """Regexes searched in page addresses; when given, a page must match one of them."""
    deny: tuple[str, ...] = ()
    """Regexes searched in page addresses; a page that matches one is not visited."""
    max_depth: int = 8
    """Links followed from a start page, at most; `rel=next` leads no deeper."""
    max_pages: int = 1000
    """Pages asked for, at most, those that fail included."""
    max_minutes: float | None = None
    """Ends a crawl that takes longer; one that is killed and gone on with has the time again."""
    stop_after_known: int | None = None
    """Ends a crawl that has met so many pictures in a row that earlier runs have kept."""
    sitemaps: bool = True
    """Read the start hosts' sitemaps too: those that robots.txt names, else /sitemap.xml."""
    allow_private: bool = False
    """Permit loopback and private addresses."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SourceInvalid(
                f"source name {self.name!r} should be lower-case letters, digits and hyphens"
            )
        if self.table and self.kind != "urls":
            raise SourceInvalid(
                f"source {self.name} has a table, which kind {self.kind!r} does not read; "
                "set kind to 'urls'"
            )
        if not self.start and not self.table:
            raise SourceInvalid(f"source {self.name} has no start address; give at least one")
        for address in self.start:
            picture_data = self.kind == "urls" and address.lower().startswith("data:")
            if not picture_data and not _is_web_address(address):
                raise SourceInvalid(
                    f"source {self.name} starts at {address!r}, which is no http(s) address"
                )
        for pattern in (*self.allow, *self.deny):
            try:
                re.compile(pattern)
            except re.error as error:
                raise SourceInvalid(
                    f"source {self.name} has a pattern {pattern!r} that is no regex: {error}"
                ) from None
        if self.max_depth < 0 or self.max_pages < 1:
            raise SourceInvalid(
                f"source {self.name} needs max_depth >= 0 and max_pages >= 1, "
                f"not {self.max_depth} and {self.max_pages}"
            )

        for name in ("max_minutes", "stop_after_known"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SourceInvalid(f"source {self.name} needs {name} > 0, not {value}")

    def wants_page(self, url: str) -> bool:
        """Return whether `allow` and `deny` let a page at `url` be visited."""
        if any(re.search(pattern, url) for pattern in self.deny):
            return False
        return not self.allow or any(re.search(pattern, url) for pattern in self.allow)


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
