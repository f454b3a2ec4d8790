"""How politely and how much is fetched, and the same as Scrapy's settings."""

from __future__ import annotations

import functools
import importlib.metadata
import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from crawler.consent import PRODUCT
from crawler.sources import Source, SourceInvalid

MAX_PAGE_BYTES = 10_000_000
"""A page beyond this is a generated listing without end, or no page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlPolicy:
    """The limits of one crawl. Raises `SourceInvalid` when they contradict themselves."""

    contact: str = ""
    """A web or mail address where a site's owner reaches whoever crawls; part of the user agent."""
    concurrency_per_host: int = 4
    delay_s: float = 0.25
    """Least time between two requests to a host; robots.txt may ask for more."""
    timeout_s: float = 30
    """Longest silence of a server, and longest wait for a connection."""
    max_bytes: int = 30_000_000
    """Of one picture."""
    max_pixels: int = 100_000_000
    min_side: int = 64
    """Pixels; a picture with a shorter side is rejected."""

    def __post_init__(self) -> None:
        at_least_one = (self.concurrency_per_host, self.max_bytes, self.max_pixels, self.min_side)
        if min(at_least_one) < 1 or self.delay_s < 0 or self.timeout_s <= 0:
            raise SourceInvalid(f"a limit is out of range: {self}")
        if not self.contact.isprintable():
            raise SourceInvalid(f"contact {self.contact!r} should be one line of plain text")

    @property
    def user_agent(self) -> str:
        """The User-Agent header: who we are, and where to complain."""
        contact = f" (+{self.contact})" if self.contact else ""
        return f"{PRODUCT}/{_version()}{contact}"


def require_contact(source: Source, policy: CrawlPolicy) -> None:
    """Raise `SourceInvalid` if a site of other people would be crawled anonymously."""
    if policy.contact:
        return
    for address in source.start:
        host = urlsplit(address).hostname
        if host is not None and not _is_loopback(host):
            raise SourceInvalid(
                f"source {source.name} would visit {host} anonymously; set contact to a web or "
                "mail address where its owner can reach you"
            )


def scrapy_settings(source: Source, policy: CrawlPolicy) -> dict[str, Any]:
    """Return Scrapy's settings for one source: polite, bounded, and with nothing left listening.

    Raises `SourceInvalid` if the policy has no contact and the source is not on loopback.
    """
    require_contact(source, policy)
    downloads = "crawler.spiders.downloads.PageDownloads"
    return {
        "USER_AGENT": policy.user_agent,
        # Obeyed by our gate, which stands in for Scrapy's middleware: that one takes an unreachable
        # robots.txt for permission, and RFC 9309 takes it for a refusal.
        "ROBOTSTXT_OBEY": True,
        "ROBOTSTXT_USER_AGENT": PRODUCT,
        "DOWNLOADER_MIDDLEWARES": {
            "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
            "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
            "crawler.spiders.gate.GateMiddleware": 100,
        },
        "DOWNLOAD_HANDLERS": {"http": downloads, "https": downloads, "ftp": None, "s3": None},
        # Politeness is crawler/politeness.py's, for pages as for whatever else is asked for: Scrapy
        # must not add a delay of its own, and only see to it that no host takes all places.
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": 16,
        # First found, first asked for: feeds and lists have the newest first.
        "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue",
        "CONCURRENT_REQUESTS_PER_DOMAIN": policy.concurrency_per_host,
        # Bounds.
        "DOWNLOAD_TIMEOUT": policy.timeout_s,
        "DOWNLOAD_MAXSIZE": MAX_PAGE_BYTES,
        "CLOSESPIDER_TIMEOUT": 60 * (source.max_minutes or 0),  # 0: it may take as long as it does
        "REDIRECT_MAX_TIMES": 8,
        "RETRY_TIMES": 2,
        "RETRY_EXCEPTIONS": [
            "aiohttp.ClientConnectionError",
            "aiohttp.ClientPayloadError",
            OSError,  # TimeoutError among them
        ],
        # aiohttp has decoded the body by the time Scrapy sees it.
        "COMPRESSION_ENABLED": False,
        # No memory of us on their side, no proxy that would look names up behind the guard's back.
        "COOKIES_ENABLED": False,
        "HTTPPROXY_ENABLED": False,
        # Nothing listens, and nothing runs what another process sends.
        "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False,
        "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
        # Errors go to the ledger; the log is for what nobody foresaw.
        "LOG_LEVEL": "WARNING",
        "RETRY_GIVE_UP_LOG_LEVEL": "INFO",
        "STATS_DUMP": False,
        "LOGSTATS_INTERVAL": 0,
    }


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version(PRODUCT)
    except importlib.metadata.PackageNotFoundError:
        return "0"  # run from a checkout that was never installed


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
