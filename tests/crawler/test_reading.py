"""When a page as served shows too little, so that `auto` has the browser look."""

from __future__ import annotations

import pytest

from crawler.ledger import Page
from crawler.spiders.reading import as_scrapy, read_response

PAGE = Page(url="http://s/", parent="http://s/", depth=0)
SCRIPT = "<script src=/app.js></script>"
PICTURE = "<img src=/a.jpg>"


def _wants_browser(html: str) -> bool:
    headers = (("Content-Type", "text/html"),)
    response = as_scrapy(PAGE.url, 200, headers, html.encode())
    return read_response(PAGE, response, user_agent="cratedig").wants_browser


@pytest.mark.parametrize(
    "html",
    [
        "<p>no picture</p>",
        '<meta property="og:image" content="/preview.jpg">',
        '<img src="/img/placeholder.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
        f'{PICTURE}<div id="root"></div>',
        f'{PICTURE}<main class="x" id=__next> </main>',
        f"{PICTURE}<app-root></app-root>",
    ],
)
def test_the_browser_looks_where_scripts_may_show_more(html: str) -> None:
    assert _wants_browser(html + SCRIPT)


@pytest.mark.parametrize(
    "html",
    [
        "<p>no picture, and no script</p>",
        f"{PICTURE}{SCRIPT}",
        f'{PICTURE}<div id="root"><p>drawn by the server</p></div>{SCRIPT}',
        "".join(f"<img src=/{n}.jpg>" for n in range(4)) + f'<div id="root"></div>{SCRIPT}',
        '<img src="/a.jpg" data-src="/b.jpg">' + SCRIPT,
    ],
)
def test_the_browser_is_not_started_where_the_page_shows_enough(html: str) -> None:
    assert not _wants_browser(html)
