"""What a page in the browser asks for: answered by the caller, who applies guard and robots.txt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:  # half a second, which sources without a browser do not have to spend
    from playwright.async_api import Request, Route

# A page is quiet when no request has been under way for so long; a script that waits longer before
# it asks for more is not waited for.
_QUIET_S = 0.5
# Counting pixels are 43 to 95 bytes.
_MIN_PICTURE_BYTES = 128
_NOT_NEEDED = frozenset({"font", "media", "texttrack", "websocket", "eventsource", "ping"})
# The largest advertisers and counters, and no more: a longer list would need someone to keep it.
# What they show is no picture of the site, and they are most of what a page asks for beyond it.
_ADVERTISERS = (
    "adnxs.com",
    "adsrvr.org",
    "amazon-adsystem.com",
    "bat.bing.com",
    "clarity.ms",
    "connect.facebook.net",
    "criteo.com",
    "criteo.net",
    "doubleclick.net",
    "google-analytics.com",
    "googlesyndication.com",
    "googletagmanager.com",
    "googletagservices.com",
    "hotjar.com",
    "moatads.com",
    "openx.net",
    "outbrain.com",
    "pubmatic.com",
    "quantserve.com",
    "rubiconproject.com",
    "scorecardresearch.com",
    "taboola.com",
)
# aiohttp has undone the transfer's encodings by now.
_HEADERS_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A server's answer, or what stands for it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stands_in: bool = False
    """Nobody was asked: the page is told that there is a picture, and may go on."""

    def header(self, name: str) -> str:
        """Return the first value of a header, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


_STAY = Answer(status=204, headers=(), body=b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that a page wants to make."""

    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    for_picture: bool = False
    """Whether it is for something that is shown as a picture."""


def is_advertiser(url: str) -> bool:
    """Return whether an address belongs to one of a few well-known advertisers and counters."""
    host = (urlsplit(url).hostname or "").lower()
    return any(host == known or host.endswith(f".{known}") for known in _ADVERTISERS)


@dataclass  # without slots: Playwright leaves a mark on whatever handles its routes
class Traffic:
    """Answers a page's requests and knows when it has come to rest."""

    answer: Callable[[Question], Awaitable[Answer | None]]
    document: Answer
    pictures: dict[str, None] = field(default_factory=dict)
    """What was loaded as a picture, as the page asked for it; an ordered set."""
    _served_document: bool = False
    _under_way: int = 0
    _started: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, route: Route, request: Request) -> None:
        """Answer one request of the page."""
        from playwright.async_api import Error as PlaywrightError

        self._under_way += 1
        self._started += 1
        self._idle.clear()
        try:
            answer = await self._answer_to(request)
            if answer is None:
                await route.abort("blockedbyclient")
                return
            headers = {
                name: value
                for name, value in answer.headers
                if name.lower() not in _HEADERS_OF_THE_TRANSFER
            }
            await route.fulfill(status=answer.status, headers=headers, body=answer.body)
            if (
                request.resource_type == "image"
                and 200 <= answer.status < 300
                and (answer.stands_in or len(answer.body) >= _MIN_PICTURE_BYTES)
            ):
                self.pictures[request.url] = None
        except PlaywrightError:
            pass  # the page was closed before its answer came; nobody waits for it any more
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def come_to_rest(self) -> None:
        """Return once nothing has been requested for a moment."""
        while True:
            started = self._started
            await self._idle.wait()
            await asyncio.sleep(_QUIET_S)
            if self._idle.is_set() and self._started == started:
                return

    async def _answer_to(self, request: Request) -> Answer | None:
        if request.resource_type in _NOT_NEEDED or is_advertiser(request.url):
            return None
        if request.is_navigation_request() and request.frame.parent_frame is None:
            # The page that was asked for, once. A script that leads elsewhere gets an answer on
            # which browsers stay where they are; refused, they would show an error page instead.
            if self._served_document:
                return _STAY
            self._served_document = True
            return self.document
        return await self.answer(
            Question(
                url=request.url,
                method=request.method,
                headers=tuple(request.headers.items()),
                body=request.post_data_buffer,
                for_picture=request.resource_type == "image",
            )
        )
