"""A picture that has not changed is not sent again, and is rejected if it became forbidden."""

from __future__ import annotations

import asyncio

from aiohttp import web

from crawler.fetch import Unchanged, Validators
from crawler.rejections import Reason
from tests.crawler.picture_server import (
    JPEG,
    fetch_all,
    fetch_one,
    fetched,
    rejected,
    serving,
    status,
)


def test_an_unchanged_body_is_not_sent_again() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == '"v1"':
            raise web.HTTPNotModified
        return web.Response(body=JPEG)

    async def scenario() -> list[object]:
        async with serving({"/a.jpg": answer}) as server:
            link = server.link("/a.jpg")
            return list(await fetch_all([link], known={link.url: Validators(etag='"v1"')}))

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Unchanged)


def test_an_unchanged_site_costs_next_to_no_bodies() -> None:
    """200 pictures crawled twice, one of them changed in between, by ETag or by date."""
    bodies_sent = 0
    versions = {f"/{at}.jpg": 1 for at in range(200)}

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal bodies_sent
        version = versions[request.path]
        even = int(request.path[1:].split(".")[0]) % 2 == 0
        mark = f'"v{version}"' if even else f"Mon, 02 Mar 2026 10:00:0{version} GMT"
        asked = request.headers.get("If-None-Match" if even else "If-Modified-Since")
        if asked == mark:
            raise web.HTTPNotModified
        bodies_sent += 1
        return web.Response(body=JPEG, headers={"ETag" if even else "Last-Modified": mark})

    async def scenario() -> list[object]:
        async with serving(dict.fromkeys(versions, answer)) as server:
            links = [server.link(path) for path in versions]
            known = {
                each.link.url: Validators(etag=each.etag, last_modified=each.last_modified)
                for each in map(fetched, await fetch_all(links))
            }
            versions["/7.jpg"] += 1
            return list(await fetch_all(links, known=known))

    outcomes = asyncio.run(scenario())
    assert bodies_sent == 200 + 1
    assert sum(isinstance(each, Unchanged) for each in outcomes) == 199


def test_a_picture_that_became_forbidden_is_rejected_even_when_unchanged() -> None:
    async def scenario() -> list[object]:
        answer = status(304, {"X-Robots-Tag": "noai"})
        async with serving({"/a.jpg": answer}) as server:
            link = server.link("/a.jpg")
            return list(await fetch_all([link], known={link.url: Validators(etag='"v1"')}))

    (outcome,) = asyncio.run(scenario())
    assert rejected(outcome).reason == Reason.X_ROBOTS_TAG


def test_an_answer_of_unchanged_that_nobody_asked_for_is_an_error() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(304)}))
    assert rejected(outcome).reason == Reason.HTTP_ERROR
