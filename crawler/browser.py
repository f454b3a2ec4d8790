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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from crawler.rejections import CrawlerError
from crawler.reveal import Reading, RevealLimits, frames_within, read, reveal
from crawler.traffic import Answer, Question, Traffic

if TYPE_CHECKING:  # half a second, which sources without a browser do not have to spend
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Page, Playwright, ProxySettings

__all__ = [
    "Answer",
    "Browser",
    "BrowserMissing",
    "PageBroken",
    "Question",
    "Rendered",
    "chromium_executable",
]

EXECUTABLE_VARIABLE = "CRATEDIG_CHROMIUM"

# For reading the result out of a page whose script may be spinning.
_READ_S = 10.0
_MAX_PAGES_AT_ONCE = 2

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
class Rendered:
    """A page after its scripts have run."""

    html: str
    pictures: tuple[str, ...]
    """Addresses that were really loaded as pictures, as the page asked for them, counters aside."""
    frames: tuple[tuple[str, str], ...] = ()
    """Address and HTML of the frames within it."""
    complete: bool
    """False if it was given up before the page came to an end."""


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
        self,
        answer: Callable[[Question], Awaitable[Answer | None]],
        *,
        user_agent: str,
        limits: RevealLimits | None = None,
    ) -> None:
        self._answer = answer
        self._limits = limits or RevealLimits()
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
                context = await self._new_context()
                try:
                    return await self._render(context, url, document)
                finally:
                    await context.close()
            except PlaywrightError as error:
                raise PageBroken(f"the browser could not show it: {_first_line(error)}") from error

    async def _new_context(self) -> BrowserContext:
        from playwright.async_api import Error as PlaywrightError

        while True:
            chromium = await self._started()
            try:
                return await chromium.new_context(
                    user_agent=self._user_agent, service_workers="block", accept_downloads=False
                )
            except PlaywrightError:
                if chromium.is_connected():
                    raise
                # It had died, and Playwright has noticed only now: another one is started.

    async def _render(self, context: BrowserContext, url: str, document: Answer) -> Rendered:
        traffic = Traffic(self._answer, document)
        await context.route("**/*", traffic.handle)
        page = await context.new_page()
        # A window that a script opens has nothing to show; what it asks for is not answered either.
        page.on("popup", lambda popup: popup.close())
        complete = False
        try:
            async with asyncio.timeout(self._limits.seconds):
                # Later states may never come, when a script tries to lead elsewhere.
                await page.goto(url, wait_until="commit", timeout=self._limits.seconds * 1000)
                complete = await reveal(page, traffic, self._limits)
        except TimeoutError:
            pass  # what has come so far counts; complete stays False
        try:
            async with asyncio.timeout(_READ_S):
                main = await read(page.main_frame)
        except TimeoutError:
            raise PageBroken("its script never pauses, so it cannot be read") from None
        frames = await _read_frames(page, url)
        readings = [main, *(each for _, each in frames)]
        specks = {speck for each in readings for speck in each.specks}
        loaded = dict.fromkeys(
            [*traffic.pictures, *(src for each in readings for src in each.shown)]
        )
        return Rendered(
            html=main.html,
            pictures=tuple(each for each in loaded if each not in specks),
            frames=tuple((address, each.html) for address, each in frames),
            complete=complete,
        )

    async def _started(self) -> Chromium:
        from playwright.async_api import async_playwright

        async with self._starting:
            if self._chromium is None or not self._chromium.is_connected():
                await self.close()
                executable = chromium_executable()
                starting = asyncio.ensure_future(async_playwright().start())
                try:
                    self._playwright = await asyncio.shield(starting)
                except asyncio.CancelledError:
                    # Half-started, its process would be nobody's to end.
                    self._playwright = await starting
                    raise
                self._chromium = await self._playwright.chromium.launch(
                    executable_path=executable,
                    args=list(_ARGUMENTS),
                    proxy=_NO_WAY_OUT,
                    # Chromium's sandbox refuses to run as root; anyone else keeps it.
                    chromium_sandbox=os.geteuid() != 0,
                )
            return self._chromium


async def _read_frames(page: Page, url: str) -> list[tuple[str, Reading]]:
    """Return the address and the reading of each frame within a page that can be read."""
    from playwright.async_api import Error as PlaywrightError

    readings: list[tuple[str, Reading]] = []
    try:
        async with asyncio.timeout(_READ_S):
            for frame in frames_within(page):
                try:
                    reading = await read(frame)
                except PlaywrightError:
                    continue  # taken away, or an address that was refused
                # What a page writes into a frame itself resolves against the page.
                is_web = frame.url.startswith(("http://", "https://"))
                readings.append((frame.url if is_web else url, reading))
    except TimeoutError:
        pass  # one of them spins; those before it count
    return readings


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
