"""Fetch many pictures at once: `ImageLink` in, original bytes (or the reason there are none) out.

Nothing is fetched that the page, robots.txt or a response header forbids, nothing that the guard
refuses, and what a server may cost is bounded in bytes, time, redirects and attempts.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp

from crawler.consent import Consent, consent_from_headers
from crawler.guard import AddressForbidden
from crawler.pages import ImageLink
from crawler.politeness import HostGates
from crawler.rejections import Reason, Rejected
from crawler.robots import RobotsCache, RobotsUnreachable
from crawler.settings import CrawlPolicy
from crawler.transport import BodyTooLarge, TooManyRedirects, get, open_session, read_body

# Links in flight, whose bodies may be in memory at the same time; the next is taken from `links`
# only when one of them is handed out.
_WINDOW = 32
# Statuses that a later try may mend: timeout, too early, too many requests, and the server's own.
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# A host that asks for a longer pause than the first is left alone, but not longer than the second.
_MAX_RETRY_AFTER_S = 60.0
_MAX_REST_S = 3600.0

_TRANSPORT_ERRORS = (
    AddressForbidden,
    BodyTooLarge,
    TooManyRedirects,
    aiohttp.ClientError,
    OSError,  # TimeoutError among them
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server said about a body's version; sent back, it may answer that nothing changed."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A body as the server has it, and where it came from."""

    link: ImageLink
    data: bytes
    sha256: str
    """Of `data`, hex."""
    final_url: str
    """After redirects."""
    content_type: str
    """As the server said, without parameters; not to be trusted."""
    etag: str
    last_modified: str
    fetched_at: datetime
    """In UTC."""
    consent: Consent
    """What page, robots.txt and response header said, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The server says that the body is the one already known (304)."""

    link: ImageLink


async def fetch(
    links: Iterable[ImageLink],
    *,
    policy: CrawlPolicy,
    allow_private: bool,
    known: Mapping[str, Validators] | None = None,
    attempts: int = 3,
    backoff_s: float = 0.5,
) -> AsyncGenerator[Fetched | Unchanged | Rejected, None]:
    """Yield one outcome a link, as they come; never raises for what a site does.

    `known` holds validators by link URL, for conditional requests. Transient failures are tried
    `attempts` times, `backoff_s` doubling in between (with jitter), or as long as Retry-After asks,
    up to a minute. Links are taken as outcomes are: memory holds at most 32 bodies. Close the
    generator (`contextlib.aclosing`) when stopping early.
    """
    async with open_session(
        user_agent=policy.user_agent,
        allow_private=allow_private,
        timeout_s=policy.timeout_s,
        connections_per_host=policy.concurrency_per_host,
    ) as session:
        fetcher = _Fetcher(
            session=session,
            policy=policy,
            allow_private=allow_private,
            known=known or {},
            attempts=attempts,
            backoff_s=backoff_s,
        )
        source = iter(links)
        running: set[asyncio.Task[Fetched | Unchanged | Rejected]] = set()
        try:
            while True:
                while len(running) < _WINDOW and (link := next(source, None)) is not None:
                    running.add(asyncio.create_task(fetcher.outcome(link)))
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # Handed out one by one: the rest stays in the window until it is asked for.
                    running.discard(task)
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class _Refused(Exception):
    """This attempt came to nothing."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        transient: bool = False,
        again: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.transient = transient
        """A later run may succeed."""
        self.again = again
        """A later attempt in this run may succeed."""
        self.retry_after_s = retry_after_s


@dataclass(slots=True, kw_only=True)
class _Fetcher:
    session: aiohttp.ClientSession
    policy: CrawlPolicy
    allow_private: bool
    known: Mapping[str, Validators]
    attempts: int
    backoff_s: float
    robots: RobotsCache = field(init=False)
    gates: HostGates = field(init=False)

    def __post_init__(self) -> None:
        self.robots = RobotsCache(
            self.session,
            user_agent=self.policy.user_agent,
            allow_private=self.allow_private,
            backoff_s=self.backoff_s,
        )
        self.gates = HostGates(
            concurrency_per_host=self.policy.concurrency_per_host, delay_s=self.policy.delay_s
        )

    async def outcome(self, link: ImageLink) -> Fetched | Unchanged | Rejected:
        """Return what became of `link`, after as many attempts as it deserves."""
        try:
            _require_consent(link.consent)
            if link.url[:5].lower() == "data:":
                return _from_data_url(link, max_bytes=self.policy.max_bytes)
            return await self._with_retries(link)
        except _Refused as refused:
            return Rejected(
                url=link.url,
                page_url=link.page_url,
                reason=refused.reason,
                detail=refused.detail,
                transient=refused.transient,
            )

    async def _with_retries(self, link: ImageLink) -> Fetched | Unchanged:
        for attempt in range(1, self.attempts):
            try:
                return await self._attempt(link)
            except _Refused as refused:
                if not refused.again:
                    raise
                wait_s = self.backoff_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                if refused.retry_after_s is not None:
                    if refused.retry_after_s > _MAX_RETRY_AFTER_S:
                        raise
                    wait_s = max(wait_s, refused.retry_after_s)
            await asyncio.sleep(wait_s)
        return await self._attempt(link)

    async def _attempt(self, link: ImageLink) -> Fetched | Unchanged:
        try:
            async with get(
                self.session,
                link.url,
                allow_private=self.allow_private,
                headers=self._headers(link),
                around_hop=self._turn,
            ) as response:
                return await self._read(link, response)
        except _TRANSPORT_ERRORS as error:
            raise _refusal(error) from error
        except RobotsUnreachable as error:
            # It was tried several times already.
            raise _Refused(error.reason, error.detail, transient=True) from error

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        """Hold one of the host's slots, once robots.txt has permitted `url`; note how it went."""
        host = urlsplit(url).netloc.lower()
        self._require_awake(host)
        _require_consent(await self.robots.allowed(url))
        delay_s = await self.robots.crawl_delay(url)
        async with self.gates.slot(host, crawl_delay_s=delay_s):
            self._require_awake(host)  # it may have failed others while this one waited
            try:
                yield
            except (TimeoutError, ConnectionError, aiohttp.ClientConnectionError):
                self.gates.failed(host)
                raise
            except _Refused as refused:
                # A refusal that no later attempt mends (404, say) is an answer too.
                (self.gates.failed if refused.again else self.gates.succeeded)(host)
                raise
            self.gates.succeeded(host)

    def _require_awake(self, host: str) -> None:
        if self.gates.rests(host):
            raise _Refused(
                Reason.CONNECTION_FAILED,
                f"{host} has failed again and again, or asked for a pause, and is left alone for now",
                transient=True,
            )

    def _headers(self, link: ImageLink) -> dict[str, str]:
        # No wish for webp or avif: a server that converts on demand should send its original.
        headers = {"Accept": "image/*,*/*;q=0.8"}
        validators = self.known.get(link.url, Validators())
        if validators.etag:
            headers["If-None-Match"] = validators.etag
        if validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
        return headers

    async def _read(self, link: ImageLink, response: aiohttp.ClientResponse) -> Fetched | Unchanged:
        url = str(response.url)
        said = consent_from_headers(response.headers, url=url, user_agent=self.policy.user_agent)
        if response.status in {200, 203, 304}:
            _require_consent(said)
        if response.status == 304 and link.url in self.known:
            return Unchanged(link=link)
        if response.status not in {200, 203}:
            raise self._status_refusal(response)
        data = await read_body(response, max_bytes=self.policy.max_bytes)
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

    def _status_refusal(self, response: aiohttp.ClientResponse) -> _Refused:
        transient = response.status in _TRANSIENT_STATUSES
        retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""))
        if transient and retry_after_s is not None:
            host = urlsplit(str(response.url)).netloc.lower()
            if retry_after_s > _MAX_RETRY_AFTER_S:
                self.gates.rest(host, min(retry_after_s, _MAX_REST_S))
            else:
                self.gates.delay(host, retry_after_s)
        return _Refused(
            Reason.HTTP_ERROR,
            f"HTTP {response.status} {response.reason or ''}".strip(),
            transient=transient,
            again=transient,
            retry_after_s=retry_after_s,
        )


def _require_consent(consent: Consent) -> None:
    """Raise `_Refused` with the evidence unless `consent` allows."""
    if consent.allowed:
        return
    evidence = "; ".join(
        f"{signal.kind} says {signal.value!r} at {signal.where}" for signal in consent.signals
    )
    raise _Refused(consent.reason or Reason.ROBOTS_TXT, evidence)


def _refusal(error: Exception) -> _Refused:
    """Return what an exception of the transport means for the link."""
    said = str(error) or type(error).__name__
    match error:
        case AddressForbidden():
            return _Refused(Reason.ADDRESS_FORBIDDEN, said)
        case TooManyRedirects():
            return _Refused(Reason.TOO_MANY_REDIRECTS, said)
        case BodyTooLarge():
            return _Refused(Reason.TOO_LARGE, said)
        case TimeoutError():
            return _Refused(Reason.TIMEOUT, "no answer in time", transient=True, again=True)
        case aiohttp.ClientPayloadError():
            # Fewer bytes than Content-Length, or a chunked body without its end.
            return _Refused(Reason.TRUNCATED, said, transient=True, again=True)
        case aiohttp.InvalidURL():
            return _Refused(Reason.ADDRESS_FORBIDDEN, f"not a valid address: {said}")
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError() | ssl.SSLError():
            return _Refused(Reason.CONNECTION_FAILED, said, transient=True)
        case aiohttp.ClientConnectionError() | OSError():
            return _Refused(Reason.CONNECTION_FAILED, said, transient=True, again=True)
    return _Refused(Reason.HTTP_ERROR, f"not an HTTP answer: {said}")


def _retry_after_s(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either of its two forms."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _from_data_url(link: ImageLink, *, max_bytes: int) -> Fetched:
    """Return the body that a data: URL holds (RFC 2397)."""
    head, comma, payload = link.url[5:].partition(",")
    if not comma:
        raise _Refused(Reason.NOT_AN_IMAGE, "a data: address without a comma")
    # Every byte takes at least one character, in base64 four for three.
    if len(payload) > 3 * max_bytes:
        raise _Refused(Reason.TOO_LARGE, f"the data: address is over {max_bytes} bytes")
    content_type, *parameters = head.split(";")
    data = unquote_to_bytes(payload)
    if any(parameter.strip().lower() == "base64" for parameter in parameters):
        try:
            # Padding is often left out.
            data = base64.b64decode(data + b"=" * (-len(data) % 4))
        except binascii.Error as error:
            raise _Refused(Reason.CORRUPT, f"the data: address is not base64: {error}") from error
    if len(data) > max_bytes:
        raise _Refused(Reason.TOO_LARGE, f"the data: address is over {max_bytes} bytes")
    return Fetched(
        link=link,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        final_url=link.url,
        content_type=content_type.strip().lower() or "text/plain",
        etag="",
        last_modified="",
        fetched_at=datetime.now(UTC),
        consent=link.consent,
    )
