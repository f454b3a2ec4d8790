"""What a site's own files say about an address: robots.txt (RFC 9309) and tdmrep.json (TDMRep).

Each is fetched once an origin and kept for a day. `allowed` is for whoever is about to ask for an
address; `use` is what the site says about the use of what lies there, for pages and pictures alike.

RFC 9309 leaves 429 to us (2.3.1.3 would let it pass as any 4xx): a server that is asked too often is
taken as one that fails.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from protego import Protego

from crawler.consent import (
    UNSAID,
    Consent,
    Signal,
    consent_from_robots_txt,
    consent_from_tdmrep_json,
)
from crawler.guard import AddressForbidden
from crawler.refusals import TRANSPORT_ERRORS
from crawler.rejections import Reason
from crawler.transport import TooManyRedirects, get, read_body

_TDMREP = "/.well-known/tdmrep.json"
_MAX_TDMREP_BYTES = 100_000
# RFC 9309, 2.5: parse at least 500 kibibytes; 2.4: keep for at most 24 hours.
MAX_ROBOTS_BYTES = 500 * 1024
_KEEP_S = 24 * 3600.0
# A site that was down is asked again much sooner.
_KEEP_UNREACHABLE_S = 300.0
# One lost connection must not cost a site all of its pictures.
_ATTEMPTS = 3
# A delay beyond this is taken as this: else one line could stop a run.
MAX_CRAWL_DELAY_S = 30.0
# Origins kept, the least recently used dropped first.
_MAX_ORIGINS = 4096


class RobotsUnreachable(Exception):
    """robots.txt could not be read, so everything there is forbidden until it can be."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Rules:
    keep_s: float
    parsed: Protego | None = None
    """None: there is nothing to obey."""
    failure: tuple[Reason, str] | None = None
    usage: str = ""
    """The file itself if it says something about use, which most do not."""


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rules: _Rules | None = None
    expires: float = 0.0
    tdmrep_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tdmrep: str | None = None
    """The file; None: not asked for yet."""
    tdmrep_expires: float = 0.0


class RobotsCache:
    """Answers whether addresses may be fetched; many may ask at once, and each origin is asked once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        user_agent: str,
        allow_private: bool,
        backoff_s: float = 0.5,
        turn: Callable[[str], AbstractAsyncContextManager[None]] = lambda url: nullcontext(),
    ) -> None:
        """`turn(url)` is waited for before anything but robots.txt itself is asked for."""
        self._session = session
        self._backoff_s = backoff_s
        self._turn = turn
        self._user_agent = user_agent
        # RFC 9309, 2.2.1: groups are matched by product token, not by the whole User-Agent line.
        self._product = user_agent.split("/", 1)[0].strip().lower()
        self._allow_private = allow_private
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def allowed(self, url: str) -> Consent:
        """Return consent for `url`; refused ones carry the robots.txt as evidence.

        4xx and no robots.txt allow everything. Raises `RobotsUnreachable` when the server fails
        (5xx, 429) or cannot be reached: RFC 9309 then forbids everything, but only for now; and
        `AddressForbidden` when the host is not public.
        """
        origin = _origin(url)
        rules = await self._rules(origin)
        if rules.failure is not None:
            reason, why = rules.failure
            raise RobotsUnreachable(reason, f"{origin}/robots.txt {why}")
        if rules.parsed is None or rules.parsed.can_fetch(url, self._product):
            return UNSAID
        path = urlsplit(url).path or "/"
        evidence = Signal(
            kind="robots.txt", value=f"disallows {path}", where=f"{origin}/robots.txt"
        )
        return Consent(allowed=False, signals=(evidence,))

    async def use(self, url: str) -> Consent:
        """Return what robots.txt and tdmrep.json say about the use of what lies at `url`.

        A tdmrep.json that does not come says nothing.
        """
        origin = _origin(url)
        rules = await self._rules(origin)
        said = UNSAID
        if rules.usage:
            said = consent_from_robots_txt(rules.usage, url, user_agent=self._user_agent)
        tdmrep = "" if rules.failure is not None else await self._tdmrep(origin)
        return said.merge(consent_from_tdmrep_json(tdmrep, url)) if tdmrep else said

    async def crawl_delay(self, url: str) -> float:
        """Return the seconds that the site asks for between requests, 0 to `MAX_CRAWL_DELAY_S`."""
        rules = await self._rules(_origin(url))
        asked = rules.parsed.crawl_delay(self._product) if rules.parsed is not None else None
        return min(max(float(asked or 0.0), 0.0), MAX_CRAWL_DELAY_S)

    async def sitemaps(self, url: str) -> tuple[str, ...]:
        """Return the sitemaps that the site of `url` names, as it writes them; none if it fails."""
        rules = await self._rules(_origin(url))
        return () if rules.parsed is None else tuple(rules.parsed.sitemaps)

    def _entry(self, origin: str) -> _Entry:
        entry = self._entries.setdefault(origin, _Entry())
        self._entries.move_to_end(origin)
        if len(self._entries) > _MAX_ORIGINS:
            self._entries.popitem(last=False)
        return entry

    async def _tdmrep(self, origin: str) -> str:
        url = origin + _TDMREP
        if not (await self.allowed(url)).allowed:
            return ""
        entry = self._entry(origin)
        async with entry.tdmrep_lock:
            if entry.tdmrep is None or entry.tdmrep_expires < time.monotonic():
                entry.tdmrep = await self._read_tdmrep(url)
                entry.tdmrep_expires = time.monotonic() + _KEEP_S
            return entry.tdmrep

    async def _read_tdmrep(self, url: str) -> str:
        try:
            async with (
                self._turn(url),
                get(self._session, url, allow_private=self._allow_private) as response,
            ):
                if response.status != 200:
                    return ""
                body = await read_body(response, max_bytes=_MAX_TDMREP_BYTES)
        except TRANSPORT_ERRORS:
            return ""
        return body.decode("utf-8", errors="replace")

    async def _rules(self, origin: str) -> _Rules:
        entry = self._entry(origin)
        if entry.rules is not None and entry.expires >= time.monotonic():
            return entry.rules
        async with entry.lock:
            if entry.rules is None or entry.expires < time.monotonic():
                entry.rules = await self._read_patiently(origin)
                entry.expires = time.monotonic() + entry.rules.keep_s
            return entry.rules

    async def _read_patiently(self, origin: str) -> _Rules:
        rules = await self._read(origin)
        for attempt in range(1, _ATTEMPTS):
            # Who lets us wait for so long once would do so again.
            if rules.failure is None or rules.failure[0] is Reason.TIMEOUT:
                break
            await asyncio.sleep(self._backoff_s * attempt)
            rules = await self._read(origin)
        return rules

    async def _read(self, origin: str) -> _Rules:
        try:
            async with get(
                self._session, f"{origin}/robots.txt", allow_private=self._allow_private
            ) as response:
                if response.status == 429 or response.status >= 500:
                    return _failed(Reason.HTTP_ERROR, f"answers HTTP {response.status}")
                if not 200 <= response.status < 300:
                    return _Rules(keep_s=_KEEP_S)
                text = await _read_text(response)
        except AddressForbidden:
            raise
        except TooManyRedirects:  # RFC 9309, 2.3.1.2: as if there were none
            return _Rules(keep_s=_KEEP_S)
        except TimeoutError:
            return _failed(Reason.TIMEOUT, "did not come in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(Reason.CONNECTION_FAILED, f"could not be read: {error}")
        says_use = "content-" in text.lower()
        return _Rules(keep_s=_KEEP_S, parsed=Protego.parse(text), usage=text if says_use else "")


def _failed(reason: Reason, why: str) -> _Rules:
    return _Rules(keep_s=_KEEP_UNREACHABLE_S, failure=(reason, why))


async def _read_text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_ROBOTS_BYTES:
            # A rule that is cut in half could forbid more, or less, than was meant.
            del body[MAX_ROBOTS_BYTES:]
            del body[max(body.rfind(b"\n"), 0) :]
            break
    return body.decode("utf-8-sig", errors="replace")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
