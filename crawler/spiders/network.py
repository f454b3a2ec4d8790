"""All that a crawl reaches the outside through: one session, one robots.txt cache, one browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from crawler.browser import Answer, Browser, Question
from crawler.consent import Consent
from crawler.guard import AddressForbidden, check_url
from crawler.politeness import HostGates
from crawler.rejections import Reason
from crawler.robots import RobotsCache, RobotsUnreachable
from crawler.settings import MAX_PAGE_BYTES, CrawlPolicy
from crawler.transport import BodyTooLarge, TooManyRedirects, get, open_session, read_body

_PAGE_HEADERS = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    # Pages shrink to a fifth; aiohttp expands them, and read_body() bounds what comes out.
    "Accept-Encoding": "gzip, deflate",
}
# Headers of a page's own requests that are ours to give, or the connection's.
_OURS = frozenset(
    {"user-agent", "accept-encoding", "connection", "host", "content-length", "cookie"}
)


class ForbiddenBySite(Exception):
    """robots.txt forbids it; the consent is the evidence."""

    def __init__(self, consent: Consent) -> None:
        super().__init__("; ".join(f"{each.where} {each.value}" for each in consent.signals))
        self.reason = consent.reason or Reason.ROBOTS_TXT


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
            self._session, user_agent=policy.user_agent, allow_private=allow_private
        )
        self._gates = HostGates(
            concurrency_per_host=policy.concurrency_per_host, delay_s=policy.delay_s
        )
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

    async def page(self, url: str) -> Answer:
        """Return the answer to GET `url`, redirects not followed; only a page's body is read.

        The host's turn is waited for, as long as robots.txt asks. Raises what `permit`, aiohttp
        and `read_body` raise.
        """
        delay_s = await self._robots.crawl_delay(url)
        host = urlsplit(url).netloc.lower()
        async with (
            self._gates.slot(host, crawl_delay_s=delay_s),
            self._session.get(
                # Encoded already: a server may tell %7E from ~.
                URL(url, encoded=True),
                headers=_PAGE_HEADERS,
                allow_redirects=False,
            ) as response,
        ):
            body = b""
            if _is_page(response.headers.get("Content-Type", "")):
                body = await read_body(response, max_bytes=MAX_PAGE_BYTES)
            return Answer(
                status=response.status, headers=tuple(response.headers.items()), body=body
            )

    async def _answer(self, question: Question) -> Answer | None:
        """Answer a page's own request; None where it is refused or fails, as a page expects of life.

        These come in a burst, as from any visitor: they are held to the connections a host may
        have, and not to the delay between pages.
        """
        headers = {name: value for name, value in question.headers if name.lower() not in _OURS}
        headers["Accept-Encoding"] = "gzip, deflate"
        try:
            async with self._ask(question, headers) as response:
                body = await read_body(response, max_bytes=self._policy.max_bytes)
                return Answer(
                    status=response.status, headers=tuple(response.headers.items()), body=body
                )
        except (
            AddressForbidden,
            BodyTooLarge,
            ForbiddenBySite,
            RobotsUnreachable,
            TooManyRedirects,
            aiohttp.ClientError,
            OSError,
        ):
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
        await self.permit(question.url)
        async with self._session.request(
            question.method,
            URL(question.url, encoded=True),
            headers=headers,
            data=question.body,
            allow_redirects=False,
        ) as response:
            yield response

    @asynccontextmanager
    async def _permitted(self, url: str) -> AsyncIterator[None]:
        await self.permit(url)
        yield


def _is_page(content_type: str) -> bool:
    kind = content_type.split(";", 1)[0].strip().lower()
    return kind in {"", "text/html", "application/xhtml+xml"}
