"""The test site with thirty ways to show a picture, crawled with and without the browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from crawler.discover import discover
from crawler.ledger import Ledger
from crawler.pages import ImageLink
from crawler.settings import CrawlPolicy
from crawler.sources import Source
from tests.crawler.site import Site
from tests.sites.thirty import GALLERY, KINDS, MORE, data_url, serving_thirty

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Crawl:
    """The site after a crawl, and what was found."""

    site: Site
    links: dict[str, ImageLink]
    """By address."""

    def names(self, prefix: str = "") -> set[str]:
        """Return the names of the pictures found that begin with `prefix`."""
        start = self.site.url("/pictures/")
        found = (url.removeprefix(start).removesuffix(".jpg") for url in self.links)
        return {name for name in found if name.startswith(prefix)}


def _crawl(folder: Path, site: Site, path: str, browser: Literal["never", "always"]) -> Crawl:
    source = Source(
        name="thirty",
        start=(site.url(path),),
        browser=browser,
        max_depth=1 if path == "/" else 0,
        allow_private=True,
    )
    discover(source, CrawlPolicy(delay_s=0), folder / "ledger.sqlite")
    with Ledger(folder / "ledger.sqlite") as ledger:
        return Crawl(site, {link.url: link for link in ledger.links()})


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """All three pages in one crawl with the browser."""
    with serving_thirty() as site:
        yield _crawl(tmp_path_factory.mktemp("shown"), site, "/", "always")


def _missing(crawl: Crawl) -> set[str]:
    found = crawl.names() | ({"data-url"} if data_url() in crawl.links else set())
    return {kind.name for kind in KINDS} - found


def test_the_browser_finds_all_thirty(shown: Crawl) -> None:
    assert _missing(shown) == set()


def test_the_thirty_are_found_at_their_best_and_nothing_else_is(shown: Crawl) -> None:
    """No smaller version, no counting pixel, no placeholder."""
    elsewhere = {name for name in shown.names() if not name.startswith(("gallery-", "more-"))}
    assert elsewhere == {kind.name for kind in KINDS if kind.name != "data-url"} | {data_url()}


def test_the_endless_gallery_is_seen_to_its_end(shown: Crawl) -> None:
    assert shown.names("gallery-") == set(GALLERY)


def test_load_more_is_pressed_until_there_is_no_more(shown: Crawl) -> None:
    assert shown.names("more-") == set(MORE)


def test_no_consent_is_given_and_no_form_sent(shown: Crawl) -> None:
    assert shown.site.asked("/accepted") == 0
    assert shown.site.asked("/subscribed") == 0


def test_without_the_browser_all_are_found_that_no_script_hides(tmp_path: Path) -> None:
    """28 of the thirty, each by the way that the page shows it, the linked sheet's among them."""
    with serving_thirty() as site:
        crawl = _crawl(tmp_path, site, "/thirty.html", "never")
        assert _missing(crawl) == {kind.name for kind in KINDS if not kind.static}
        by_name = {kind.name: kind.found_by for kind in KINDS if kind.static}
        found = {
            name: crawl.links[site.url(f"/pictures/{name}.jpg")].found_by
            for name in by_name
            if name != "data-url"
        }
        assert found == {name: by_name[name] for name in found}
