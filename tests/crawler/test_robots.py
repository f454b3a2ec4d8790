"""robots.txt is read as RFC 9309 says, once an origin, and unreachable means forbidden for now."""

from __future__ import annotations

import asyncio
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


def test_every_real_robots_txt_gives_an_answer(shared: Path) -> None:
    """123 files from real sites, with all that is odd in them."""
    folder = shared / "data/robots_txt"
    files = [file for file in sorted(folder.rglob("*")) if file.suffix == ".txt"]

    async def scenario() -> int:
        bodies = {f"/{at}": file.read_bytes() for at, file in enumerate(files)}
        answered = 0
        for body in bodies.values():
            consents, _ = await ask(body, "/", "/images/a.jpg?size=%7e")
            answered += len(consents)
        return answered

    assert len(files) > 100
    assert asyncio.run(scenario()) == 2 * len(files)
