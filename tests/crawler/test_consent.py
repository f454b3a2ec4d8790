"""What headers and meta elements forbid."""

from __future__ import annotations

import pytest
from lxml import html

from crawler.consent import (
    UNSAID,
    Consent,
    Signal,
    consent_from_headers,
    consent_from_html,
    may_follow_links,
)
from crawler.rejections import Reason

AGENT = "cratedig/0.1.0 (+https://otherbot.example)"
URL = "https://shop.example/a.jpg"


def _header(*values: str, name: str = "X-Robots-Tag") -> Consent:
    return consent_from_headers([(name, value) for value in values], url=URL, user_agent=AGENT)


def _meta(meta: str) -> Consent:
    document = html.document_fromstring(f"<html><head>{meta}</head><body>x</body></html>")
    return consent_from_html(document, url=URL, user_agent=AGENT)


@pytest.mark.parametrize(
    "values",
    [
        ("noai",),
        ("noimageai",),
        ("noindex",),
        ("noimageindex",),
        ("none",),
        ("NoAI",),
        ("nofollow, noai",),
        ("max-image-preview: large, noai",),
        ("cratedig: noai",),
        ("CrateDig: none",),
        ("*: noai",),
        ("index", "noai"),
        ("otherbot: index, nofollow, cratedig: noindex",),
    ],
)
def test_x_robots_tag_forbids(values: tuple[str, ...]) -> None:
    """Each forbidding token counts, for all agents or for ours, in any of several headers."""
    consent = _header(*values)
    assert not consent.allowed
    assert consent.reason is Reason.X_ROBOTS_TAG
    assert all(signal.where == URL for signal in consent.signals)


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("all",),
        ("index, follow",),
        ("noarchive, nosnippet",),
        ("max-image-preview: none-such",),
        ("otherbot: noai",),
        ("otherbot: noindex, noai",),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST",),
    ],
)
def test_x_robots_tag_allows(values: tuple[str, ...]) -> None:
    """Other directives, and those meant for another agent, forbid nothing.

    The agent is our product token: the contact address in the user agent names another bot here.
    """
    assert _header(*values) == UNSAID


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ('<meta name="robots" content="noai">', Reason.META_ROBOTS),
        ('<meta name="ROBOTS" content="NOINDEX,NOFOLLOW">', Reason.META_ROBOTS),
        ('<meta name="robots" content="noai noimageai">', Reason.META_ROBOTS),
        ('<meta name="cratedig" content="none">', Reason.META_ROBOTS),
        ('<meta name="tdm-reservation" content="1">', Reason.TDMREP),
        ('<meta name="tdm-reservation" content="0">', None),
        ('<meta name="robots" content="index, follow">', None),
        ('<meta name="googlebot" content="noindex">', None),
        ('<meta name="description" content="none">', None),
        ('<meta property="og:title" content="noai">', None),
    ],
)
def test_meta_elements(meta: str, reason: Reason | None) -> None:
    """Meta robots count when they address all agents or ours; TDMRep only when it reserves."""
    consent = _meta(meta)
    assert consent.reason is reason
    assert consent.allowed is (reason is None)


def test_tdm_reservation_header() -> None:
    """TDMRep's header forbids with the value 1 alone."""
    assert _header("1", name="tdm-reservation").reason is Reason.TDMREP
    assert _header("0", name="tdm-reservation") == UNSAID


@pytest.mark.parametrize(
    ("meta", "tag", "may"),
    [
        ("", "", True),
        ("nofollow", "", False),
        ("none", "", False),
        ("noai", "", True),
        ("", "nofollow", False),
        ("", "otherbot: nofollow", True),
    ],
)
def test_links_are_left_alone_where_a_page_asks_so(meta: str, tag: str, may: bool) -> None:
    document = html.document_fromstring(f'<meta name="robots" content="{meta}"><p>x')
    assert may_follow_links(document, [("X-Robots-Tag", tag)], user_agent=AGENT) is may


def test_a_refusal_wins_when_consents_are_merged() -> None:
    """Whichever side it comes from, and with the evidence of both."""
    refusal, permission = _header("noai"), Consent()
    assert not refusal.merge(permission).allowed
    assert not permission.merge(refusal).allowed
    both = refusal.merge(_meta('<meta name="robots" content="none">'))
    assert [signal.kind for signal in both.signals] == ["x-robots-tag", "meta-robots"]


def test_consent_survives_json() -> None:
    """It is stored in the image's row as the evidence."""
    signal = Signal(kind="robots.txt", value="disallows /ä", where=URL)
    consent = Consent(allowed=False, signals=(signal,))
    assert Consent.from_json(consent.to_json()) == consent
