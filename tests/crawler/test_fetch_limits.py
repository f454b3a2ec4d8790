"""Every cost is bounded: bytes of a body, requests at once, links read ahead, tasks left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
from collections.abc import Iterator
from contextlib import aclosing

from aiohttp import web

from crawler.fetch import FLEET_CAP, fetch
from crawler.pages import ImageLink
from crawler.rejections import Reason
from crawler.schedule import LOOK_AHEAD
from tests.crawler.picture_server import (
    FAST,
    JPEG,
    fetch_all,
    fetch_one,
    fetched,
    rejected,
    send,
    serving,
)


def test_a_body_that_claims_to_be_too_large_is_not_read() -> None:
    policy = dataclasses.replace(FAST, max_bytes=len(JPEG) - 1)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}, policy=policy))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TOO_LARGE, False)


def test_a_body_as_large_as_allowed_passes() -> None:
    policy = dataclasses.replace(FAST, max_bytes=len(JPEG))
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}, policy=policy))
    fetched(outcome)


def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    """It never ends, so only the limit can end it."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(10_000))

    policy = dataclasses.replace(FAST, max_bytes=100_000)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": endless}, policy=policy))
    assert rejected(outcome).reason == Reason.TOO_LARGE


def test_a_compressed_bomb_is_cut_off_at_the_limit() -> None:
    bomb = send(gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")
    policy = dataclasses.replace(FAST, max_bytes=100_000)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": bomb}, policy=policy))
    assert rejected(outcome).reason == Reason.TOO_LARGE


def test_a_host_is_asked_no_more_at_once_than_the_policy_says() -> None:
    at_once, most = 0, 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.Response(body=JPEG)

    async def scenario() -> None:
        async with serving({"/a.jpg": slow}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=3)
            await fetch_all((server.link(f"/a.jpg?{at}") for at in range(20)), policy)

    asyncio.run(scenario())
    assert most == 3


def test_links_are_taken_only_as_outcomes_are() -> None:
    """Endless links: a fetcher that read ahead without bound would never give the first outcome."""
    taken = 0

    async def scenario() -> None:
        async with serving({"/a.jpg": JPEG}) as server:

            def endless() -> Iterator[ImageLink]:
                nonlocal taken
                while True:
                    taken += 1
                    yield server.link(f"/a.jpg?{taken}")

            outcomes = fetch(endless(), policy=FAST, allow_private=True)
            async with aclosing(outcomes):
                for _ in range(5):
                    fetched(await anext(outcomes))

    asyncio.run(scenario())
    assert taken <= LOOK_AHEAD + FLEET_CAP + 5


def test_stopping_early_leaves_no_task_behind() -> None:
    async def scenario() -> set[str]:
        async with serving({"/a.jpg": JPEG}) as server:
            before = asyncio.all_tasks()
            outcomes = fetch(
                (server.link(f"/a.jpg?{at}") for at in range(100)), policy=FAST, allow_private=True
            )
            async with aclosing(outcomes):
                await anext(outcomes)
            ours = asyncio.all_tasks() - before
            return {str(task.get_coro()) for task in ours if "Downloader" in str(task.get_coro())}

    assert asyncio.run(scenario()) == set()
