"""Sources that mean something, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from crawler.sources import Source, SourceInvalid


def _source(**fields: Any) -> Source:  # noqa: ANN401  # any field may be the wrong one
    return Source(**{"name": "shop", "start": ("https://shop.example/",), **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "My Shop"}, "'My Shop'"),
        ({"name": "-x"}, "'-x'"),
        ({"start": ()}, "no start address"),
        ({"start": ("shop.example",)}, "'shop.example'"),
        ({"start": ("file:///etc/passwd",)}, "'file:///etc/passwd'"),
        ({"start": ("data:image/png;base64,AA",)}, "no http"),
        ({"start": ("http://[::1",)}, "no http"),
        ({"allow": ("(",)}, "'('"),
        ({"deny": ("*",)}, "regex"),
        ({"max_depth": -1}, "max_depth"),
        ({"max_pages": 0}, "max_pages"),
        ({"max_minutes": 0.0}, "max_minutes"),
        ({"stop_after_known": 0}, "stop_after_known"),
        ({"table": "urls.csv"}, "'urls'"),
    ],
)
def test_a_source_that_cannot_mean_anything_is_refused(fields: dict[str, Any], said: str) -> None:
    """The sentence names what is wrong."""
    with pytest.raises(SourceInvalid, match=said.replace("(", r"\(").replace("*", r"\*")):
        _source(**fields)


def test_a_list_may_hold_data_addresses() -> None:
    assert _source(kind="urls", start=("data:image/png;base64,AA",)).kind == "urls"


def test_a_table_stands_for_start_addresses() -> None:
    assert _source(kind="urls", start=(), table="urls.csv").start == ()


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://shop.example/records/1", True),
        ("https://shop.example/about", False),
        ("https://shop.example/records/1?print=1", False),
    ],
)
def test_allow_and_deny_are_searched_and_deny_wins(url: str, wanted: bool) -> None:
    assert _source(allow=("/records/",), deny=("print=",)).wants_page(url) is wanted
