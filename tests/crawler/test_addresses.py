"""One spelling for one address, and two for two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.addresses import Addresses, page_address, spelling_key, web_address

BASE = Addresses("https://shop.example/records/list.html?page=1")


@pytest.mark.parametrize(
    ("raw", "resolved"),
    [
        ("a.jpg#top", "https://shop.example/records/a.jpg"),
        ("HTTPS://Shop.Example:443/A.jpg", "https://shop.example/A.jpg"),
        ("http://shop.example:80", "http://shop.example/"),
        ("http://shop.example:8080/a", "http://shop.example:8080/a"),
        ("http://[::1]:80/a", "http://[::1]/a"),
        ("https://bücher.example/ä b.jpg", "https://xn--bcher-kva.example/%C3%A4%20b.jpg"),
        ("https://shop.example/x/../a/./b.jpg", "https://shop.example/a/b.jpg"),
        ("https://shop.example/../../a.jpg", "https://shop.example/a.jpg"),
        ("https://shop.example/a/..", "https://shop.example/"),
        ("https://shop.example/a/.", "https://shop.example/a/"),
        ("https://shop.example/.well-known/a", "https://shop.example/.well-known/a"),
        ("//cdn.example/a//b.jpg", "https://cdn.example/a//b.jpg"),
        ("a\\b.jpg", "https://shop.example/records/a/b.jpg"),
        ("a%2fb%7Ec.jpg?x=%2f&y=", "https://shop.example/records/a%2fb%7Ec.jpg?x=%2f&y="),
        ("a.jpg?utm_source=x", "https://shop.example/records/a.jpg?utm_source=x"),
        ("{{ image }}", None),
        ("/img/${name}.jpg", None),
        ("ftp://shop.example/a.jpg", None),
        ("https://shop.example:port/a", None),
        ("", None),
    ],
)
def test_how_an_address_is_spelled(raw: str, resolved: str | None) -> None:
    assert BASE.resolve(raw) == resolved


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/a%2fb.jpg", "/a%2Fb.jpg", True),
        ("/a.jpg?w=9&utm_source=x", "/a.jpg?w=9", True),
        ("/a.jpg?fbclid=1", "/a.jpg", True),
        ("/a.jpg?w=9", "/a.jpg?w=8", False),
        ("/a.jpg", "/A.jpg", False),
        ("/a.jpg", "/a.jpg?v=2", False),
        ("/%7Ea.jpg", "/~a.jpg", False),
        ("/a//b.jpg", "/a/b.jpg", False),
        ("/a.jpg?x=1&y=2", "/a.jpg?y=2&x=1", False),
        ("http://shop.example/a.jpg", "https://shop.example/a.jpg", False),
        ("https://shop.example/a.jpg", "https://www.shop.example/a.jpg", False),
    ],
)
def test_which_addresses_are_the_same(one: str, other: str, same: bool) -> None:
    """Distinct pictures stay distinct: what a server may tell apart is told apart."""
    first, second = BASE.resolve(one), BASE.resolve(other)
    assert first is not None
    assert second is not None
    assert (spelling_key(first) == spelling_key(second)) is same


def test_a_page_address_says_nothing_of_where_its_visitor_came_from() -> None:
    """All else stays, in its order."""
    url = "https://shop.example/a?b=1&utm_source=x&UTM_Campaign=y&gclid=z&page=2&utm=kept&empty="
    assert page_address(url) == "https://shop.example/a?b=1&page=2&utm=kept&empty="


@given(st.text(alphabet=st.sampled_from("ahtps:/.?#&=%27EeFf@[]~ ä\\"), max_size=40))
def test_an_address_that_is_resolved_stays_as_it_is(text: str) -> None:
    resolved = BASE.resolve(text)
    if resolved is not None:
        assert web_address(resolved) == resolved
        assert page_address(page_address(resolved)) == page_address(resolved)
