"""The style sheets that pages link to: each fetched once a crawl, for the pictures in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from crawler.browser import Answer
from crawler.css import imported_sheets, sheet_images
from crawler.spiders.network import FAILURES

# A theme's own sheets come first; what comes after many others is a library's.
_MAX_SHEETS_A_PAGE = 16
_MAX_SHEETS = 200
_MAX_SHEET_BYTES = 2_000_000
_MAX_IMPORTS_DEEP = 3


class StyleSheets:
    """Reads sheets through `fetch`, which gets an address and the most bytes to read.

    It gives where the address led, and the answer there. `refused` is told of each that did not come, once, and the page that named it first.
    """

    def __init__(
        self,
        fetch: Callable[[str, int], Awaitable[tuple[str, Answer]]],
        refused: Callable[[str, str, Exception], None],
    ) -> None:
        self._fetch = fetch
        self._refused = refused
        self._read: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def pictures(self, sheets: Iterable[str], *, page_url: str) -> tuple[str, ...]:
        """Return the addresses of the pictures in `sheets` and in what they import, each once."""
        found: dict[str, None] = {}
        for sheet in list(dict.fromkeys(sheets))[:_MAX_SHEETS_A_PAGE]:
            found |= dict.fromkeys(await self._pictures(sheet, page_url, _MAX_IMPORTS_DEEP))
        return tuple(found)

    async def _pictures(self, sheet: str, page_url: str, depth: int) -> tuple[str, ...]:
        if sheet not in self._read:
            if len(self._read) >= _MAX_SHEETS:
                return ()
            self._read[sheet] = asyncio.ensure_future(self._read_sheet(sheet, page_url, depth))
        return await self._read[sheet]

    async def _read_sheet(self, sheet: str, page_url: str, depth: int) -> tuple[str, ...]:
        try:
            url, answer = await self._fetch(sheet, _MAX_SHEET_BYTES)
        except FAILURES as error:
            self._refused(sheet, page_url, error)
            return ()
        if answer.status != 200:
            return ()
        text = answer.body.decode("utf-8", errors="replace")
        found = dict.fromkeys(sheet_images(text, url))
        for imported in imported_sheets(text, url) if depth else ():
            # Not one that is being read: two that import each other would wait for ever.
            if imported not in self._read:
                found |= dict.fromkeys(await self._pictures(imported, page_url, depth - 1))
        return tuple(found)
