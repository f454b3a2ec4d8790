"""robots.txt is read as RFC 9309 says, once an origin, and unreachable means forbidden for now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crawler.consent import Consent
from crawler.rejections import Reason
from crawler.robots import MAX_CRAWL_DELAY_S, MAX_ROBOTS_BYTES, RobotsCache, RobotsUnreachable
from crawler.transport import open_session
from tests.crawler.picture_server import (
    FAST,
    Answers,
    Handler,
    PictureServer,
    in_turn,
    raw,
    serving,
    status,
)

SECRET = "/secret/a.jpg"


async def ask(robots: Handler | bytes | None, *paths: str) -> tuple[list[Consent], PictureServer]:
    """Return what a site with that robots.txt says about `paths`, asked all at once."""
    answers: Answers = {} if robots is None else {"/robots.txt": robots}
    async with (
        serving(answers) as server,
        open_session(
            user_agent=FAST.user_agent, allow_private=True, timeout_s=5, connections_per_host=4
        ) as session,
    ):
        cache = RobotsCache(session, user_agent=FAST.user_agent, allow_private=True, backoff_s=0.01)
        return list(
            await asyncio.gather(*(cache.allowed(server.base + path) for path in paths))
        ), server


def allowed(robots: Handler | bytes | None, path: str = SECRET) -> bool:
    (consent,), _ = asyncio.run(ask(robots, path))
    return consent.allowed


def test_what_is_disallowed_is_refused_with_the_place_as_evidence() -> None:
    (consent,), server = asyncio.run(ask(b"User-agent: *\nDisallow: /secret", SECRET))
    assert consent.reason == Reason.ROBOTS_TXT
    assert [signal.where for signal in consent.signals] == [f"{server.base}/robots.txt"]


def test_what_is_not_disallowed_passes() -> None:
    assert allowed(b"User-agent: *\nDisallow: /secret", "/open/a.jpg")


def test_the_group_for_our_name_replaces_the_general_one() -> None:
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: CrateDig\nDisallow: /tmp"
    assert allowed(rules)


def test_a_group_for_another_agent_is_not_ours() -> None:
    assert allowed(b"User-agent: GPTBot\nDisallow: /")


def test_the_longest_rule_wins() -> None:
    assert allowed(b"User-agent: *\nDisallow: /secret/\nAllow: /secret/a.jpg")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_no_robots_txt_allows_everything(code: int) -> None:
    assert allowed(status(code))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_failing_server_forbids_everything_for_now(code: int) -> None:
    with pytest.raises(RobotsUnreachable, match=f"answers HTTP {code}"):
        allowed(status(code))


def test_a_server_that_hangs_up_forbids_everything_for_now() -> None:
    with pytest.raises(RobotsUnreachable) as caught:
        allowed(raw())
    assert caught.value.reason == Reason.CONNECTION_FAILED


def test_a_failure_that_passes_is_not_held_against_the_site() -> None:
    assert allowed(in_turn(status(503), status(200, body=b"User-agent: *\nDisallow: /tmp")))


def test_a_redirected_robots_txt_counts() -> None:
    assert not allowed(
        in_turn(
            status(301, {"Location": "/robots.txt?really"}),
            status(200, body=b"User-agent: *\nDisallow: /"),
        )
    )


def test_an_endless_redirect_is_as_if_there_were_none() -> None:
    assert allowed(status(302, {"Location": "/robots.txt"}))


def test_a_byte_order_mark_does_not_hide_the_first_line() -> None:
    assert not allowed(b"\xef\xbb\xbfUser-agent: *\nDisallow: /")


def test_what_lies_beyond_500_kibibytes_is_not_read() -> None:
    filler = b"# nothing\n" * (MAX_ROBOTS_BYTES // 10 + 1)
    assert allowed(b"User-agent: *\nDisallow: /tmp\n" + filler + b"Disallow: /\n")


def test_a_rule_cut_at_the_limit_is_dropped_whole() -> None:
    """Cut after its slash, `Disallow: /other` would forbid everything."""
    head = b"User-agent: *\nDisallow: /tmp\n"
    tail = b"Disallow: /"
    filler = b"#" * (MAX_ROBOTS_BYTES - len(head) - len(tail) - 1) + b"\n"
    assert allowed(head + filler + tail + b"other\n")


def test_many_questions_at_once_read_it_once() -> None:
    consents, server = asyncio.run(
        ask(b"User-agent: *\nDisallow: /1", *(f"/{i}" for i in range(9)))
    )
    assert [each.allowed for each in consents].count(False) == 1
    assert server.asked("/robots.txt") == 1


@pytest.mark.parametrize(
    ("rules", "delay_s"),
    [
        (b"User-agent: *\nCrawl-delay: 2.5", 2.5),
        (b"User-agent: *\nCrawl-delay: 86400", MAX_CRAWL_DELAY_S),
        (b"User-agent: *\nCrawl-delay: -3", 0),
        (b"User-agent: *\nCrawl-delay: soon", 0),
        (b"User-agent: *\nDisallow: /", 0),
    ],
)
def test_the_crawl_delay_is_read_and_bounded(rules: bytes, delay_s: float) -> None:
    async def scenario() -> float:
        async with (
            serving({"/robots.txt": rules}) as server,
            open_session(
                user_agent=FAST.user_agent, allow_private=True, timeout_s=5, connections_per_host=4
            ) as session,
        ):
            cache = RobotsCache(
                session, user_agent=FAST.user_agent, allow_private=True, backoff_s=0.01
            )
            return await cache.crawl_delay(f"{server.base}/a.jpg")

    assert asyncio.run(scenario()) == delay_s


@pytest.mark.parametrize("hops", [1, 5])
def test_five_redirects_of_robots_txt_are_followed(hops: int) -> None:
    """RFC 9309, 2.3.1.2: at least five."""
    led = [status(301, {"Location": f"/robots.txt?{n}"}) for n in range(hops)]
    rules = status(200, body=b"User-agent: *\nDisallow: /secret")
    assert not allowed(in_turn(*led, rules))


def test_sitemaps_are_named_for_all_agents() -> None:
    async def scenario() -> tuple[str, ...]:
        rules = b"User-agent: x\nDisallow: /\nSitemap: /a.xml\n\nSitemap: http://b.example/b.xml\n"
        async with _cache({"/robots.txt": rules}) as (server, cache):
            return await cache.sitemaps(f"{server.base}/page")

    assert asyncio.run(scenario()) == ("/a.xml", "http://b.example/b.xml")


TDMREP = b'[{"location": "/secret/*", "tdm-reservation": 1}]'


@pytest.mark.parametrize(
    ("files", "may_use"),
    [
        ({}, True),
        ({"/.well-known/tdmrep.json": TDMREP}, False),
        ({"/.well-known/tdmrep.json": status(500)}, True),
        ({"/.well-known/tdmrep.json": TDMREP + b" " * 200_000}, True),
        ({"/robots.txt": b"User-agent: *\nAllow: /\nContent-Usage: train-ai=n"}, False),
        # What may not be asked for is not asked for, and says nothing.
        (
            {
                "/robots.txt": b"User-agent: *\nDisallow: /.well-known/",
                "/.well-known/tdmrep.json": TDMREP,
            },
            True,
        ),
    ],
)
def test_what_a_site_says_about_use(files: Answers, may_use: bool) -> None:
    """Asked for often and at once, each of its files is fetched once."""

    async def scenario() -> tuple[list[Consent], PictureServer]:
        async with _cache(files) as (server, cache):
            asked = [cache.use(server.base + SECRET) for _ in range(4)]
            return list(await asyncio.gather(*asked)), server

    consents, server = asyncio.run(scenario())
    assert {each.allowed for each in consents} == {may_use}
    assert server.asked("/.well-known/tdmrep.json") <= 1
    assert server.asked("/robots.txt") == 1


@asynccontextmanager
async def _cache(files: Answers) -> AsyncIterator[tuple[PictureServer, RobotsCache]]:
    async with (
        serving(files) as server,
        open_session(
            user_agent=FAST.user_agent, allow_private=True, timeout_s=5, connections_per_host=4
        ) as session,
    ):
        yield (
            server,
            RobotsCache(session, user_agent=FAST.user_agent, allow_private=True, backoff_s=0.01),
        )


@dataclass(slots=True)
class _Plain:
    """What a robots.txt says to all agents, as a person reads it; no file of ours names us."""

    refused: set[str] = field(default_factory=set)
    """`Disallow: /path`, without wildcards or escapes."""
    allows: bool = False
    """Whether it makes exceptions."""
    more: bool = False
    """Whether it says anything beyond that."""


def _plainly_said(text: str) -> _Plain:
    said = _Plain()
    agents: list[str] = []
    in_rules = False
    for line in re.split(r"[\r\n]+", text):
        name, colon, value = (each.strip() for each in line.split("#")[0].partition(":"))
        if not colon:
            said.more |= bool(name)
        elif name.lower() == "user-agent":
            agents = [value] if in_rules else [*agents, value]
            in_rules = False
        elif name.lower() in {"allow", "disallow"}:
            in_rules = True
            if "*" in agents and value:
                if name.lower() == "allow":
                    said.allows = True
                elif re.fullmatch(r"/[\w./-]*", value, re.ASCII):
                    said.refused.add(value)
                else:
                    said.more = True
    return said


def test_real_files_mean_what_they_plainly_say(shared: Path) -> None:
    """123 files from real sites: what they refuse to all is refused, and not what none refuses."""
    files = sorted((shared / "data/robots_txt/files").iterdir())
    elsewhere = "/of-this-nobody-has-said-anything"
    refusals = passes = 0

    async def scenario() -> None:
        nonlocal refusals, passes
        for file in files:
            said = _plainly_said(file.read_text("utf-8-sig", errors="replace"))
            paths = [] if said.allows else sorted(said.refused)
            (first, *others), _ = await ask(file.read_bytes(), elsewhere, *paths)
            assert not any(each.allowed for each in others), file.name
            refusals += len(others)
            if not said.more:
                assert first.allowed is ("/" not in said.refused), file.name
                passes += first.allowed

    asyncio.run(scenario())
    assert len(files) == 123
    assert (refusals > 500, passes > 30) == (True, True), (refusals, passes)


@pytest.mark.parametrize(
    ("name", "path", "may_visit"),
    [
        ("gothamist.com", "/2017/01/a.php", False),  # names friends, and refuses all others
        ("cdbaby.com", "/Cart/1", False),  # lines that end in CR alone
        ("cdbaby.com", "/Artist/1", True),
        ("www.advfn.com", "/forum/x", False),  # the longer Disallow beats `Allow: /`
        ("www.advfn.com", "/x", True),
        ("time.is", "/compare/a;b", False),  # wildcards
        ("time.is", "/x/y/just/z", False),
        ("time.is", "/London", True),
        ("groupme.com", "/x", True),  # a page instead of a robots.txt
    ],
)
def test_real_files_with_something_odd(shared: Path, name: str, path: str, may_visit: bool) -> None:
    assert allowed((shared / f"data/robots_txt/files/{name}.txt").read_bytes(), path) is may_visit
