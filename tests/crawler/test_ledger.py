"""What a run has found, kept so that a kill loses nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from crawler.consent import Consent, Signal
from crawler.ledger import DiscoverStats, Ledger, Page
from crawler.pages import About, ImageLink
from crawler.rejections import Reason, Rejected

START = Page(url="http://s/", parent="http://s/", depth=0)


def _link(name: str, **fields: object) -> ImageLink:
    link = ImageLink(url=f"http://s/{name}.jpg", page_url="http://s/", found_by="img[src]")
    return dataclasses.replace(link, **fields)  # type: ignore[arg-type]  # whatever a test needs


def _page(name: str, depth: int = 1) -> Page:
    return Page(url=f"http://s/{name}", parent="http://s/", depth=depth)


def _refusal(where: str) -> Consent:
    signal = Signal(kind="meta-robots", value="noai", where=where)
    return Consent(allowed=False, signals=(signal,))


def _failure(page: Page, *, transient: bool) -> Rejected:
    return Rejected(
        url=page.url,
        page_url=page.parent,
        reason=Reason.TIMEOUT,
        detail="no answer in time",
        transient=transient,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def test_links_come_back_as_they_were_in_the_order_of_finding(ledger: Ledger) -> None:
    links = [
        _link(
            "b",
            alt="Ä record",
            about=About(title="t"),
            page_title="Shop",
            consent=_refusal("http://s/"),
        ),
        _link("a"),
    ]
    assert ledger.add_links(links) == 2
    assert list(ledger.links()) == links


def test_an_address_is_recorded_once(ledger: Ledger) -> None:
    """The first finding stays."""
    ledger.add_links([_link("a", alt="first")])
    assert ledger.add_links([_link("a", alt="second"), _link("b")]) == 1
    assert [link.alt for link in ledger.links()] == ["first", ""]


def test_a_refusing_page_counts_whenever_it_is_found(tmp_path: Path) -> None:
    """In whatever order the pages come, the picture ends with the same evidence."""
    seen = [
        _link("a"),
        _link("a", consent=_refusal("http://s/1")),
        _link("a", consent=_refusal("http://s/2")),
    ]
    ends = []
    for name, order in (("x", seen), ("y", seen[::-1])):
        with Ledger(tmp_path / name) as ledger:
            for link in order:
                ledger.add_links([link])
            ends.append([link.consent for link in ledger.links()])
    assert ends[0] == ends[1]
    assert not ends[0][0].allowed
    assert len(ends[0][0].signals) == 2


def test_adding_is_all_or_nothing(ledger: Ledger) -> None:
    """What fails in the middle leaves nothing behind."""

    def broken() -> Iterator[ImageLink]:
        yield _link("a")
        raise OSError("the page went away")

    with pytest.raises(OSError, match="went away"):
        ledger.add_links(broken())
    assert list(ledger.links()) == []


def test_more_links_than_one_reading_takes(ledger: Ledger) -> None:
    links = [_link(str(number)) for number in range(1201)]
    ledger.add_links(links)
    assert list(ledger.links()) == links


def test_links_may_be_added_while_they_are_read(ledger: Ledger) -> None:
    ledger.add_links([_link("a")])
    reading = ledger.links()
    assert next(reading).url.endswith("a.jpg")
    ledger.add_links([_link("b")])
    assert [link.url for link in reading] == ["http://s/b.jpg"]


def test_an_unfinished_page_is_still_to_visit_after_reopening(path: Path) -> None:
    """Only finish_page() or reject_page() takes it off the list."""
    with Ledger(path) as ledger:
        ledger.add_pages([START, _page("one")], at_most=9)
        finished = ledger.finish_page(
            START, final_url=START.url, links=[], leads_to=[_page("one"), _page("two")], at_most=9
        )
        assert finished.new_pages == (_page("two"),)
    with Ledger(path) as ledger:
        assert ledger.pages_to_visit() == [_page("one"), _page("two")]


def test_pages_near_the_start_come_first(ledger: Ledger) -> None:
    ledger.add_pages([_page("deep", 3), _page("near", 1)], at_most=9)
    assert [page.url for page in ledger.pages_to_visit()] == ["http://s/near", "http://s/deep"]


def test_no_more_pages_than_allowed(ledger: Ledger) -> None:
    assert len(ledger.add_pages([_page(str(n)) for n in range(5)], at_most=3)) == 3
    assert ledger.add_pages([_page("later")], at_most=3) == []


def test_a_page_that_failed_for_now_is_tried_again(ledger: Ledger) -> None:
    """A lasting failure stays, with its reason; a passing one is forgotten."""
    passing, lasting = _page("passing"), _page("lasting")
    ledger.add_pages([passing, lasting], at_most=9)
    ledger.reject_page(_failure(passing, transient=True))
    ledger.reject_page(_failure(lasting, transient=False))
    assert ledger.pages_to_visit() == []
    ledger.retry_pages()
    assert ledger.pages_to_visit() == [passing]
    assert list(ledger.rejected()) == [_failure(lasting, transient=False)]


def test_a_page_is_recorded_once_whatever_the_visit(ledger: Ledger) -> None:
    """Session parameters make no other page; the address first found is the one to ask for."""
    one, other = _page("a?PHPSESSID=1&b=2"), _page("a?b=2&PHPSESSID=2")
    assert ledger.add_pages([one, other], at_most=9) == [one]


def test_finishing_a_page_tells_what_is_new(ledger: Ledger) -> None:
    """Pictures that an earlier page had are not."""
    ledger.add_pages([START, _page("one")], at_most=9)
    first = ledger.finish_page(
        START, final_url=START.url, links=[_link("a"), _link("b")], leads_to=[], at_most=9
    )
    second = ledger.finish_page(
        _page("one"), final_url="", links=[_link("a"), _link("c")], leads_to=[], at_most=9
    )
    assert (first.new_links, second.new_links) == (2, 1)
    assert list(ledger.pages_done()) == [(START, 2), (_page("one"), 1)]


def test_known_pictures_are_counted_in_a_row_over_pages(path: Path) -> None:
    """A new one begins the count anew; one met before in this crawl counts neither way."""

    def finish(ledger: Ledger, page: Page, names: str) -> int:
        links = [_link(name) for name in names]
        done = ledger.finish_page(page, final_url="", links=links, leads_to=[], at_most=9)
        return done.known_in_a_row

    pages = [_page(name) for name in "123"]
    with Ledger(path) as ledger:
        ledger.add_pages(pages, at_most=9)
        ledger.add_known(f"http://s/{name}.jpg" for name in "bcde")
        assert finish(ledger, pages[0], "xbc") == 2
        assert finish(ledger, pages[1], "bxd") == 3
    with Ledger(path) as ledger:
        assert finish(ledger, pages[2], "ye") == 1


def test_rejections_come_back_as_they_were(ledger: Ledger) -> None:
    rejected = Rejected(
        url="http://s/x",
        page_url="http://s/",
        reason=Reason.ROBOTS_TXT,
        detail="d",
        sha256="ab",
    )
    ledger.add_rejected([rejected, rejected])
    assert list(ledger.rejected()) == [rejected]


def test_the_end_is_remembered_with_its_counts(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add_pages([START, _page("gone")], at_most=9)
        ledger.finish_page(
            START, final_url="http://s/", links=[_link("a")], leads_to=[], at_most=9, browser=True
        )
        ledger.reject_page(_failure(_page("gone"), transient=False))
        assert not ledger.discovered
        ledger.finish_discovery(ledger.stats(1.5))
    with Ledger(path) as ledger:
        assert ledger.discovered
        assert ledger.final_stats() == DiscoverStats(
            pages=1, links=1, rejected_pages=1, browser_pages=1, seconds=1.5
        )


def test_start_addresses_include_where_they_led(ledger: Ledger) -> None:
    ledger.add_pages([START, _page("one")], at_most=9)
    ledger.finish_page(START, final_url="http://www.s/", links=[], leads_to=[], at_most=9)
    assert ledger.start_addresses() == ["http://s/", "http://www.s/"]
