"""Politeness, as it is set."""

from __future__ import annotations

import pytest

from crawler.settings import CrawlPolicy, require_contact, scrapy_settings
from crawler.sources import Source, SourceInvalid

LOOPBACK = Source(
    name="local", start=("http://127.0.0.1:8000/", "http://localhost/", "http://[::1]/")
)
PUBLIC = Source(name="shop", start=("http://127.0.0.1/", "https://shop.example/"))


def test_the_user_agent_says_who_we_are_and_where_to_complain() -> None:
    agent = CrawlPolicy(contact="https://me.example/bot").user_agent
    assert agent.startswith("cratedig/")
    assert agent.endswith(" (+https://me.example/bot)")


def test_a_public_site_is_not_crawled_anonymously() -> None:
    """One public host among the start addresses is enough to need a contact."""
    with pytest.raises(SourceInvalid, match=r"shop\.example anonymously"):
        require_contact(PUBLIC, CrawlPolicy())
    with pytest.raises(SourceInvalid, match="contact"):
        scrapy_settings(PUBLIC, CrawlPolicy())
    require_contact(PUBLIC, CrawlPolicy(contact="me@example.org"))


def test_loopback_needs_no_contact() -> None:
    require_contact(LOOPBACK, CrawlPolicy())


def test_scrapy_is_told_the_policy() -> None:
    settings = scrapy_settings(LOOPBACK, CrawlPolicy(concurrency_per_host=2))
    assert settings["CONCURRENT_REQUESTS_PER_DOMAIN"] == 2
    assert settings["ROBOTSTXT_OBEY"]


def test_nothing_of_scrapy_listens() -> None:
    settings = scrapy_settings(LOOPBACK, CrawlPolicy())
    assert not settings["TELNETCONSOLE_ENABLED"]
    assert not settings["REMOTE_CONTROL_ENABLED"]


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency_per_host": 0},
        {"delay_s": -1.0},
        {"timeout_s": 0},
        {"max_bytes": 0},
        {"contact": "me\r\nX-Evil: 1"},
    ],
)
def test_a_limit_out_of_range_is_refused(limits: dict[str, float | str]) -> None:
    with pytest.raises(SourceInvalid):
        CrawlPolicy(**limits)  # type: ignore[arg-type]  # wrong on purpose
