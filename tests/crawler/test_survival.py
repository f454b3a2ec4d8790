"""Crawls that are killed again and again, and sites that hang, drip, break off or never end."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crawler.discover import CrawlFailed, discover
from crawler.ledger import Ledger
from crawler.rejections import Reason
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from tests.crawler.site import RESET, Answer, Reply, serving
from tests.processes import children_running

PAGES = 150
KILLS = 20


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_only_what_was_under_way(tmp_path: Path) -> None:
    """`kill -9` at random instants: the same pictures as without, and few pages asked for twice."""
    chance = random.Random(3)
    kill_at = set(chance.sample(range(5, PAGES), KILLS))
    served = itertools.count()
    killers: list[threading.Timer] = []

    def kill() -> None:
        for child in children_running("crawler.spiders"):
            child.kill()

    def page(path: str) -> str:
        if next(served) in kill_at:
            # Around the time at which the page is read and committed.
            killers.append(threading.Timer(chance.uniform(0, 0.03), kill))
            killers[-1].start()
        number = int(path.rsplit("/", 1)[-1] or 0)
        children = (each for each in range(number * 3 + 1, number * 3 + 4) if each < PAGES)
        links = "".join(f'<a href="/page/{each}">x</a>' for each in children)
        return f'<img src="/{number}.jpg"><img src="/everywhere.jpg">{links}'

    answers: dict[str, Answer] = {f"/page/{n}": page for n in range(PAGES)}
    policy = CrawlPolicy(delay_s=0)
    with serving(answers) as site:
        source = Source(name="s", start=(site.url("/page/0"),), allow_private=True, sitemaps=False)
        kills = 0
        while True:
            try:
                stats = discover(source, policy, tmp_path / "ledger.sqlite")
                break
            except CrawlFailed:
                kills += 1
        for killer in killers:
            killer.join()
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            found = [link.url.removeprefix(site.address) for link in ledger.links()]
        asked = sum(path.startswith("/page/") for path, _ in site.requests)
    assert kills > KILLS / 2  # two at once kill one spider
    assert sorted(found) == sorted(["/everywhere.jpg", *(f"/{n}.jpg" for n in range(PAGES))])
    assert stats.pages == PAGES
    # Under way are those that are being asked for, and as many that have come and are being read.
    assert asked <= PAGES + kills * 2 * policy.concurrency_per_host


def test_a_spider_that_dies_before_it_has_read_its_order_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # no interpreter starts from an empty folder
    # Somewhat more than a pipe holds: when the spider dies, the end of its order is still to be
    # written, and would be once more when the pipe is closed.
    source = Source(name="s", start=(f"http://127.0.0.1/{'x' * 69_000}",), allow_private=True)

    with pytest.raises(CrawlFailed, match=r"the crawl of s broke down .* run it again"):
        discover(source, CrawlPolicy(), tmp_path / "ledger.sqlite")


def _head(length: int | None = None) -> bytes:
    size = f"Content-Length: {length}\r\n" if length else ""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{size}\r\n".encode()


def _silence() -> Iterator[bytes]:
    while True:
        time.sleep(0.1)
        yield b""


def _dripping() -> Iterator[bytes]:
    yield _head()
    while True:
        time.sleep(0.1)
        yield b" "


def _endless() -> Iterator[bytes]:
    yield _head()
    while True:
        yield b"<p>more</p>" * 10_000


def test_no_page_however_broken_keeps_a_crawl_from_its_end(tmp_path: Path) -> None:
    """Each is a row with its reason, and the page after them is read."""
    expected = {
        "/hangs": Reason.TIMEOUT,
        "/drips": Reason.TIMEOUT,
        "/resets": Reason.CONNECTION_FAILED,
        "/endless": Reason.TOO_LARGE,
        "/cut": Reason.TRUNCATED,
        "/nonsense": Reason.HTTP_ERROR,
        "/hangs.css": Reason.TIMEOUT,
    }
    answers: dict[str, Answer] = {
        "/": "".join(f'<a href="{path}">x</a>' for path in (*expected, "/good")),
        "/hangs": lambda path: Reply(stream=_silence()),
        "/drips": lambda path: Reply(stream=_dripping()),
        "/resets": RESET,
        "/endless": lambda path: Reply(stream=_endless()),
        "/cut": lambda path: Reply(stream=[_head(1000), b"<img src=/cut.jpg>"]),
        "/nonsense": lambda path: Reply(stream=[b"\x00\x01\x02 nonsense\r\n\r\n"]),
        "/hangs.css": lambda path: Reply(stream=_silence()),
        "/good": '<link rel="stylesheet" href="/hangs.css"><img src="/good.jpg">',
    }
    with serving(answers) as site:
        source = Source(name="s", start=(site.url("/"),), allow_private=True)
        discover(source, CrawlPolicy(delay_s=0, timeout_s=0.5), tmp_path / "ledger.sqlite")
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            links = {link.url.removeprefix(site.address) for link in ledger.links()}
            rows = {each.url.removeprefix(site.address): each.reason for each in ledger.rejected()}
    assert links == {"/good.jpg"}
    assert rows == expected


def test_a_robots_txt_that_hangs_forbids_for_now(tmp_path: Path) -> None:
    """The site cannot be reached, and nothing of it was asked for."""
    hanging: Answer = lambda path: Reply(stream=_silence())  # noqa: E731  # as the others are
    with serving({"/robots.txt": hanging, "/": '<img src="/a.jpg">'}) as site:
        source = Source(name="s", start=(site.url("/"),), allow_private=True)
        policy = CrawlPolicy(delay_s=0, timeout_s=0.3)
        with pytest.raises(CrawlFailed, match="did not come in time"):
            discover(source, policy, tmp_path / "ledger.sqlite")
        assert site.asked("/") == 0
