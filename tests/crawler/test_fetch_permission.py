"""The fetcher asks for nothing that a page, robots.txt, a header or tdmrep.json forbids."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from aiohttp import web

from crawler.consent import Consent, Signal
from crawler.fetch import Fetched
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


def test_a_link_that_its_page_forbids_is_not_asked_for() -> None:
    said = Consent(
        allowed=False,
        signals=(Signal(kind="meta-robots", value="noimageai", where="http://x/"),),
    )

    async def scenario() -> tuple[list[object], int]:
        async with serving({"/a.jpg": JPEG}) as server:
            link = dataclasses.replace(server.link("/a.jpg"), consent=said)
            return list(await fetch_all([link])), len(server.requests)

    (outcome,), requests = asyncio.run(scenario())
    assert (rejected(outcome).reason, requests) == (Reason.META_ROBOTS, 0)
    assert "noimageai" in rejected(outcome).detail


def test_a_picture_that_robots_txt_forbids_is_not_asked_for() -> None:
    robots = send(b"User-agent: cratedig\nDisallow: /private/")
    answers: Answers = {"/robots.txt": robots, "/private/a.jpg": JPEG}
    outcome, server = asyncio.run(fetch_one(answers, "/private/a.jpg"))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert server.asked("/private/a.jpg") == 0


@pytest.mark.parametrize("path", ["/x/../private/a.jpg", "/x/%2e%2e/private/a.jpg"])
def test_robots_txt_judges_the_address_that_is_really_asked_for(path: str) -> None:
    answers: Answers = {
        "/robots.txt": send(b"User-agent: *\nDisallow: /private/"),
        "/private/a.jpg": JPEG,
    }
    outcome, server = asyncio.run(fetch_one(answers, path))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert len(server.requests) == 1


def test_robots_txt_is_asked_for_once_for_many_pictures() -> None:
    async def scenario() -> int:
        async with serving({"/robots.txt": send(b""), "/a.jpg": JPEG}) as server:
            await fetch_all(server.link(f"/a.jpg?{at}") for at in range(20))
            return server.asked("/robots.txt")

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("X-Robots-Tag", "noai", Reason.X_ROBOTS_TAG),
        ("X-Robots-Tag", "cratedig: noindex", Reason.X_ROBOTS_TAG),
        ("TDM-Reservation", "1", Reason.TDMREP),
    ],
)
def test_a_header_that_forbids_is_obeyed_before_the_body_is_read(
    header: str, value: str, reason: Reason
) -> None:
    """The body never comes: waiting for it would end in a timeout."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={header: value, "Content-Length": "1000"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    outcome, _ = asyncio.run(fetch_one({"/a.jpg": answer}))
    assert rejected(outcome).reason == reason
    assert not rejected(outcome).transient


def test_a_header_for_another_agent_does_not_forbid() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": send(X_Robots_Tag="googlebot: noindex")}))
    fetched(outcome)


def test_a_redirect_into_what_robots_txt_forbids_is_not_followed() -> None:
    answers: Answers = {
        "/robots.txt": send(b"User-agent: *\nDisallow: /private/"),
        "/a.jpg": status(302, {"Location": "/private/b.jpg"}),
        "/private/b.jpg": JPEG,
    }
    outcome, server = asyncio.run(fetch_one(answers))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert server.asked("/private/b.jpg") == 0


def test_a_reservation_for_the_whole_site_is_heeded_and_asked_for_once() -> None:
    """tdmrep.json forbids one folder; the evidence says where that stood."""
    terms = b'[{"location": "/mine/*", "tdm-reservation": 1}]'

    async def scenario() -> tuple[dict[str, object], int]:
        pages = {"/.well-known/tdmrep.json": terms, "/mine/a.jpg": JPEG, "/b.jpg": JPEG}
        async with serving(pages) as server:
            links = [server.link("/mine/a.jpg"), server.link("/b.jpg")]
            outcomes = await fetch_all(links, FAST)
            asked = server.asked("/.well-known/tdmrep.json")
        return {type(each).__name__: each for each in outcomes}, asked

    outcomes, asked = asyncio.run(scenario())
    assert isinstance(outcomes["Fetched"], Fetched)
    assert outcomes["Fetched"].link.url.endswith("/b.jpg")
    assert rejected(outcomes["Rejected"]).reason is Reason.TDMREP
    assert rejected(outcomes["Rejected"]).detail.count("/.well-known/tdmrep.json")
    assert asked == 1
