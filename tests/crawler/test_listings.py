"""Pages found through sitemaps, feeds and `rel=next`, and crawls that end early."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crawler.consent import Consent
from crawler.discover import discover
from crawler.ledger import DiscoverStats, Ledger
from crawler.pages import ImageLink
from crawler.rejections import Reason
from crawler.settings import CrawlPolicy
from crawler.sources import Source, SourceInvalid
from tests.crawler.site import Answer, Reply, Site, serving

POLICY = CrawlPolicy(delay_s=0)
SITEMAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'
INDEX = '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</sitemapindex>'


def _xml(text: str | bytes, content_type: str = "text/xml") -> Reply:
    body = text if isinstance(text, bytes) else text.encode()
    return Reply(body, headers={"Content-Type": content_type})


def _crawl(
    folder: Path,
    site: Site,
    path: str = "/",
    *,
    known: tuple[str, ...] = (),
    **settings: Any,  # noqa: ANN401  # any of a source's fields
) -> tuple[DiscoverStats, dict[str, ImageLink]]:
    source = Source(name="site", start=(site.url(path),), allow_private=True, **settings)
    stats = discover(source, POLICY, folder / "ledger.sqlite", known=map(site.url, known))
    with Ledger(folder / "ledger.sqlite") as ledger:
        return stats, {link.url.removeprefix(site.address): link for link in ledger.links()}


def test_sitemaps_lead_to_pages_that_no_link_leads_to(tmp_path: Path) -> None:
    """The index that robots.txt names, a packed sitemap, its pictures, and no page elsewhere."""
    answers: dict[str, Answer] = {"/": "<p>no link</p>", "/hidden": '<img src="/hidden.jpg">'}
    with serving(answers) as site:
        index = INDEX.format(f"<sitemap><loc>{site.url('/pages.xml.gz')}</loc></sitemap>")
        listed = SITEMAP.format(
            f"<url><loc>{site.url('/hidden')}</loc>"
            '<image:image xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">'
            f"<image:loc>{site.url('/listed.jpg')}</image:loc></image:image></url>"
            "<url><loc>http://other.example/page</loc></url>"
        )
        site.answers |= {
            "/robots.txt": Reply(f"Sitemap: {site.url('/index.xml')}".encode()),
            "/index.xml": _xml(index),
            "/pages.xml.gz": _xml(gzip.compress(listed.encode()), "application/gzip"),
        }
        stats, links = _crawl(tmp_path, site)
        assert set(links) == {"/hidden.jpg", "/listed.jpg"}
        assert stats.pages == 2
        assert site.asked("/sitemap.xml") == 0


def test_a_sitemap_is_looked_for_where_it_usually_lies(tmp_path: Path) -> None:
    with serving({"/": "", "/hidden": '<img src="/hidden.jpg">'}) as site:
        page = f"<url><loc>{site.url('/hidden')}</loc></url>"
        site.answers["/sitemap.xml"] = _xml(SITEMAP.format(page))
        assert set(_crawl(tmp_path, site)[1]) == {"/hidden.jpg"}


def test_no_sitemap_is_asked_for_if_the_source_wants_none(tmp_path: Path) -> None:
    with serving({"/": '<img src="/a.jpg">'}) as site:
        _crawl(tmp_path, site, sitemaps=False)
        assert site.asked("/sitemap.xml") == 0


def test_a_packed_bomb_is_a_row_and_not_unpacked(tmp_path: Path) -> None:
    """200 MB of zeros in 200 kB."""
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    with serving({"/": '<img src="/a.jpg">', "/sitemap.xml": _xml(bomb)}) as site:
        _, links = _crawl(tmp_path, site)
        assert set(links) == {"/a.jpg"}
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            (row,) = ledger.rejected()
        assert (row.url, row.reason) == (site.url("/sitemap.xml"), Reason.TOO_LARGE)


FEED = """<rss><channel><item><title>New</title><link>/story</link>
  <enclosure url="/enclosed.jpg" type="image/jpeg" length="1"/></item></channel></rss>"""


def test_a_feed_that_a_start_page_names_is_read(tmp_path: Path) -> None:
    """Its pictures count though the feed itself is not to be indexed, as blogs have it."""
    feed = Reply(
        FEED.encode(), headers={"Content-Type": "application/rss+xml", "X-Robots-Tag": "noindex"}
    )
    answers: dict[str, Answer] = {
        "/": '<link rel="alternate" type="application/rss+xml" href="/feed">',
        "/feed": feed,
        "/story": '<img src="/story.jpg">',
    }
    with serving(answers) as site:
        _, links = _crawl(tmp_path, site)
    assert set(links) == {"/enclosed.jpg", "/story.jpg"}
    assert links["/enclosed.jpg"].consent.allowed


def test_a_feed_may_be_where_a_crawl_starts(tmp_path: Path) -> None:
    with serving({"/feed": _xml(FEED), "/story": '<img src="/story.jpg">'}) as site:
        _, links = _crawl(tmp_path, site, "/feed")
    assert set(links) == {"/enclosed.jpg", "/story.jpg"}


def test_the_next_page_of_a_list_is_no_deeper(tmp_path: Path) -> None:
    """A list of twelve pages is followed to its end by a crawl that may go one link deep."""
    pages: dict[str, Answer] = {
        f"/list/{n}": f'<a href="/item/{n}">i</a><a rel="next" href="/list/{n + 1}">next</a>'
        for n in range(12)
    }
    items: dict[str, Answer] = {
        f"/item/{n}": f'<img src="/{n}.jpg"><a href="/deep">d</a>' for n in range(12)
    }
    with serving({**pages, **items, "/deep": '<img src="/deep.jpg">'}) as site:
        _, links = _crawl(tmp_path, site, "/list/0", max_depth=1)
    assert set(links) == {f"/{n}.jpg" for n in range(12)}


def test_addresses_that_cannot_be_stop_nothing(tmp_path: Path) -> None:
    """They are links like others, for the fetcher to refuse; pages there are not visited."""
    nowhere = "http://127.0.0.1:99999"
    page = f'<img src="{nowhere}/x.jpg"><a href="{nowhere}/y">y</a><img src="/a.jpg">'
    with serving({"/": page}) as site:
        stats, links = _crawl(tmp_path, site)
        assert {"/a.jpg"} <= set(links)
        assert stats.rejected_pages == 0


# Style sheets


def test_a_linked_sheet_is_read_once_for_all_pages(tmp_path: Path) -> None:
    """What it imports too, and what a page forbids holds for the pictures of its sheet."""
    head = '<link rel="stylesheet" href="/css/a.css">'
    answers: dict[str, Answer] = {
        "/": head + '<a href="/1">1</a><a href="/2">2</a>',
        "/1": head,
        "/2": head + '<link rel="stylesheet" href="/2.css"><meta name="robots" content="noai">',
        "/css/a.css": Reply(b'@import "b.css"; .x { background: url(a.jpg) }'),
        "/css/b.css": Reply(b'@import "a.css"; .x { background: url(b.jpg) }'),
        "/2.css": Reply(b".x { background: url(2.jpg) }"),
    }
    with serving(answers) as site:
        _, links = _crawl(tmp_path, site)
        assert {path: link.found_by for path, link in links.items()} == {
            "/css/a.jpg": "css",
            "/css/b.jpg": "css",
            "/2.jpg": "css",
        }
        assert [site.asked(path) for path in ("/css/a.css", "/css/b.css")] == [1, 1]
        assert not links["/2.jpg"].consent.allowed


def test_a_sheet_that_robots_txt_forbids_is_not_asked_for(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /css/"),
        "/": '<link rel="stylesheet" href="/css/a.css"><img src="/a.jpg">',
    }
    with serving(answers) as site:
        assert set(_crawl(tmp_path, site)[1]) == {"/a.jpg"}
        assert site.asked("/css/a.css") == 0
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            assert [(row.url, row.reason) for row in ledger.rejected()] == [
                (site.url("/css/a.css"), Reason.ROBOTS_TXT)
            ]


# What the site's own files say


def _consents(folder: Path, files: Mapping[str, Answer]) -> tuple[dict[str, Consent], Site]:
    answers: dict[str, Answer] = {
        "/": '<img src="/a.jpg"><a href="/art/">a</a>',
        "/art/": '<img src="/b.jpg"><a href="/art/2">2</a>',
        "/art/2": '<img src="/c.jpg">',
        **files,
    }
    with serving(answers) as site:
        _, links = _crawl(folder, site)
        return {path: link.consent for path, link in links.items()}, site


def test_a_reservation_in_tdmrep_json_counts_for_the_pages_it_names(tmp_path: Path) -> None:
    """It is asked for once."""
    file = Reply(b'[{"location": "/art/*", "tdm-reservation": 1}]')
    consents, site = _consents(tmp_path, {"/.well-known/tdmrep.json": file})
    assert {path: each.allowed for path, each in consents.items()} == {
        "/a.jpg": True,
        "/b.jpg": False,
        "/c.jpg": False,
    }
    assert consents["/b.jpg"].reason is Reason.TDMREP
    assert site.asked("/.well-known/tdmrep.json") == 1


def test_a_reservation_may_name_the_pictures_themselves(tmp_path: Path) -> None:
    file = Reply(b'[{"location": "/b.jpg", "tdm-reservation": 1}]')
    consents, _ = _consents(tmp_path, {"/.well-known/tdmrep.json": file})
    assert [path for path, each in consents.items() if not each.allowed] == ["/b.jpg"]


def test_a_use_that_robots_txt_refuses_counts_for_the_pages_it_names(tmp_path: Path) -> None:
    """They may be visited, and their pictures may not be taken."""
    rules = b"User-agent: *\nContent-Usage: /art/ train-ai=n\nAllow: /\n"
    consents, _ = _consents(tmp_path, {"/robots.txt": Reply(rules)})
    assert [consents[path].allowed for path in ("/a.jpg", "/b.jpg")] == [True, False]
    assert consents["/b.jpg"].reason is Reason.AIPREF


# Ending early


def _feed_of(pages: int) -> dict[str, Answer]:
    """Return a site of pages in a row, newest first, with three pictures each."""
    return {
        f"/{n}": "".join(f'<img src="/{n}-{each}.jpg">' for each in range(3))
        + f'<a rel="next" href="/{n + 1}">older</a>'
        for n in range(pages)
    }


def test_a_crawl_that_meets_what_is_known_ends(tmp_path: Path) -> None:
    """Four in a row: the three of one page, and the first of the next."""
    known = tuple(f"/{n}-{each}.jpg" for n in range(2, 20) for each in range(3))
    with serving(_feed_of(20)) as site:
        stats, links = _crawl(tmp_path, site, "/0", known=known, stop_after_known=4, sitemaps=False)
        assert site.asked("/3") == 1
        assert site.asked("/4") == 0
    assert stats.ended_by == "stop_after_known"
    assert {"/0-0.jpg", "/1-2.jpg"} <= set(links)


def test_known_pictures_among_new_ones_end_nothing(tmp_path: Path) -> None:
    known = tuple(f"/{n}-0.jpg" for n in range(20))
    with serving(_feed_of(20)) as site:
        stats, links = _crawl(tmp_path, site, "/0", known=known, stop_after_known=4)
    assert (stats.ended_by, len(links)) == ("", 60)


def test_a_crawl_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """What was found counts, and that there was more is said."""
    endless = {"/": '<img src="/a.jpg">' + "".join(f'<a href="/{n}x">x</a>' for n in range(99))}
    with serving({**endless, "/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 1")}) as site:
        stats, links = _crawl(tmp_path, site, max_minutes=0.05)
        again, _ = _crawl(tmp_path, site, max_minutes=0.05)
    assert stats.ended_by == "max_minutes"
    assert stats.unvisited > 80
    assert set(links) == {"/a.jpg"}
    assert again == stats


# Tables of addresses


def test_a_table_is_recorded_a_batch_at_a_time(tmp_path: Path) -> None:
    """No more of it is read than fits a batch before that is recorded; the last counts are right."""
    read = 0
    ahead: list[int] = []

    def table() -> Any:  # noqa: ANN401  # a generator
        nonlocal read
        for read in range(5000):  # counted from outside
            yield ImageLink(url=f"http://s/{read}.jpg", page_url="", found_by="url list")

    source = Source(name="table", kind="urls", table="table.csv")
    stats = discover(
        source,
        POLICY,
        tmp_path / "ledger.sqlite",
        listed=table(),
        on_progress=lambda _, links: ahead.append(read + 1 - links),
    )
    assert stats.links == 5000
    assert ahead == [0] * 5


def test_a_table_must_be_given(tmp_path: Path) -> None:
    source = Source(name="table", kind="urls", table="table.csv")
    with pytest.raises(SourceInvalid, match=r"table\.csv"):
        discover(source, POLICY, tmp_path / "ledger.sqlite")
