"""How a crawl treats a site, by the log of the site itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from crawler.discover import discover
from crawler.ledger import Ledger
from crawler.rejections import Reason, Rejected
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from tests.crawler.site import JPEG, Answer, Reply, Site, serving

# The server notes a request a little after it was sent, and not always equally so.
_AT_LEAST = 0.5
"""Of a delay: what is measured is when requests arrive, and on a busy machine one arrives late."""


def _crawl(
    folder: Path,
    site: Site,
    *,
    browser: Literal["never", "always"] = "never",
    policy: CrawlPolicy | None = None,
) -> tuple[set[str], list[Rejected]]:
    """Return the paths of the pictures found, and what was refused."""
    source = Source(name="site", start=(site.url("/"),), browser=browser, allow_private=True)
    discover(source, policy or CrawlPolicy(delay_s=0), folder / "ledger.sqlite")
    with Ledger(folder / "ledger.sqlite") as ledger:
        links = {link.url.removeprefix(site.address) for link in ledger.links()}
        return links, list(ledger.rejected())


def _gaps(site: Site) -> list[float]:
    return [after - before for before, after in zip(site.times, site.times[1:], strict=False)]


def test_whatever_is_asked_for_keeps_the_crawl_delay(tmp_path: Path) -> None:
    """Pages, style sheets, the sitemap and tdmrep.json alike, and the first after robots.txt."""
    answers: dict[str, Answer] = {
        "/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 1"),
        "/": '<link rel="stylesheet" href="/a.css"><a href="/1">1</a><a href="/2">2</a>',
        "/1": '<link rel="stylesheet" href="/b.css"><img src="/1.jpg">',
        "/2": '<img src="/2.jpg">',
        "/a.css": Reply(b".x { background: url(a.jpg) }"),
        "/b.css": Reply(b".x { background: url(b.jpg) }"),
    }
    with serving(answers) as site:
        links, _ = _crawl(tmp_path, site)
        assert links == {"/1.jpg", "/2.jpg", "/a.jpg", "/b.jpg"}
        asked = {path for path, _ in site.requests}
        assert asked == {*answers, "/sitemap.xml", "/.well-known/tdmrep.json"}
        assert min(_gaps(site)) > 1 * _AT_LEAST


def test_the_browser_keeps_the_crawl_delay_too(tmp_path: Path) -> None:
    """And leaves the pictures to the fetcher, which has to ask for them anyway."""
    answers: dict[str, Answer] = {
        "/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 1"),
        "/": """<img src="/1.jpg"><div id="x"></div><script src="/a.js"></script>
          <script src="/b.js"></script>""",
        "/a.js": Reply(b"new Image().src = '/unseen.jpg'"),
        "/b.js": Reply(b"document.getElementById('x').innerHTML = '<img src=/2.jpg>'"),
        **dict.fromkeys(("/1.jpg", "/2.jpg", "/unseen.jpg"), JPEG),
    }
    with serving(answers) as site:
        links, _ = _crawl(tmp_path, site, browser="always")
        assert links == {"/1.jpg", "/2.jpg", "/unseen.jpg"}
        assert not any(path.endswith(".jpg") for path, _ in site.requests)
        assert site.asked("/b.js") == 1
        assert min(_gaps(site)) > 1 * _AT_LEAST


def test_a_site_that_asks_to_be_left_alone_is_left_alone(tmp_path: Path) -> None:
    """After a 429 with Retry-After nothing is asked for until then, and then all of it comes."""
    busy = ["/busy"]

    def answer(path: str) -> Reply | str:
        if busy:
            busy.clear()
            return Reply(status=429, headers={"Retry-After": "2"})
        return '<img src="/busy.jpg">'

    pages: dict[str, Answer] = {f"/{n}": f'<img src="/{n}.jpg">' for n in range(5)}
    listed = "".join(f'<a href="{path}">x</a>' for path in ("/busy", *pages))
    with serving({"/": listed, "/busy": answer, **pages}) as site:
        policy = CrawlPolicy(delay_s=0, concurrency_per_host=1)
        links, rejected = _crawl(tmp_path, site, policy=policy)
        assert links == {"/busy.jpg", *(f"/{n}.jpg" for n in range(5))}
        assert rejected == []
        at = next(n for n, (path, _) in enumerate(site.requests) if path == "/busy")
        assert site.times[at + 1] - site.times[at] > 2 * _AT_LEAST


def test_who_asks_to_be_left_alone_for_long_is_left_to_a_later_run(tmp_path: Path) -> None:
    """Rows that say for how long; a run does not wait an hour, and asks for nothing else there."""
    later = Reply(status=503, headers={"Retry-After": "3600"})
    links = '<img src="/a.jpg"><a href="/later">l</a><a href="/other">o</a>'
    with serving({"/": links, "/later": later, "/other": '<img src="/b.jpg">'}) as site:
        policy = CrawlPolicy(delay_s=0, concurrency_per_host=1)
        found, rejected = _crawl(tmp_path, site, policy=policy)
        assert found == {"/a.jpg"}
        rows = {each.url.removeprefix(site.address): each for each in rejected}
        assert {(each.reason, each.transient) for each in rows.values()} == {
            (Reason.HTTP_ERROR, True)
        }
        assert "3600 s" in rows["/later"].detail
        assert [site.asked(path) for path in ("/later", "/other")] == [1, 0]


def test_a_site_that_takes_long_to_answer_is_asked_less_often(tmp_path: Path) -> None:
    """Four at a time are allowed; answers of 0.6 s spread their starts out, and no burst comes."""

    def slow(path: str) -> str:
        time.sleep(0.6)
        return f'<img src="{path}.jpg">'

    pages: dict[str, Answer] = {f"/{n}": slow for n in range(12)}
    listed = "".join(f'<a href="{path}">x</a>' for path in pages)
    with serving({"/": listed, **pages}) as site:
        _crawl(tmp_path, site)
        later = [
            gap
            for gap, (path, _) in zip(_gaps(site), site.requests[1:], strict=True)
            if path in pages
        ]
        assert min(later[4:]) > 0.6 / 4 * _AT_LEAST


def test_advertising_fonts_and_films_are_not_asked_for(tmp_path: Path) -> None:
    """The browser asks for what can show a picture of the site, and for nothing else."""
    answers: dict[str, Answer] = {
        "/": """<style>@font-face { font-family: f; src: url(/f.woff2) } p { font-family: f }</style>
          <p>text</p><video src="/film.mp4" autoplay></video><audio src="/a.mp3" autoplay></audio>
          <img src="/a.jpg">""",
        "/a.jpg": JPEG,
    }
    with serving(answers) as site:
        _crawl(tmp_path, site, browser="always")
        asked = {path for path, _ in site.requests}
        assert asked == {"/", "/a.jpg", "/robots.txt", "/sitemap.xml", "/.well-known/tdmrep.json"}
