"""Which pages are the same, which look alike, and how far those that bring nothing are followed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from crawler.alike import families, without_session
from crawler.discover import discover
from crawler.frontier import Frontier
from crawler.ledger import Ledger, Page
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from tests.crawler.site import Answer, serving

START = "http://s/"


def _page(path: str, parent: str = START) -> Page:
    return Page(url=f"http://s{path}", parent=parent, depth=1)


@pytest.mark.parametrize(
    ("url", "same_as"),
    [
        ("http://s/a;jsessionid=0123ABCD?id=1", "http://s/a?id=1"),
        ("http://s/a?PHPSESSID=0a1b2c&id=1", "http://s/a?id=1"),
        ("http://s/a?id=1&sid=0a1b2c3d4e5f6a7b8c", "http://s/a?id=1"),
        ("http://s/(S(lit3py55t21z5v55vlm25s55))/a.aspx", "http://s/a.aspx"),
        ("http://s/a?ASPSESSIONIDABCD=XYZ", "http://s/a"),
    ],
)
def test_a_visit_does_not_make_another_page(url: str, same_as: str) -> None:
    assert without_session(url) == same_as


@pytest.mark.parametrize(
    "url",
    [
        "http://s/article.php?sid=1234",  # PHP-Nuke's stories
        "http://s/?s=search-for-something-long",
        "http://s/list?session=2024",
        "http://s/a;color=red",
        "http://s/a?b=2&a=1",
    ],
)
def test_a_parameter_that_tells_pages_apart_stays(url: str) -> None:
    assert without_session(url) == url


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/calendar/2024/05", "/calendar/2031/12"),
        ("/calendar?y=2024&m=5", "/calendar?m=12&y=2031"),
        ("/a/b/a/b/a/b/", "/a/b/"),
        ("/item/0123456789abcdef", "/item/fedcba9876543210"),
    ],
)
def test_pages_of_one_shape_share_their_families(one: str, other: str) -> None:
    assert families(f"http://s{one}") == families(f"http://s{other}")


def test_a_family_that_brings_nothing_is_left_after_a_while() -> None:
    """Thirty pages of a calendar are seen, whoever links to however many."""
    frontier = Frontier(max_pages=1000)
    days = [_page(f"/day/{n}") for n in range(500)]
    let_in = [day for day in days if frontier.offer(day)]
    for day in let_in:
        let_in += frontier.done(day, brought=0)
    assert len(let_in) == 30


def test_a_family_that_brings_pictures_is_seen_to_its_end() -> None:
    """Those that were not let in at first come as the others earn it, each once."""
    frontier = Frontier(max_pages=1000)
    items = [_page(f"/item/{n}") for n in range(500)]
    let_in = [item for item in items if frontier.offer(item)]
    assert len(let_in) == 30
    for item in let_in:
        let_in += frontier.done(item, brought=1)
    assert sorted(item.url for item in let_in) == sorted(item.url for item in items)


def test_a_list_without_pictures_lives_from_what_it_leads_to() -> None:
    """Two hundred pages of a list: each shows nothing, and its items all show something."""
    frontier = Frontier(max_pages=1000)
    let_in = [page for page in [_page("/list?page=0")] if frontier.offer(page)]
    lists = 0
    for page in let_in:
        is_list = "/list" in page.url
        let_in += frontier.done(page, brought=0 if is_list else 1)
        if is_list and lists < 200:
            lists += 1
            found = [_page(f"/list?page={lists}", page.url), _page(f"/item/{lists}", page.url)]
            let_in += [each for each in found if frontier.offer(each)]
    assert lists == 200


def test_no_more_pages_are_let_in_than_the_limit() -> None:
    frontier = Frontier(max_pages=3)
    assert [frontier.offer(_page(f"/{name}")) for name in "abcd"] == [True, True, True, False]


def test_what_an_earlier_attempt_has_done_counts() -> None:
    frontier = Frontier(max_pages=1000)
    for n in range(30):
        frontier.recall(_page(f"/day/{n}"), brought=0)
    assert not frontier.offer(_page("/day/31"))
    assert frontier.pending == 0


FACETS = [f"f{n}" for n in range(8)]


def _hostile() -> dict[str, Answer]:
    """Return a site of 40 records, which four mazes surround.

    Every page has a session in its links, and leads into a calendar without end, folders that nest
    without end, and a shop's filters in every combination and order.
    """
    sessions = 0

    def link(path: str) -> str:
        nonlocal sessions
        sessions += 1
        mark = "&" if "?" in path else "?"
        return f'<a href="{path}{mark}PHPSESSID={sessions:032x}">x</a>'

    def around() -> str:
        return "".join(
            (
                link("/calendar?year=2024&month=1"),
                link("/nest/deeper/"),
                *(link(f"/shop?{facet}={n}") for facet in FACETS for n in range(20)),
                '<img src="/logo.png">',
            )
        )

    def calendar(path: str) -> str:
        query = parse_qs(urlsplit(path).query)
        months = int(query["year"][0]) * 12 + int(query["month"][0])
        near = (divmod(months + step, 12) for step in (1, 2, 12))
        return around() + "".join(link(f"/calendar?year={y}&month={m}") for y, m in near)

    def shop(path: str) -> str:
        query = urlsplit(path).query.split("&PHPSESSID")[0]
        return around() + "".join(link(f"/shop?{query}&{facet}=1") for facet in FACETS)

    def nest(path: str) -> str:
        here = urlsplit(path).path
        return around() + link(f"{here}deeper/") + link(f"{here}wider/")

    def listing(path: str) -> str:
        number = int(parse_qs(urlsplit(path).query)["page"][0])
        items = (link(f"/record/{n}") for n in range(number * 10, number * 10 + 10))
        following = link(f"/list?page={number + 1}") if number < 3 else ""
        return around() + "".join(items) + following

    def record(path: str) -> str:
        name = urlsplit(path).path.rsplit("/", 1)[-1]
        return around() + f'<img src="/pictures/{name}.jpg">'

    def any_nest(depth: int) -> dict[str, Answer]:
        paths = ["/nest/deeper/"]
        answers: dict[str, Answer] = {}
        for _ in range(depth):
            answers |= dict.fromkeys(paths, nest)
            paths = [f"{path}{step}/" for path in paths for step in ("deeper", "wider")]
        return answers

    return {
        "/": lambda path: around() + link("/list?page=0"),
        "/calendar": calendar,
        "/shop": shop,
        "/list": listing,
        **any_nest(9),
        **{f"/record/{n}": record for n in range(40)},
    }


def test_a_hostile_site_comes_to_an_end_with_all_its_pictures(tmp_path: Path) -> None:
    """The mazes are left after a while, and do not use up the pages that the records need."""
    with serving(_hostile()) as site:
        source = Source(name="maze", start=(site.url("/"),), max_pages=300, allow_private=True)
        stats = discover(source, CrawlPolicy(delay_s=0), tmp_path / "ledger.sqlite")
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            found = {link.url.removeprefix(site.address) for link in ledger.links()}
        assert found == {"/logo.png", *(f"/pictures/{n}.jpg" for n in range(40))}
        assert stats.pages < 300
        assert stats.unvisited > 0
        # Sessions make no other page: what was asked for is all different without them.
        pages = [path for path, _ in site.requests if "PHPSESSID" in path]
        assert len({without_session(site.url(path)) for path in pages}) == len(pages)
