"""One attempt at one link: permitted, in its host's turn, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from crawler.consent import consent_from_headers
from crawler.data_url import from_data_url
from crawler.fetched import Fetched, Unchanged, Validators
from crawler.memory import MemoryBudget
from crawler.politeness import HostGates, HostLeases
from crawler.refusals import TRANSPORT_ERRORS, Refused, refusal, require_consent, retry_after_s
from crawler.rejections import Reason, Rejected
from crawler.robots import RobotsCache, RobotsUnreachable
from crawler.schedule import Turn
from crawler.settings import CrawlPolicy
from crawler.transport import get, read_body

# Statuses that a later try may mend: timeout, too early, too many requests, and the server's own.
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Of these, the ones with which a server says that it has too much to do: it is given longer.
_OVERLOADED = frozenset({429, 503})
_OVERLOADED_FACTOR = 4
# A host that asks for a longer pause than the first is left alone, but not longer than the second.
_MAX_RETRY_AFTER_S = 60.0
_MAX_REST_S = 3600.0

# What the attempts at one link may take together: so many times what one silence may, and longer
# for what has really come. A server that drips is slower than that; a modem is not.
_SILENCES = 2
_SLOWEST_BYTES_PER_S = 32_000
# How often the limit is put off: most pictures are done before the first time.
_EXTENDED_EVERY_BYTES = 256_000
# Whoever is silent costs a timeout each time; it weighs as two failures, so that a host with four
# connections is left alone after the first four.
_TIMEOUT_WEIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The turn should be taken once more, not before `after_s` seconds."""

    turn: Turn
    after_s: float
    held_elsewhere: bool = False
    """Whether that is because another worker visits the host."""


Outcome = Fetched | Unchanged | Rejected


@dataclass(slots=True, kw_only=True)
class Downloader:
    """What all attempts of one `fetch` share."""

    session: aiohttp.ClientSession
    policy: CrawlPolicy
    allow_private: bool
    known: Mapping[str, Validators]
    attempts: int
    backoff_s: float
    gates: HostGates
    memory: MemoryBudget
    leases: HostLeases | None
    lease_poll_s: float
    robots: RobotsCache = field(init=False)
    limits: aiohttp.ClientTimeout = field(init=False)

    def __post_init__(self) -> None:
        self.robots = RobotsCache(
            self.session,
            user_agent=self.policy.user_agent,
            allow_private=self.allow_private,
            backoff_s=self.backoff_s,
            turn=self._between,
        )
        # Of silences alone: the whole is bounded by what comes, see `_Attempt`.
        self.limits = aiohttp.ClientTimeout(
            sock_connect=self.policy.timeout_s, sock_read=self.policy.timeout_s
        )

    @asynccontextmanager
    async def _between(self, url: str) -> AsyncIterator[None]:
        """Ask for tdmrep.json between robots.txt and the first picture, a Crawl-delay from both.

        Without a slot: whoever asks holds the only one of a host that is new.
        """
        delay_s = await self.robots.crawl_delay(url)
        await asyncio.sleep(delay_s)
        yield
        self.gates.delay(urlsplit(url).netloc.lower(), delay_s)

    async def take(self, turn: Turn) -> Outcome | Again:
        """Return what became of the link of `turn`; never raises for what a site does.

        The caller has claimed a place at the gate of its host.
        """
        link = turn.link
        try:
            require_consent(link.consent)
            if link.url[:5].lower() == "data:":
                return from_data_url(link, max_bytes=self.policy.max_bytes)
            return await _Attempt(self, turn).outcome()
        except _HeldElsewhere:
            return Again(turn=turn, after_s=self.lease_poll_s, held_elsewhere=True)
        except Refused as refused:
            if (wait_s := self._wait_s(turn, refused)) is not None:
                turn.attempt += 1
                return Again(turn=turn, after_s=wait_s)
            return Rejected(
                url=link.url,
                page_url=link.page_url,
                reason=refused.reason,
                detail=refused.detail,
                transient=refused.transient,
            )

    def _wait_s(self, turn: Turn, refused: Refused) -> float | None:
        """Return how long to wait before the next attempt; None when there should be none."""
        if not refused.again or turn.attempt >= self.attempts or self.left_s(turn) <= 0:
            return None
        wait_s = self.backoff_s * 2.0 ** (turn.attempt - 1) * random.uniform(0.5, 1.5)
        if refused.overloaded:
            wait_s *= _OVERLOADED_FACTOR
        if refused.retry_after_s is not None:
            if refused.retry_after_s > _MAX_RETRY_AFTER_S:
                return None
            wait_s = max(wait_s, refused.retry_after_s)
        return wait_s

    def left_s(self, turn: Turn, received: int = 0) -> float:
        """Return the seconds that are left to `turn`, of which `received` bytes have come."""
        allowed_s = _SILENCES * self.policy.timeout_s + received / _SLOWEST_BYTES_PER_S
        return allowed_s - turn.spent_s


class _HeldElsewhere(Exception):
    """Another worker visits the host."""


class _Attempt:
    """One request, and those to which it is redirected."""

    def __init__(self, downloader: Downloader, turn: Turn) -> None:
        self._all = downloader
        self._turn = turn
        self._claimed = True
        """The first hop has its place at the gate already."""
        self._started = 0.0
        """On the monotonic clock: when the request of this hop began."""
        self._limit = asyncio.timeout(None)
        self._host = turn.host
        self._received = 0
        self._extended_at = 0
        """Bytes received when the limit was last put off."""

    async def outcome(self) -> Fetched | Unchanged:
        """Return the body, or that it has not changed; raise `Refused` or `_HeldElsewhere`."""
        try:
            async with get(
                self._all.session,
                self._turn.link.url,
                allow_private=self._all.allow_private,
                headers=self._headers(),
                limits=self._all.limits,
                around_hop=self._hop,
            ) as response:
                return await self._read(response)
        except TRANSPORT_ERRORS as error:
            raise refusal(error) from error
        except RobotsUnreachable as error:
            # It was tried several times already.
            raise Refused(error.reason, error.detail, transient=True) from error
        finally:
            self._all.memory.abandoned(self)

    @asynccontextmanager
    async def _hop(self, url: str) -> AsyncIterator[None]:
        """Hold one of the host's slots, once robots.txt has permitted `url`; note how it went."""
        gates, robots = self._all.gates, self._all.robots
        claimed, self._claimed = self._claimed, False
        if not claimed:
            self._host = urlsplit(url).netloc.lower()
        host = self._host
        self._require_awake(host)
        await self._require_lease(host)
        require_consent(await robots.allowed(url))
        require_consent(await robots.use(url))
        delay_s = await robots.crawl_delay(url)
        async with gates.slot(host, crawl_delay_s=delay_s, claimed=claimed):
            self._require_awake(host)  # it may have failed others while this one waited
            await self._require_lease(host)  # it may have been lost in the meantime
            self._started = time.monotonic()
            try:
                with self._visit(host):
                    async with asyncio.timeout(self._all.left_s(self._turn)) as self._limit:
                        yield
            except TimeoutError:
                gates.failed(host, weight=_TIMEOUT_WEIGHT)
                raise
            except (ConnectionError, aiohttp.ClientConnectionError):
                gates.failed(host)
                raise
            except Refused as refused:
                # A refusal that no later attempt mends (404, say) is an answer too.
                (gates.failed if refused.again else gates.succeeded)(host)
                raise
            finally:
                self._turn.spent_s += time.monotonic() - self._started
                self._rest(host, max(delay_s, self._all.policy.delay_s))
            gates.succeeded(host)

    def _require_awake(self, host: str) -> None:
        if self._all.gates.rests(host):
            raise Refused(
                Reason.CONNECTION_FAILED,
                f"{host} has failed again and again, or asked for a pause, and is left alone for now",
                transient=True,
            )

    async def _require_lease(self, host: str) -> None:
        if self._all.leases is not None and not await self._all.leases.hold(host):
            raise _HeldElsewhere

    def _visit(self, host: str) -> AbstractContextManager[None]:
        return nullcontext() if self._all.leases is None else self._all.leases.visit(host)

    def _rest(self, host: str, seconds: float) -> None:
        """Let no other worker visit the host before; our own gates see to ourselves."""
        if self._all.leases is not None:
            self._all.leases.rest(host, seconds)

    def _headers(self) -> dict[str, str]:
        # No wish for webp or avif: a server that converts on demand should send its original.
        headers = {"Accept": "image/*,*/*;q=0.8"}
        validators = self._all.known.get(self._turn.link.url)
        if validators is not None and validators.etag:
            headers["If-None-Match"] = validators.etag
        if validators is not None and validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
        return headers

    async def _read(self, response: aiohttp.ClientResponse) -> Fetched | Unchanged:
        link, policy = self._turn.link, self._all.policy
        url = str(response.url)
        self._all.gates.answered(
            self._host,
            time.monotonic() - self._started,
            well=response.status < 400,
        )
        said = consent_from_headers(response.headers, url=url, user_agent=policy.user_agent)
        if response.status in {200, 203, 304}:
            require_consent(said)
        if response.status == 304 and link.url in self._all.known:
            return Unchanged(link=link)
        if response.status not in {200, 203}:
            raise self._status_refusal(response)
        data = await read_body(response, max_bytes=policy.max_bytes, on_bytes=self._on_bytes)
        self._all.memory.kept(self)
        return Fetched(
            link=link,
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            final_url=url,
            content_type=response.content_type,
            etag=response.headers.get("ETag", ""),
            last_modified=response.headers.get("Last-Modified", ""),
            fetched_at=datetime.now(UTC),
            consent=link.consent.merge(said),
        )

    async def _on_bytes(self, count: int) -> None:
        """Let the time that is left grow with what comes; wait while too much is in memory."""
        self._received += count
        if not self._all.memory.read(self, count):
            waits_from = time.monotonic()
            self._limit.reschedule(None)
            await self._all.memory.room(self)
            self._started += time.monotonic() - waits_from
        elif self._received - self._extended_at < _EXTENDED_EVERY_BYTES:
            return
        self._extended_at = self._received
        left_s = self._all.left_s(self._turn, self._received)
        now = asyncio.get_running_loop().time()
        self._limit.reschedule(now + left_s - (time.monotonic() - self._started))

    def _status_refusal(self, response: aiohttp.ClientResponse) -> Refused:
        transient = response.status in _TRANSIENT_STATUSES
        asked_s = retry_after_s(response.headers.get("Retry-After", ""))
        if transient and asked_s is not None:
            if asked_s > _MAX_RETRY_AFTER_S:
                self._all.gates.rest(self._host, min(asked_s, _MAX_REST_S))
            else:
                self._all.gates.delay(self._host, asked_s)
            self._rest(self._host, min(asked_s, _MAX_REST_S))
        return Refused(
            Reason.HTTP_ERROR,
            f"HTTP {response.status} {response.reason or ''}".strip(),
            transient=transient,
            again=transient,
            overloaded=response.status in _OVERLOADED,
            retry_after_s=asked_s,
        )
