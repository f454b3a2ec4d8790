"""Pictures out of style sheets."""

from __future__ import annotations

import time

import pytest

from crawler.css import imported_sheets, sheet_images

SHEET = "https://shop.example/css/main.css"


@pytest.mark.parametrize(
    ("css", "names"),
    [
        (".a { background: #fff url(a.jpg) no-repeat }", ["a.jpg"]),
        (".a{background-image:url('../img/a.jpg')}", ["../img/a.jpg"]),
        ("@media screen { .a { BACKGROUND : URL( \"a.jpg\" ) } }", ["a.jpg"]),
        (".a{background:url(a.jpg),url(b.jpg)}", ["a.jpg", "b.jpg"]),
        (".a{background:url(a.jpg)} .b{background:url(a.jpg)}", ["a.jpg"]),
        (".a{background-image:image-set(url(s.jpg) 1x, url(l.jpg) 2x)}", ["l.jpg"]),
        (".a{background:-webkit-image-set(url(s.jpg) 96dpi, url(l.jpg) 192dpi)}", ["l.jpg"]),
        (".a::before{content:url(a.jpg)}", ["a.jpg"]),
        (":root{--hero:url(a.jpg)}", ["a.jpg"]),
        (r".a{background:url(a\ b\28 1\29.jpg)}", ["a%20b(1).jpg"]),
        ("/* .a{background:url(a.jpg)} */", []),
        ("@font-face{src:url(a.woff2)} .a{cursor:url(a.cur)} @import url(b.css);", []),
        (".a{background:url()} .b{background:url(#g)} .c{background:none}", []),
        ("@import 'a.jpg' .a{", []),
        ("", []),
    ],
)  # fmt: skip
def test_pictures_of_a_sheet(css: str, names: list[str]) -> None:
    """Each once, at its finest, relative to the sheet and not to the page."""
    addresses = [name.replace("../img", "https://shop.example/img") for name in names]
    assert sheet_images(css, SHEET) == [
        each if "://" in each else f"https://shop.example/css/{each}" for each in addresses
    ]


def test_imported_sheets() -> None:
    css = """@charset "utf-8"; @import url(a.css); @import "b.css" screen; /* @import "c.css"; */
      @import url('/d.css');"""
    assert imported_sheets(css, SHEET) == [
        "https://shop.example/css/a.css",
        "https://shop.example/css/b.css",
        "https://shop.example/d.css",
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "background:url(" * 20_000,
        "background:" + "(" * 200_000,
        "background:image-set(" * 20_000,
        ";background:" + '"' * 199_999,
        "/*" * 100_000,
        "@import " * 10_000,
    ],
)
def test_a_hostile_sheet_costs_little(hostile: str) -> None:
    """CPU seconds, not the clock's."""
    started = time.process_time()
    sheet_images(hostile, SHEET)
    imported_sheets(hostile, SHEET)
    assert time.process_time() - started < 4
