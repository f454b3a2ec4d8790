"""The fetcher gives the original bytes, from public addresses alone, or says why not."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
from datetime import UTC

import pytest

from crawler.pages import ImageLink
from crawler.rejections import Reason
from tests.crawler.picture_server import (
    FAST,
    JPEG,
    Answers,
    fetch_all,
    fetch_one,
    fetched,
    rejected,
    send,
    serving,
    status,
)


def test_the_original_bytes_come_unchanged_with_their_hash() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}))
    got = fetched(outcome)
    assert got.data == JPEG
    assert got.sha256 == hashlib.sha256(JPEG).hexdigest()


def test_what_the_server_said_is_kept() -> None:
    answer = send(
        ETag='"v1"', Last_Modified="Mon, 02 Mar 2026 10:00:00 GMT", Content_Type="image/jpeg; q=1"
    )
    outcome, server = asyncio.run(fetch_one({"/a.jpg": answer}))
    got = fetched(outcome)
    assert (got.etag, got.last_modified) == ('"v1"', "Mon, 02 Mar 2026 10:00:00 GMT")
    assert (got.content_type, got.final_url) == ("image/jpeg", f"{server.base}/a.jpg")
    assert got.fetched_at.tzinfo is UTC


def test_the_user_agent_says_who_asks() -> None:
    _, server = asyncio.run(fetch_one({"/a.jpg": JPEG}))
    assert {headers["User-Agent"] for _, headers in server.requests} == {FAST.user_agent}


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/a.jpg?url=https%3A%2F%2Fx&sig=a+b%2f", "/a.jpg?url=https%3A%2F%2Fx&sig=a+b%2f"),
        ("/ä b.jpg?size=l", "/%C3%A4%20b.jpg?size=l"),
        ("/x/../a.jpg", "/a.jpg"),
        ("/x/%2E%2E/a.jpg#part", "/a.jpg"),
    ],
)
def test_an_address_is_asked_for_as_written_and_mended_only_where_it_must_be(
    written: str, asked: str
) -> None:
    """Signed addresses break when they are quoted anew."""

    async def scenario() -> str:
        async with serving({}) as server:
            await fetch_all([server.link(written)])
            return server.requests[-1][0]

    assert asyncio.run(scenario()) == asked


def test_every_link_has_one_outcome() -> None:
    async def scenario() -> list[str]:
        async with serving({f"/{at}.jpg": JPEG for at in range(0, 90, 2)}) as server:
            outcomes = await fetch_all(server.link(f"/{at}.jpg") for at in range(90))
            return sorted(type(each).__name__ for each in outcomes)

    assert asyncio.run(scenario()) == ["Fetched"] * 45 + ["Rejected"] * 45


def test_no_links_give_no_outcomes() -> None:
    assert asyncio.run(fetch_all([])) == []


# --- what the guard refuses


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1/a.jpg", "http://localhost/a.jpg", "ftp://x/a.jpg"]
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    link = ImageLink(url=address, page_url="", found_by="test")
    (outcome,) = asyncio.run(fetch_all([link], allow_private=False))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


def test_a_redirect_to_an_address_that_is_never_allowed_is_refused() -> None:
    answer = status(302, {"Location": "http://169.254.169.254/latest/meta-data/"})
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": answer}))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::1", "javascript:1"])
def test_a_redirect_to_no_web_address_is_refused(location: str) -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(302, {"Location": location})}))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


# --- redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_the_last_address_kept(code: int) -> None:
    answers: Answers = {"/a.jpg": status(code, {"Location": "b.jpg"}), "/b.jpg": JPEG}
    outcome, server = asyncio.run(fetch_one(answers))
    assert fetched(outcome).final_url == f"{server.base}/b.jpg"


def test_an_endless_redirect_ends() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(302, {"Location": "/a.jpg"})}))
    assert rejected(outcome).reason == Reason.TOO_MANY_REDIRECTS


# --- pictures inside the page


@pytest.mark.parametrize(
    "url",
    [
        "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        "DATA:image/jpeg;charset=x;base64," + base64.b64encode(JPEG).decode().rstrip("="),
        "data:image/jpeg," + "".join(f"%{byte:02x}" for byte in JPEG),
    ],
)
def test_a_data_address_gives_its_bytes(url: str) -> None:
    (outcome,) = asyncio.run(fetch_all([ImageLink(url=url, page_url="", found_by="test")]))
    assert (fetched(outcome).data, fetched(outcome).content_type) == (JPEG, "image/jpeg")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", Reason.NOT_AN_IMAGE),
        ("data:image/png;base64,a", Reason.CORRUPT),
        ("data:image/png;base64," + "AAAA" * 400, Reason.TOO_LARGE),
    ],
)
def test_a_data_address_that_is_no_use_is_rejected(url: str, reason: Reason) -> None:
    policy = dataclasses.replace(FAST, max_bytes=1000)
    link = ImageLink(url=url, page_url="", found_by="test")
    (outcome,) = asyncio.run(fetch_all([link], policy))
    assert rejected(outcome).reason == reason
