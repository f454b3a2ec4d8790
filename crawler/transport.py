"""HTTP under guard: one session, and GET requests whose every hop is checked before it is made."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import aiohttp
from yarl import URL

from crawler.guard import AddressForbidden, GuardedResolver, check_url, guarded_socket

MAX_REDIRECTS = 8

_WELL_FORMED = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e)", re.IGNORECASE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READ_AT_ONCE = 65_536
# A server that sends a byte now and then keeps every read alive: a whole exchange may take this many
# times what one silence may.
_WHOLE_EXCHANGE = 2


class TooManyRedirects(Exception):
    """The address led on and on."""


class BodyTooLarge(Exception):
    """The body is longer than allowed; reading stopped there."""


def open_session(
    *, user_agent: str, allow_private: bool, timeout_s: float, connections_per_host: int
) -> aiohttp.ClientSession:
    """Return a session that keeps connections alive, keeps no cookies and uses no proxy.

    A proxy from the environment would resolve names itself, behind the guard's back.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=GuardedResolver(allow_private=allow_private),
            socket_factory=guarded_socket(allow_private=allow_private),
            limit=0,  # whoever asks bounds what it asks at once
            limit_per_host=connections_per_host,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=timeout_s * _WHOLE_EXCHANGE, sock_connect=timeout_s, sock_read=timeout_s
        ),
        # identity: what is stored is what the server has, and Content-Length counts it.
        headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        trust_env=False,
    )


@asynccontextmanager
async def get(
    session: aiohttp.ClientSession,
    url: str,
    *,
    allow_private: bool,
    headers: Mapping[str, str] | None = None,
    limits: aiohttp.ClientTimeout | None = None,
    around_hop: Callable[[str], AbstractAsyncContextManager[None]] = lambda url: nullcontext(),
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Yield the response to GET `url`, redirects followed by hand, its body not read yet.

    Each hop passes `check_url`, and happens inside `around_hop(url)`, which may wait, or raise to
    refuse it. `limits` stand in for the session's. Raises `AddressForbidden`, `TooManyRedirects`,
    TimeoutError or `aiohttp.ClientError`.
    """
    for _ in range(MAX_REDIRECTS + 1):
        check_url(url, allow_private=allow_private)
        target = _parsed(url)
        async with (
            around_hop(str(target)),
            session.get(
                target,
                headers=headers,
                timeout=limits or session.timeout,
                allow_redirects=False,
            ) as response,
        ):
            location = response.headers.get("Location", "").strip()
            if response.status not in _REDIRECTS or not location:
                yield response
                return
            url = str(response.url.join(_parsed(location)))
    raise TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def _parsed(address: str) -> URL:
    """Return `address` as it will be asked for: the guard and robots.txt must judge the same one.

    One that is well-formed stays as it is, because signed addresses break when anything is quoted
    anew. Any other is quoted, its host encoded, and its dot segments (`/x/../private`) resolved.
    """
    try:
        well_formed = _WELL_FORMED.fullmatch(address) and not _DOT_SEGMENT.search(address)
        return URL(address, encoded=bool(well_formed))
    except ValueError as error:
        raise AddressForbidden(f"not a valid address: {address!r} ({error})") from error


async def read_body(
    response: aiohttp.ClientResponse,
    *,
    max_bytes: int,
    on_bytes: Callable[[int], Awaitable[None]] | None = None,
) -> bytes:
    """Return the whole body; raise `BodyTooLarge` as soon as it is known to exceed `max_bytes`.

    `on_bytes` is awaited with the number of bytes of each piece; what it waits for holds the server
    up, too.
    """
    if response.content_length is not None and response.content_length > max_bytes:
        raise BodyTooLarge(f"Content-Length is {response.content_length}, over {max_bytes} bytes")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(_READ_AT_ONCE):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise BodyTooLarge(f"the body is over {max_bytes} bytes")
        if on_bytes is not None:
            await on_bytes(len(piece))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
