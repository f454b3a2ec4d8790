"""What fails for good is not tried again; what passes is, a few times, and a host in trouble is left alone."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from crawler.pages import ImageLink
from crawler.rejections import Reason
from tests.crawler.picture_server import (
    FAST,
    JPEG,
    fetch_all,
    fetch_one,
    fetched,
    in_turn,
    raw,
    rejected,
    send,
    serving,
    status,
)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_a_client_error_is_final_and_not_tried_again(code: int) -> None:
    outcome, server = asyncio.run(fetch_one({"/a.jpg": status(code)}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.HTTP_ERROR, False)
    assert str(code) in rejected(outcome).detail
    assert server.asked("/a.jpg") == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_server_error_is_tried_again_and_then_transient(code: int) -> None:
    outcome, server = asyncio.run(fetch_one({"/a.jpg": status(code)}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.HTTP_ERROR, True)
    assert server.asked("/a.jpg") == 3


def test_a_server_error_that_passes_costs_nothing() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": in_turn(status(503), status(502), send())}))
    assert fetched(outcome).data == JPEG


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_long_retry_after_ends_the_attempts_and_leaves_the_host_alone(form: str) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    retry_after = {"seconds": "3600", "date": in_an_hour}[form]

    async def scenario() -> tuple[list[object], int]:
        busy = status(503, {"Retry-After": retry_after})
        async with serving({"/a.jpg": busy, "/b.jpg": JPEG}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=1)
            links = [server.link("/a.jpg"), server.link("/b.jpg")]
            return list(await fetch_all(links, policy)), len(server.requests)

    outcomes, requests = asyncio.run(scenario())
    assert [rejected(each).transient for each in outcomes] == [True, True]
    assert requests == 2 + 1  # robots.txt, tdmrep.json, and /a.jpg


def test_a_host_that_fails_again_and_again_is_left_alone() -> None:
    async def scenario() -> tuple[list[object], int]:
        async with serving({f"/{at}": status(500) for at in range(60)}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=1)
            outcomes = await fetch_all((server.link(f"/{at}") for at in range(60)), policy)
            return list(outcomes), len(server.requests)

    outcomes, requests = asyncio.run(scenario())
    assert len(outcomes) == 60
    assert all(rejected(each).transient for each in outcomes)
    assert requests == 2 + 8  # robots.txt, tdmrep.json, and as many as it may fail


def test_a_body_shorter_than_it_claims_is_truncated_and_transient() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", JPEG[:500])
    outcome, server = asyncio.run(fetch_one({"/a.jpg": cut}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TRUNCATED, True)
    assert server.asked("/a.jpg") == 3


def test_a_chunked_body_without_its_end_is_truncated() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": cut}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TRUNCATED, True)


def test_a_body_that_is_cut_once_is_fetched_whole_the_next_time() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", JPEG[:500])
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": in_turn(cut, send())}))
    assert fetched(outcome).data == JPEG


def test_a_server_that_hangs_up_is_a_transient_failure() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": raw()}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (
        Reason.CONNECTION_FAILED,
        True,
    )


def test_what_is_not_http_is_an_http_error() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": raw(b"220 ftp ready\r\n")}))
    assert rejected(outcome).reason == Reason.HTTP_ERROR


def test_a_port_where_nobody_listens_is_a_transient_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        link = ImageLink(
            url=f"http://127.0.0.1:{unused.getsockname()[1]}/a.jpg", page_url="", found_by="test"
        )
        (outcome,) = asyncio.run(fetch_all([link]))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (
        Reason.CONNECTION_FAILED,
        True,
    )


def test_a_silent_server_is_given_up() -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    policy = dataclasses.replace(FAST, timeout_s=0.2)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": never}, policy=policy, attempts=1))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TIMEOUT, True)


def test_a_server_that_drips_is_given_up() -> None:
    """Every read gets a byte in time; the whole would take for ever."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.05)

    policy = dataclasses.replace(FAST, timeout_s=0.2)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": drip}, policy=policy, attempts=1))
    assert rejected(outcome).reason == Reason.TIMEOUT
