"""All that a crawl reaches the outside through: one session, one robots.txt cache, one browser."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from crawler.browser import Answer, Browser, Question
from crawler.consent import UNSAID, Consent
from crawler.guard import check_url
from crawler.politeness import HostGates
from crawler.refusals import TRANSPORT_ERRORS, retry_after_s
from crawler.rejections import Reason
from crawler.robots import RobotsCache, RobotsUnreachable
from crawler.settings import MAX_PAGE_BYTES, CrawlPolicy
from crawler.transport import get, open_session, read_body

_PAGE_HEADERS = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    # Pages shrink to a fifth; aiohttp expands them, and read_body() bounds what comes out.
    "Accept-Encoding": "gzip, deflate",
}
_FILE_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
# What is read of an answer to a page request; else it is a file, and its headers say all we want.
_PAGE_TYPES = frozenset({"", "text/html", "application/xhtml+xml"})
_FEED_TYPES = frozenset(
    {
        "text/xml",
        "application/xml",
        "application/rss+xml",
        "application/atom+xml",
        "application/rdf+xml",
    }
)
# A longer wait is not waited for: the page is left to a later run.
_MAX_RETRY_AFTER_S = 300.0
# A transparent GIF of one pixel. Where robots.txt asks for time between requests, a page in the
# browser is shown this for each picture: the fetcher will ask for them, in its own time.
_PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
_STAND_IN = Answer(
    status=200, headers=(("Content-Type", "image/gif"),), body=_PIXEL, stands_in=True
)
# Headers of a page's own requests that are ours to give, or the connection's.
_OURS = frozenset(
    {"user-agent", "accept-encoding", "connection", "host", "content-length", "cookie"}
)


class ForbiddenBySite(Exception):
    """robots.txt forbids it; the consent is the evidence."""

    def __init__(self, consent: Consent) -> None:
        super().__init__("; ".join(f"{each.where} {each.value}" for each in consent.signals))
        self.reason = consent.reason or Reason.ROBOTS_TXT


class ToldToWait(Exception):
    """The server asks to be left alone, for longer than a page is waited for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asks to be left alone for {seconds:.0f} s")


FAILURES = (*TRANSPORT_ERRORS, ForbiddenBySite, RobotsUnreachable, ToldToWait)
"""What keeps a file from coming."""


class Network:
    """The outside, under guard, robots.txt and the policy's limits. Made within a running loop."""

    def __init__(self, policy: CrawlPolicy, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._policy = policy
        self._session = open_session(
            user_agent=policy.user_agent,
            allow_private=allow_private,
            timeout_s=policy.timeout_s,
            connections_per_host=policy.concurrency_per_host,
        )
        self._robots = RobotsCache(
            self._session,
            user_agent=policy.user_agent,
            allow_private=allow_private,
            turn=self._turn,
        )
        self._gates = HostGates(
            concurrency_per_host=policy.concurrency_per_host, delay_s=policy.delay_s
        )
        self._alone_until: dict[str, float] = {}
        """By host, on the monotonic clock: until then it has asked to be left alone."""
        self._met: set[str] = set()
        self.browser = Browser(self._answer, user_agent=policy.user_agent)

    async def close(self) -> None:
        """End the browser and close every connection."""
        try:
            await self.browser.close()
        finally:
            await self._session.close()

    async def permit(self, url: str) -> None:
        """Return if `url` may be requested.

        Raises `AddressForbidden`, `ForbiddenBySite` or `RobotsUnreachable`.
        """
        check_url(url, allow_private=self._allow_private)
        consent = await self._robots.allowed(url)
        if not consent.allowed:
            raise ForbiddenBySite(consent)

    async def sitemaps(self, url: str) -> tuple[str, ...]:
        """Return the sitemaps that the site of `url` names in its robots.txt."""
        return await self._robots.sitemaps(url)

    async def use(self, url: str) -> Consent:
        """Return what the site of `url` says in files of its own about the use of what lies there.

        Files that do not come say nothing.
        """
        try:
            return await self._robots.use(url)
        except FAILURES:
            return UNSAID

    async def page(self, url: str, *, whatever: bool = False) -> Answer:
        """Return the answer to GET `url`, redirects not followed; only a page's or feed's body is read.

        With `whatever`, any body is. The host's turn is waited for, as long as robots.txt and its
        own earlier answers ask. Raises what `permit`, aiohttp and `read_body` raise; `ToldToWait`.
        """
        host = urlsplit(url).netloc.lower()
        async with self._turn(url):
            asked = time.monotonic()
            async with self._session.get(
                # Encoded already: a server may tell %7E from ~.
                URL(url, encoded=True),
                headers=_PAGE_HEADERS,
                allow_redirects=False,
            ) as response:
                self._gates.answered(host, time.monotonic() - asked, well=response.status < 400)
                self._heed(url, response)
                body = b""
                content_type = response.headers.get("Content-Type", "")
                if whatever or is_page(content_type) or is_feed(content_type):
                    body = await read_body(response, max_bytes=MAX_PAGE_BYTES)
                return _answer(response, body)

    async def file(self, url: str, max_bytes: int) -> tuple[str, Answer]:
        """Return where GET `url` led, and the answer there; each hop happens in its host's turn.

        Raises what `permit`, `get` and `read_body` raise; `ToldToWait`.
        """
        async with get(
            self._session,
            url,
            allow_private=self._allow_private,
            headers=_FILE_HEADERS,
            around_hop=self._permitted_turn,
        ) as response:
            self._heed(str(response.url), response)
            answer = _answer(response, await read_body(response, max_bytes=max_bytes))
            return str(response.url), answer

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        """Wait until the host of `url` may be asked, and hold one of its slots."""
        host = urlsplit(url).netloc.lower()
        delay_s = await self._robots.crawl_delay(url)
        if host not in self._met:
            self._met.add(host)
            # Its robots.txt has just been asked for.
            self._gates.delay(host, delay_s)
        while True:
            await self._leave_alone(host)
            async with self._gates.slot(host, crawl_delay_s=delay_s):
                # It may have asked for more time while this one waited for its slot.
                if self._alone_s(host) <= 0:
                    yield
                    return

    @asynccontextmanager
    async def _permitted_turn(self, url: str) -> AsyncIterator[None]:
        await self.permit(url)
        async with self._turn(url):
            yield

    def _alone_s(self, host: str) -> float:
        """Return for how long `host` has asked to be left alone yet; 0 or less: it may be asked."""
        return self._alone_until.get(host, 0.0) - time.monotonic()

    async def _leave_alone(self, host: str) -> None:
        """Wait for as long as `host` has asked; raise `ToldToWait` if that is too long to wait."""
        while (left_s := self._alone_s(host)) > 0:
            if left_s > _MAX_RETRY_AFTER_S:
                raise ToldToWait(left_s)
            await asyncio.sleep(left_s)

    def _heed(self, url: str, response: aiohttp.ClientResponse) -> None:
        """Note if a host asks to be left alone; raise `ToldToWait` if that is too long to wait."""
        if response.status not in {429, 503}:
            return
        asked_s = retry_after_s(response.headers.get("Retry-After", "")) or 0.0
        host = urlsplit(url).netloc.lower()
        self._alone_until[host] = max(self._alone_until.get(host, 0.0), time.monotonic() + asked_s)
        if asked_s > _MAX_RETRY_AFTER_S:
            raise ToldToWait(asked_s)

    async def _answer(self, question: Question) -> Answer | None:
        """Answer a page's own request; None where it is refused or fails, as a page expects of life.

        These come in a burst, as from any visitor: they are held to the connections a host may
        have, and not to the delay between pages; but to the Crawl-delay of a robots.txt that has
        one, and then pictures are not asked for at all.
        """
        headers = {name: value for name, value in question.headers if name.lower() not in _OURS}
        headers["Accept-Encoding"] = "gzip, deflate"
        try:
            if question.for_picture and await self._robots.crawl_delay(question.url):
                await self.permit(question.url)
                return _STAND_IN
            async with self._ask(question, headers) as response:
                self._heed(str(response.url), response)
                return _answer(
                    response, await read_body(response, max_bytes=self._policy.max_bytes)
                )
        except FAILURES:
            return None

    @asynccontextmanager
    async def _ask(
        self, question: Question, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if question.method == "GET":
            async with get(
                self._session,
                question.url,
                allow_private=self._allow_private,
                headers=headers,
                around_hop=self._permitted,
            ) as response:
                yield response
            return
        async with (
            self._permitted(question.url),
            self._session.request(
                question.method,
                URL(question.url, encoded=True),
                headers=headers,
                data=question.body,
                allow_redirects=False,
            ) as response,
        ):
            yield response

    @asynccontextmanager
    async def _permitted(self, url: str) -> AsyncIterator[None]:
        await self.permit(url)
        host = urlsplit(url).netloc.lower()
        if await self._robots.crawl_delay(url):
            async with self._turn(url):
                yield
        else:
            await self._leave_alone(host)
            yield


def is_page(content_type: str) -> bool:
    """Return whether a Content-Type is that of a page; nothing said is taken for one."""
    return _kind(content_type) in _PAGE_TYPES


def is_feed(content_type: str) -> bool:
    """Return whether a Content-Type may be that of a feed or a sitemap."""
    return _kind(content_type) in _FEED_TYPES


def _kind(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    return Answer(status=response.status, headers=tuple(response.headers.items()), body=body)
