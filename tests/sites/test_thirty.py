"""What reading the HTML finds on the site of thirty kinds, and what it takes a browser for."""

from __future__ import annotations

from crawler.css import sheet_images
from crawler.pages import read_page
from tests.sites.thirty import KINDS, data_url, thirty_html, thirty_sheet

PAGE = "http://site.example/thirty.html"


def _found() -> dict[str, str]:
    """Return the pictures of the page and its sheet by address, and how each was found."""
    content = read_page(thirty_html(), PAGE)
    found = {image.url: image.found_by for image in content.images}
    for sheet in content.style_sheets:
        found |= dict.fromkeys(sheet_images(thirty_sheet(), sheet), "css")
    return found


def _address(name: str) -> str:
    return data_url() if name == "data-url" else f"http://site.example/pictures/{name}.jpg"


def test_every_kind_but_those_that_scripts_make_is_found_without_a_browser() -> None:
    """28 of 30, each by the way it is shown, at its largest, and nothing that is no picture of it.

    Not found: the icon, the counting pixel, the seller's avatar, small versions and stand-ins.
    """
    assert _found() == {_address(kind.name): kind.found_by for kind in KINDS if kind.static}


def test_there_are_thirty_kinds_and_at_least_27_need_no_browser() -> None:
    assert len(KINDS) == len({kind.name for kind in KINDS}) == 30
    assert sum(kind.static for kind in KINDS) >= 27
