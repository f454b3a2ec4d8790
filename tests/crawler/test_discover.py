"""Whole crawls of a real site on loopback, in the spider's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from crawler.browser import EXECUTABLE_VARIABLE, BrowserMissing
from crawler.discover import CrawlFailed, DiscoverStats, discover
from crawler.ledger import Ledger
from crawler.pages import ImageLink
from crawler.rejections import Reason, Rejected
from crawler.settings import CrawlPolicy
from crawler.sources import Source, SourceInvalid
from tests.crawler.site import JPEG, RESET, Answer, Reply, Site, serving
from tests.processes import children_running
from tests.waiting import until

POLICY = CrawlPolicy(contact="test@example.org", delay_s=0, timeout_s=10)

ENDLESS = """<title>Endless</title><div id="list" style="height:1500px"></div><script>
  fetch("/secret/data");
  let batch = 0, busy = false;
  addEventListener("scroll", async () => {
    if (busy || batch >= 3) return;
    busy = true;
    const text = await (await fetch(`/more?batch=${batch++}`)).text();
    document.getElementById("list").insertAdjacentHTML("afterend", text);
    busy = false;
  });</script>"""


def _redirect(to: str) -> Reply:
    return Reply(status=302, headers={"Location": to})


SHOP: dict[str, Answer] = {
    "/robots.txt": Reply(b"User-agent: cratedig\nDisallow: /secret\n"),
    "/": """<title>Shop</title><a href="/full/1.jpg"><img src="/thumb/1.jpg" alt="One"></a>
       <a href="/page/2">2</a> <a href="/secret/page">s</a> <a href="/to-secret">t</a>
       <a href="/gone">g</a> <a href="/reset">r</a> <a href="/loop">l</a> <a href="/moved">m</a>
       <a href="/elsewhere">e</a> <a href="/reserved">n</a> <a href="/picture?id=3">p</a>
       <a href="/private/x">x</a> <a href="/endless">e</a> <a href="http://other.example/">o</a>""",
    "/page/2": '<img src="/2.jpg"><a href="/page/3">next</a><a href="/">first</a>',
    "/page/3": '<img src="/3.jpg"><a href="/page/4">next</a>',
    "/page/4": '<img src="/4.jpg">',
    "/secret/page": '<img src="/secret.jpg">',
    "/to-secret": _redirect("/secret/page"),
    "/reset": RESET,
    "/loop": _redirect("/loop"),
    "/moved": _redirect("/new/place"),
    "/new/place": '<img src="moved.jpg">',
    "/elsewhere": _redirect("http://other.example/login"),
    "/reserved": Reply(
        b'<img src="/reserved.jpg">',
        headers={"Content-Type": "text/html", "X-Robots-Tag": "noai"},
    ),
    "/picture": JPEG,
    "/private/x": '<img src="/private.jpg">',
    "/endless": ENDLESS,
    "/more": lambda path: f'<p style="height:1500px"><img src="/endless/{path[-1]}.jpg">',
}


@dataclass(frozen=True, slots=True)
class Crawl:
    """What one crawl of the shop came to."""

    site: Site
    stats: DiscoverStats
    links: dict[str, ImageLink]
    """By path."""
    rejected: dict[str, Rejected]
    """By path."""
    progress: list[tuple[int, int]]
    ledger: Path
    source: Source


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """One crawl that meets everything, shared by the tests that look at it."""
    pictures = {f"/endless/{n}.jpg": JPEG for n in range(3)}
    ledger = tmp_path_factory.mktemp("shop") / "ledger.sqlite"
    progress: list[tuple[int, int]] = []
    with serving(SHOP | pictures) as site:
        source = Source(
            name="shop",
            start=(site.url("/"),),
            browser="auto",
            deny=("/private/",),
            max_depth=2,
            allow_private=True,
        )
        stats = discover(source, POLICY, ledger, on_progress=lambda *each: progress.append(each))
        links, rejected = _found(ledger, site)
        yield Crawl(site, stats, links, rejected, progress, ledger, source)


def _found(path: Path, site: Site) -> tuple[dict[str, ImageLink], dict[str, Rejected]]:
    with Ledger(path) as ledger:
        return (
            {link.url.removeprefix(site.address): link for link in ledger.links()},
            {each.url.removeprefix(site.address): each for each in ledger.rejected()},
        )


def test_every_picture_is_found_once(shop: Crawl) -> None:
    """Whatever leads to it, and nothing of the pages that were not to be visited.

    Pagination, redirects, thumbnails, an address that turns out to be a picture, and the endless
    page's script.
    """
    assert set(shop.links) == {
        "/full/1.jpg",
        "/2.jpg",
        "/3.jpg",
        "/new/moved.jpg",
        "/reserved.jpg",
        "/picture?id=3",
        *(f"/endless/{n}.jpg" for n in range(3)),
    }


def test_each_link_knows_where_it_was_found(shop: Crawl) -> None:
    link = shop.links["/full/1.jpg"]
    assert link.page_url == shop.site.url("/")
    assert (link.found_by, link.alt, link.page_title) == ("a[href]", "One", "Shop")
    assert shop.links["/new/moved.jpg"].page_url == shop.site.url("/new/place")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/secret/page", Reason.ROBOTS_TXT),
        ("/to-secret", Reason.ROBOTS_TXT),
        ("/gone", Reason.HTTP_ERROR),
        ("/reset", Reason.CONNECTION_FAILED),
        ("/loop", Reason.TOO_MANY_REDIRECTS),
        ("/elsewhere", Reason.ADDRESS_FORBIDDEN),
    ],
)
def test_a_page_that_does_not_come_is_a_row_with_the_reason(
    shop: Crawl, path: str, reason: Reason
) -> None:
    assert shop.rejected[path].reason is reason
    assert shop.rejected[path].page_url == shop.site.url("/")
    assert shop.rejected[path].detail


def test_only_what_failed_is_rejected(shop: Crawl) -> None:
    assert len(shop.rejected) == 6


def test_what_robots_txt_forbids_is_never_asked_for(shop: Crawl) -> None:
    """Not by a link, not by a redirect, and not by a page's own script in the browser."""
    assert shop.site.asked("/secret/page") == 0
    assert shop.site.asked("/secret/data") == 0


def test_a_denied_page_is_not_visited(shop: Crawl) -> None:
    assert shop.site.asked("/private/x") == 0


def test_links_are_followed_to_the_depth_that_is_allowed(shop: Crawl) -> None:
    """The fourth page of the list is three links from the start."""
    assert shop.site.asked("/page/3") == 1
    assert shop.site.asked("/page/4") == 0


def test_a_reserving_page_gives_its_links_with_the_evidence(shop: Crawl) -> None:
    """So that the fetcher rejects the picture with the reason, and it is not merely missing."""
    consent = shop.links["/reserved.jpg"].consent
    assert consent.reason is Reason.X_ROBOTS_TAG
    assert consent.signals[0].where == shop.site.url("/reserved")


def test_only_the_page_that_needs_it_is_shown_in_the_browser(shop: Crawl) -> None:
    assert shop.stats.browser_pages == 1


def test_every_request_says_who_asks(shop: Crawl) -> None:
    """The browser's own included."""
    agents = {headers["user-agent"] for _, headers in shop.site.requests}
    assert agents == {POLICY.user_agent}


def test_progress_counts_up_to_the_end(shop: Crawl) -> None:
    assert shop.progress == sorted(shop.progress)
    assert shop.progress[-1] == (shop.stats.pages + len(shop.rejected), shop.stats.links)


def test_a_finished_crawl_is_not_done_again(shop: Crawl) -> None:
    """The same counts come back, and the site hears nothing."""
    before = len(shop.site.requests)
    assert discover(shop.source, POLICY, shop.ledger) == shop.stats
    assert len(shop.site.requests) == before


# Killed, and gone on with

PAGES = 6


def _chain(at_page: dict[int, Callable[[], None]]) -> dict[str, Answer]:
    """Return a site of pages in a row; asked for one of `at_page`, it first does that."""

    def page(number: int) -> str:
        at_page.get(number, lambda: None)()
        return f'<img src="/{number}.jpg"><a href="/page/{number + 1}">next</a>'

    def answer(number: int) -> Callable[[str], str]:
        return lambda path: page(number)

    answers: dict[str, Answer] = {f"/page/{n}": answer(n) for n in range(1, PAGES)}
    return answers | {"/": page(0)}


def _source(site: Site, *, allow_private: bool = True) -> Source:
    return Source(name="chain", start=(site.url("/"),), allow_private=allow_private)


def _kill_the_spider() -> None:
    for child in children_running("crawler.spiders"):
        child.kill()


def test_a_killed_spider_is_gone_on_with(tmp_path: Path) -> None:
    """The same links as without the kill, and pages that were done are not asked for again."""
    kill_once = [_kill_the_spider]
    with serving(_chain({3: lambda: kill_once.pop()() if kill_once else None})) as site:
        ledger = tmp_path / "ledger.sqlite"
        with pytest.raises(CrawlFailed, match="run it again"):
            discover(_source(site), POLICY, ledger)
        assert len(_found(ledger, site)[0]) == 3
        discover(_source(site), POLICY, ledger)
        assert set(_found(ledger, site)[0]) == {f"/{n}.jpg" for n in range(PAGES)}
        assert [site.asked(f"/page/{n}") for n in range(1, PAGES)] == [1, 1, 2, 1, 1]


def test_a_killed_command_takes_its_spider_along(tmp_path: Path) -> None:
    """`kill -9` of whoever called discover(): nobody goes on asking, and a rerun completes it."""
    reached, release = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert release.wait(60)

    program = (
        "import sys; from pathlib import Path; from crawler.discover import discover; "
        "from crawler.settings import CrawlPolicy; from crawler.sources import Source; "
        "discover(Source(name='chain', start=(sys.argv[1],), allow_private=True), "
        "CrawlPolicy(delay_s=0), Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    with serving(_chain({2: hold})) as site:
        ledger = tmp_path / "ledger.sqlite"
        with subprocess.Popen(
            [sys.executable, "-c", program, site.url("/"), str(ledger)],
            env={**os.environ, "PYTHONPATH": str(root)},
        ) as command:
            assert reached.wait(60)
            family = psutil.Process(command.pid).children(recursive=True)
            assert family
            command.kill()
        until(lambda: not any(_runs(each) for each in family))
        release.set()
        discover(_source(site), POLICY, ledger)
        assert set(_found(ledger, site)[0]) == {f"/{n}.jpg" for n in range(PAGES)}


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_site_that_is_down_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    """RFC 9309: a robots.txt that fails forbids everything, for now; the same ledger goes on."""
    with serving({"/": '<img src="/a.jpg">', "/robots.txt": Reply(status=503)}) as site:
        ledger = tmp_path / "ledger.sqlite"
        with pytest.raises(CrawlFailed, match=r"cannot be reached .*robots\.txt answers HTTP 503"):
            discover(_source(site), POLICY, ledger)
        assert site.asked("/") == 0
        site.answers["/robots.txt"] = Reply(status=404)
        assert discover(_source(site), POLICY, ledger).links == 1
        assert _found(ledger, site)[1] == {}


def test_a_private_address_is_not_visited_unless_the_source_says_so(tmp_path: Path) -> None:
    with serving({"/": '<img src="/a.jpg">'}) as site:
        ledger = tmp_path / "ledger.sqlite"
        stats = discover(_source(site, allow_private=False), POLICY, ledger)
        assert site.requests == []
        assert (stats.pages, stats.links) == (0, 0)
        assert _found(ledger, site)[1]["/"].reason is Reason.ADDRESS_FORBIDDEN


# Without a spider


def test_a_list_needs_no_crawl(tmp_path: Path) -> None:
    """Each address is a link, and no page is said to have shown it."""
    urls = ("https://a.example/1.jpg", "data:image/png;base64,AA", "https://a.example/1.jpg")
    ledger = tmp_path / "ledger.sqlite"
    stats = discover(Source(name="list", kind="urls", start=urls), POLICY, ledger)
    assert (stats.pages, stats.links) == (0, 2)
    with Ledger(ledger) as opened:
        assert [(link.url, link.page_url) for link in opened.links()] == [
            (urls[0], ""),
            (urls[1], ""),
        ]


def test_nobody_is_visited_anonymously(tmp_path: Path) -> None:
    source = Source(name="shop", start=("https://shop.example/",))
    with pytest.raises(SourceInvalid, match="contact"):
        discover(source, CrawlPolicy(), tmp_path / "ledger.sqlite")


def test_a_source_that_needs_a_browser_is_refused_at_once_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any page is asked for, not at the first that needs it."""
    monkeypatch.setenv(EXECUTABLE_VARIABLE, "/nowhere/chrome")
    source = Source(name="shop", start=("http://127.0.0.1:1/",), browser="auto", allow_private=True)
    with pytest.raises(BrowserMissing):
        discover(source, POLICY, tmp_path / "ledger.sqlite")
