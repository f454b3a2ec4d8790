"""Chromium through Playwright: run a page's scripts, scroll to its end, read what it really shows.

The browser itself reaches nothing: each request that a page makes is answered by the caller, who
applies robots.txt, the address guard and the limits, and the browser's own way out is a proxy that
does not exist. What would go around that (sockets, WebRTC) therefore ends nowhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from crawler.rejections import CrawlerError

if TYPE_CHECKING:  # half a second, which sources without a browser do not have to spend
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import (
        BrowserContext,
        Page,
        Playwright,
        ProxySettings,
        Request,
        Route,
    )

EXECUTABLE_VARIABLE = "CRATEDIG_CHROMIUM"

# A page is quiet when no request has been under way for so long; a script that waits longer before
# it asks for more is not waited for.
_QUIET_S = 0.5
# Time for one page, and how often it is scrolled to an end that moves away.
_RENDER_S = 60.0
_MAX_ROUNDS = 50
# Nothing new after so many scrolls is the end: on a busy machine one may come too early.
_UNCHANGED_ROUNDS = 2
# For reading the result out of a page whose script may be spinning.
_READ_S = 10.0
_MAX_PAGES_AT_ONCE = 2
# Counting pixels are 43 to 95 bytes.
_MIN_PICTURE_BYTES = 128
_NOT_NEEDED = frozenset({"font", "media", "texttrack", "websocket", "eventsource", "ping"})
# aiohttp has undone the transfer's encodings by now.
_HEADERS_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})

_ARGUMENTS = (
    # Nothing that Chromium would fetch on its own account.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No datagrams past the proxy.
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
# The discard port. "<-loopback>" takes away the exception that Chromium makes for loopback.
_NO_WAY_OUT: ProxySettings = {"server": "http://127.0.0.1:9", "bypass": "<-loopback>"}

_SCROLL = """async () => {
    const step = Math.max(200, innerHeight * 0.9);
    const end = () => document.documentElement.scrollHeight;
    // A little back first: a page that did not grow is told of the scrolling all the same.
    for (let y = Math.max(0, scrollY - innerHeight), i = 0; y < end() && i < 200; y += step, i += 1) {
        scrollTo(0, y);
        await new Promise(done => setTimeout(done, 20));
    }
    scrollTo(0, end());
}"""
# Two frames later, what arrived before has been laid out.
_EXTENT = """async () => {
    while (document.readyState === "loading") await new Promise(done => setTimeout(done, 20));
    for (let i = 0; i < 2; i += 1) await new Promise(done => requestAnimationFrame(done));
    return [document.documentElement.scrollHeight, document.getElementsByTagName("*").length];
}"""

_PLAYWRIGHT_LAYOUTS = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
    "chromium_headless_shell-*/chrome-*/headless_shell",
)
_SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class BrowserMissing(CrawlerError):
    """There is no Chromium to run, and a source needs one."""


class PageBroken(Exception):
    """The browser could not show a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A server's answer, or what stands for it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A page after its scripts have run."""

    html: str
    pictures: tuple[str, ...]
    """Addresses that were really loaded as pictures, as the page asked for them."""
    complete: bool
    """False if scrolling was given up before the page came to an end."""


def chromium_executable() -> Path:
    """Return the Chromium to run: CRATEDIG_CHROMIUM, else Playwright's own, else the system's.

    Raises `BrowserMissing`, which says what to do.
    """
    named = os.environ.get(EXECUTABLE_VARIABLE)
    if named:
        if shutil.which(named) is None:
            raise BrowserMissing(f"{EXECUTABLE_VARIABLE} is {named!r}, which is no program")
        return Path(named)
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright"))
    for layout in _PLAYWRIGHT_LAYOUTS:
        installed = sorted(folder.expanduser().glob(layout))
        if installed:
            return installed[-1]
    for name in _SYSTEM_NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise BrowserMissing(
        "no Chromium was found; install the chromium package, run `playwright install chromium`, "
        f"or set {EXECUTABLE_VARIABLE} to its path"
    )


class Browser:
    """One Chromium, started when first needed; an asynchronous context manager.

    `answer` is asked for everything that pages request, and returns None to refuse.
    """

    def __init__(
        self, answer: Callable[[Question], Awaitable[Answer | None]], *, user_agent: str
    ) -> None:
        self._answer = answer
        self._user_agent = user_agent
        self._starting = asyncio.Lock()
        self._turns = asyncio.Semaphore(_MAX_PAGES_AT_ONCE)
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End Chromium and Playwright; harmless when they never started, or died."""
        chromium, self._chromium = self._chromium, None
        playwright, self._playwright = self._playwright, None
        try:
            if chromium is not None:
                await chromium.close()
        finally:
            if playwright is not None:
                await playwright.stop()

    async def render(self, url: str, document: Answer) -> Rendered:
        """Return the page at `url`, served as `document`, after scripts and scrolling.

        Raises `PageBroken` when it cannot be shown, `BrowserMissing` when there is no browser.
        """
        from playwright.async_api import Error as PlaywrightError

        async with self._turns:
            try:
                context = await (await self._started()).new_context(
                    user_agent=self._user_agent, service_workers="block", accept_downloads=False
                )
                try:
                    return await self._render(context, url, document)
                finally:
                    await context.close()
            except PlaywrightError as error:
                raise PageBroken(f"the browser could not show it: {_first_line(error)}") from error

    async def _render(self, context: BrowserContext, url: str, document: Answer) -> Rendered:
        traffic = _Traffic(self._answer, url, document)
        await context.route("**/*", traffic.handle)
        page = await context.new_page()
        complete = False
        try:
            async with asyncio.timeout(_RENDER_S):
                # Later states may never come, when a script tries to lead elsewhere.
                await page.goto(url, wait_until="commit", timeout=_RENDER_S * 1000)
                complete = await _scroll_to_the_end(page, traffic)
        except TimeoutError:
            pass  # what has come so far counts; complete stays False
        try:
            async with asyncio.timeout(_READ_S):
                content = await page.content()
        except TimeoutError:
            raise PageBroken("its script never pauses, so it cannot be read") from None
        return Rendered(html=content, pictures=tuple(traffic.pictures), complete=complete)

    async def _started(self) -> Chromium:
        from playwright.async_api import async_playwright

        async with self._starting:
            if self._chromium is None or not self._chromium.is_connected():
                await self.close()
                executable = chromium_executable()
                self._playwright = await async_playwright().start()
                self._chromium = await self._playwright.chromium.launch(
                    executable_path=executable,
                    args=list(_ARGUMENTS),
                    proxy=_NO_WAY_OUT,
                    # Chromium's sandbox refuses to run as root; anyone else keeps it.
                    chromium_sandbox=os.geteuid() != 0,
                )
            return self._chromium


@dataclass  # without slots: Playwright leaves a mark on whatever handles its routes
class _Traffic:
    """Answers a page's requests and knows when it has come to rest."""

    answer: Callable[[Question], Awaitable[Answer | None]]
    url: str
    document: Answer
    pictures: dict[str, None] = field(default_factory=dict)
    """An ordered set."""
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
                and len(answer.body) >= _MIN_PICTURE_BYTES
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
        if request.resource_type in _NOT_NEEDED:
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
            )
        )


async def _scroll_to_the_end(page: Page, traffic: _Traffic) -> bool:
    """Scroll until nothing new comes; return False if it never stops."""
    before: tuple[object, int] | None = None
    unchanged = 0
    for _ in range(_MAX_ROUNDS):
        await traffic.come_to_rest()
        now = (await page.evaluate(_EXTENT), len(traffic.pictures))
        unchanged = unchanged + 1 if now == before else 0
        if unchanged == _UNCHANGED_ROUNDS:
            return True
        before = now
        await page.evaluate(_SCROLL)
    return False


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
