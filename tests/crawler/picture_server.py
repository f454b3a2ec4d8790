"""A real HTTP server on loopback whose every answer a test decides, and what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from crawler.fetch import Fetched, Unchanged, Validators, fetch
from crawler.pages import ImageLink
from crawler.rejections import Rejected
from crawler.settings import CrawlPolicy
from tests.crawler.pictures import encoded, picture

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answers = Mapping[str, Handler | bytes]
"""By path; bytes are sent as a JPEG."""

JPEG = encoded(picture(1), "JPEG")
FAST = CrawlPolicy(contact="test@example.org", delay_s=0, timeout_s=5)


@dataclass(slots=True)
class PictureServer:
    """Where it answers, and the requests that it had, in order."""

    base: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers."""

    def asked(self, path: str) -> int:
        """Return how often `path` was asked for."""
        return sum(asked == path for asked, _ in self.requests)

    def link(self, path: str) -> ImageLink:
        """Return a link to `path` here."""
        return ImageLink(url=self.base + path, page_url=self.base + "/", found_by="test")


@asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[PictureServer]:
    """Serve `answers` by path; bytes are sent as a JPEG, anything else is 404."""
    server = PictureServer()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.requests.append((request.raw_path, dict(request.headers)))
        found = answers.get(request.path)
        if found is None:
            raise web.HTTPNotFound
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="image/jpeg")
        return await found(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


async def fetch_all(
    links: Iterable[ImageLink],
    policy: CrawlPolicy = FAST,
    *,
    allow_private: bool = True,
    known: Mapping[str, Validators] | None = None,
    attempts: int = 3,
) -> list[Fetched | Unchanged | Rejected]:
    """Return every outcome, with short pauses between attempts."""
    outcomes = fetch(
        links,
        policy=policy,
        allow_private=allow_private,
        known=known,
        attempts=attempts,
        backoff_s=0.01,
    )
    async with aclosing(outcomes):
        return [outcome async for outcome in outcomes]


async def fetch_one(
    answers: Answers,
    path: str = "/a.jpg",
    policy: CrawlPolicy = FAST,
    *,
    attempts: int = 3,
) -> tuple[Fetched | Unchanged | Rejected, PictureServer]:
    """Serve `answers`, fetch `path` from there and return what became of it."""
    async with serving(answers) as server:
        (outcome,) = await fetch_all([server.link(path)], policy, attempts=attempts)
    return outcome, server


def raw(*chunks: bytes) -> Handler:
    """Answer with these bytes as they are, headers included, and hang up."""

    async def answer(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        for chunk in chunks:
            transport.write(chunk)
        await asyncio.sleep(0)
        transport.close()
        return web.Response()

    return answer


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Handler:
    """Answer with that status."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, body=body)

    return answer


def in_turn(*handlers: Handler) -> Handler:
    """Answer with the first handler, then the second, and so on; the last one stays."""
    left = list(handlers)

    async def answer(request: web.Request) -> web.StreamResponse:
        handler = left.pop(0) if len(left) > 1 else left[0]
        return await handler(request)

    return answer


def send(body: bytes = JPEG, **headers: str) -> Handler:
    """Answer with `body`; header names are written with underscores."""
    return status(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def rejected(outcome: object) -> Rejected:
    """Return the outcome, which must be a rejection."""
    assert isinstance(outcome, Rejected), outcome
    return outcome


def fetched(outcome: object) -> Fetched:
    """Return the outcome, which must be a picture."""
    assert isinstance(outcome, Fetched), outcome
    return outcome
