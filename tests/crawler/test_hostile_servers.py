"""Servers that mean harm, or are broken, cost a row each, and no more than one deadline together."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from crawler.fetch import Fetched
from crawler.pages import ImageLink
from crawler.rejections import Reason, Rejected
from tests.certificates import self_signed
from tests.crawler.picture_server import FAST, JPEG, fetch_all

# A run may not take longer than its deadline, twice the timeout; this is how long a test waits
# before it says that a run hangs.
_HANGS_S = 60.0
_POLICY = dataclasses.replace(FAST, timeout_s=0.5, max_bytes=1_000_000)

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


_ABOUT_CONSENT = ["/robots.txt", "/.well-known/tdmrep.json"]


class _Hostile:
    """A server that is asked about consent like any other, and gives pictures as a test says."""

    def __init__(self, answer: Answer, *, also_robots: bool = False) -> None:
        self.port = 0
        self.asked: list[str] = []
        self._answer = answer
        self._also_robots = also_robots
        self.tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.serve(reader, writer)
        finally:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.asked.append(path)
            if path in _ABOUT_CONSENT and not self._also_robots:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._answer(writer)
        await writer.wait_closed()  # what was written goes out first

    def link(self, name: str = "a.jpg") -> ImageLink:
        return ImageLink(url=f"http://127.0.0.1:{self.port}/{name}", page_url="", found_by="test")


@asynccontextmanager
async def _serving(
    answer: Answer, *, also_robots: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[_Hostile]:
    hostile = _Hostile(answer, also_robots=also_robots)
    server = await asyncio.start_server(hostile.accept, "127.0.0.1", 0, ssl=tls)
    hostile.port = server.sockets[0].getsockname()[1]
    try:
        yield hostile
    finally:
        server.close()
        for task in hostile.tasks:
            task.cancel()
        await asyncio.gather(*hostile.tasks)
        await server.wait_closed()


async def _drip(writer: asyncio.StreamWriter, head: bytes, drop: bytes) -> None:
    writer.write(head)
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.05)


async def _drip_body(writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", b".")


async def _drip_headers(writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\n", b"X")


async def _drip_chunks(writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n")


async def _silence(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def _endless_header(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-More: ")
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()


async def _endless_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


async def _huge_chunk(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")
    while True:
        writer.write(bytes(0x10000))
        await writer.drain()


async def _huge_length(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n")
    await asyncio.Event().wait()


async def _two_lengths(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    writer.close()


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    writer.transport.abort()


async def _short(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    writer.close()


async def _broken_gzip(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + bytes(20)
    )


async def _loop(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /a.jpg?again\r\nContent-Length: 0\r\n\r\n")


async def _not_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01\x02" * 1000)
    writer.close()


_CASES: list[tuple[Answer, set[Reason]]] = [
    (_drip_body, {Reason.TIMEOUT}),
    (_drip_headers, {Reason.TIMEOUT}),
    (_drip_chunks, {Reason.TIMEOUT}),
    (_silence, {Reason.TIMEOUT}),
    (_endless_headers, {Reason.HTTP_ERROR}),
    (_endless_header, {Reason.HTTP_ERROR}),
    (_endless_chunks, {Reason.TOO_LARGE}),
    (_huge_chunk, {Reason.TOO_LARGE, Reason.HTTP_ERROR, Reason.TRUNCATED}),
    (_huge_length, {Reason.TOO_LARGE, Reason.HTTP_ERROR}),
    (_two_lengths, {Reason.HTTP_ERROR}),
    (_reset, {Reason.CONNECTION_FAILED, Reason.TRUNCATED}),
    (_short, {Reason.TRUNCATED}),
    (_broken_gzip, {Reason.HTTP_ERROR, Reason.TRUNCATED}),
    (_loop, {Reason.TOO_MANY_REDIRECTS}),
    (_not_http, {Reason.HTTP_ERROR}),
]


@pytest.mark.parametrize(
    ("answer", "reasons"), _CASES, ids=[answer.__name__.strip("_") for answer, _ in _CASES]
)
def test_each_kind_of_misconduct_is_a_row(answer: Answer, reasons: set[Reason]) -> None:
    async def scenario() -> list[object]:
        async with _serving(answer) as hostile, asyncio.timeout(_HANGS_S):
            return list(await fetch_all([hostile.link()], _POLICY))

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Rejected)
    assert outcome.reason in reasons, outcome


@pytest.mark.parametrize("answer", [_drip_body, _drip_headers, _drip_chunks])
def test_a_server_that_drips_is_asked_once(answer: Answer) -> None:
    """All attempts at a link share one deadline, so there is nothing left for a second."""

    async def scenario() -> list[str]:
        async with _serving(answer) as hostile, asyncio.timeout(_HANGS_S):
            await fetch_all([hostile.link()], _POLICY)
            return hostile.asked

    assert asyncio.run(scenario()) == [*_ABOUT_CONSENT, "/a.jpg"]


def test_a_host_that_only_drips_is_left_alone_after_one_round() -> None:
    """A thousand links to it would otherwise cost a thousand deadlines."""

    async def scenario() -> tuple[int, int]:
        async with _serving(_drip_body) as hostile, asyncio.timeout(_HANGS_S):
            outcomes = await fetch_all((hostile.link(f"{at}.jpg") for at in range(200)), _POLICY)
            return len(outcomes), len(hostile.asked)

    assert asyncio.run(scenario()) == (200, len(_ABOUT_CONSENT) + _POLICY.concurrency_per_host)


def test_a_robots_txt_that_drips_is_asked_for_once() -> None:
    async def scenario() -> tuple[list[object], list[str]]:
        async with _serving(_drip_body, also_robots=True) as hostile, asyncio.timeout(_HANGS_S):
            links = [hostile.link(f"{at}.jpg") for at in range(10)]
            return list(await fetch_all(links, _POLICY)), hostile.asked

    outcomes, asked = asyncio.run(scenario())
    assert {each.reason for each in outcomes if isinstance(each, Rejected)} == {Reason.TIMEOUT}
    assert (len(outcomes), asked) == (10, ["/robots.txt"])


def test_a_slow_body_that_keeps_coming_is_read_to_its_end() -> None:
    """It takes longer than the deadline of a server that sends next to nothing."""
    policy = dataclasses.replace(FAST, timeout_s=0.2, max_bytes=10_000_000)
    body = JPEG + bytes(8_000_000)

    async def steadily(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 1_000_000):
            writer.write(body[at : at + 1_000_000])
            await writer.drain()
            await asyncio.sleep(0.08)

    async def scenario() -> list[object]:
        async with _serving(steadily) as hostile, asyncio.timeout(_HANGS_S):
            return list(await fetch_all([hostile.link()], policy, attempts=1))

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Fetched), outcome
    assert outcome.data == body


class _Stalling(_Hostile):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()


def test_a_server_that_stalls_in_the_tls_handshake_is_given_up() -> None:
    async def scenario() -> list[object]:
        stalling = _Stalling(_silence)
        server = await asyncio.start_server(stalling.accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = ImageLink(url=f"https://127.0.0.1:{port}/a.jpg", page_url="", found_by="test")
        async with server, asyncio.timeout(_HANGS_S):
            outcomes: list[object] = list(await fetch_all([link], _POLICY))
            for task in stalling.tasks:
                task.cancel()
            await asyncio.gather(*stalling.tasks)
        return outcomes

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.transient) == (Reason.TIMEOUT, True)


def test_a_compressed_bomb_costs_little_memory() -> None:
    """128 MiB in 128 KiB, expanded piece by piece, and no further than the limit."""
    bomb = gzip.compress(bytes(2**27))

    async def explode(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        )
        writer.write(bomb)
        await writer.drain()

    async def scenario() -> list[object]:
        async with _serving(explode) as hostile, asyncio.timeout(_HANGS_S):
            return list(await fetch_all([hostile.link()], _POLICY))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (outcome,) = asyncio.run(scenario())
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert isinstance(outcome, Rejected)
    assert outcome.reason == Reason.TOO_LARGE
    assert grown_kib < 64 * 1024


def test_others_are_fetched_while_a_host_drips() -> None:
    """The pictures of the good host are all there before the bad one's deadline ends its row."""

    async def good(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(JPEG), JPEG))

    async def scenario() -> list[object]:
        policy = dataclasses.replace(_POLICY, timeout_s=1.5)
        async with _serving(_drip_body) as bad, _serving(good) as fine, asyncio.timeout(_HANGS_S):
            # More bad links than may be in work, and all of them first.
            links = [bad.link(f"{at}.jpg") for at in range(300)]
            links += [fine.link(f"{at}.jpg") for at in range(100)]
            return list(await fetch_all(links, policy))

    outcomes = asyncio.run(scenario())
    assert [type(each) for each in outcomes] == [Fetched] * 100 + [Rejected] * 300


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """Nothing is asked of such a server, robots.txt included."""
    tls = self_signed(tmp_path)

    async def scenario() -> tuple[list[object], list[str]]:
        async with _serving(_silence, tls=tls) as hostile, asyncio.timeout(_HANGS_S):
            link = ImageLink(
                url=f"https://127.0.0.1:{hostile.port}/a.jpg", page_url="", found_by="test"
            )
            return list(await fetch_all([link], _POLICY)), hostile.asked

    (outcome,), asked = asyncio.run(scenario())
    assert isinstance(outcome, Rejected)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.detail
    assert (outcome.reason, asked) == (Reason.CONNECTION_FAILED, [])
