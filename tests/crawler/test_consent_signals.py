"""Every way to say yes or no to our use of a picture, in the form that it has in life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from crawler.consent import (
    UNSAID,
    Consent,
    consent_from_file,
    consent_from_headers,
    consent_from_html,
    consent_from_robots_txt,
    consent_from_tdmrep_json,
)
from crawler.content_usage import AIPREF
from crawler.rejections import Reason
from tests.crawler.rights import (
    file_with_xmp,
    jpeg_with_c2pa,
    mining,
    mining_attribute,
    mining_resource,
    png_with_c2pa,
    xmp,
)

AGENT = "cratedig/0.1.0 (+https://owner.example)"
URL = "https://shop.example/pictures/a.jpg?size=2"


def _headers(lines: str) -> Consent:
    pairs = (line.split(": ", 1) for line in lines.splitlines())
    return consent_from_headers([(a, b) for a, b in pairs], url=URL, user_agent=AGENT)


def _page(head: str) -> Consent:
    document = html.document_fromstring(f"<html><head>{head}</head><body>x</body></html>")
    return consent_from_html(document, url=URL, user_agent=AGENT)


def _robots_txt(text: str) -> Consent:
    return consent_from_robots_txt(text, URL, user_agent=AGENT)


def _tdmrep(text: str) -> Consent:
    return consent_from_tdmrep_json(text, URL)


def _file(data: bytes) -> Consent:
    return consent_from_file(data, url=URL)


# Each table: what is said, and the reason to reject with; None where it must not forbid.
_HEADERS = [
    ("X-Robots-Tag: noai", Reason.X_ROBOTS_TAG),
    ("X-Robots-Tag: noimageai, noarchive", Reason.X_ROBOTS_TAG),
    ("x-robots-tag: NOINDEX", Reason.X_ROBOTS_TAG),
    ("X-Robots-Tag: index\nX-Robots-Tag: noimageindex", Reason.X_ROBOTS_TAG),
    ("X-Robots-Tag: cratedig: none", Reason.X_ROBOTS_TAG),
    ("X-Robots-Tag: googlebot: index, cratedig: noai", Reason.X_ROBOTS_TAG),
    ("X-Robots-Tag: googlebot: noindex, noai", None),
    ("X-Robots-Tag: nosnippet, max-image-preview: none", None),
    ("X-Robots-Tag: unavailable_after: 1 Jan 2040 00:00:00 GMT", None),
    ("tdm-reservation: 1", Reason.TDMREP),
    ("TDM-Reservation: 1\nTDM-Policy: https://shop.example/policy.json", Reason.TDMREP),
    ("tdm-reservation: 0", None),
    ("tdm-policy: https://shop.example/policy.json", None),
    ("tdm-reservation: 10", None),
    ("Content-Usage: train-ai=n", Reason.AIPREF),
    ("Content-Usage: search=y, train-ai=n", Reason.AIPREF),
    ("Content-Usage: search=y\nContent-Usage: train-ai=n", Reason.AIPREF),
    ("content-usage: train-ai=n;until=2030, ai-use=y", Reason.AIPREF),
    ("Content-Usage: bots=n", Reason.AIPREF),
    ("Content-Usage: train-ai=y", None),
    ("Content-Usage: train-ai=n, train-ai=y", None),
    ("Content-Usage: search=n, ai-use=n", None),
    ("Content-Usage: train-genai=n", None),
    ('Content-Usage: train-ai="n"', None),
    ("Content-Usage: Train-AI=n", None),
    ("Content-Usage: train-ai=n,", None),
    ("Content-Signal: search=yes, ai-train=no", Reason.AIPREF),
    ("Content-Signal: search=no, ai-input=no, ai-train=yes", None),
    ("Cache-Control: no-transform, noai", None),
]


_METAS = [
    ('<meta name="robots" content="noai, noimageai">', Reason.META_ROBOTS),
    ('<meta name="robots" content="max-image-preview:large"><meta name="ROBOTS" content="NONE">',
     Reason.META_ROBOTS),
    ('<meta name="robots" content="max-image-preview: none">', None),
    ('<meta name="cratedig" content="noindex">', Reason.META_ROBOTS),
    ('<meta name="googlebot" content="noindex"><meta name="robots" content="all">', None),
    ('<meta name="robots" content="nofollow, noarchive">', None),
    ('<meta name="tdm-reservation" content="1">', Reason.TDMREP),
    ('<meta name="tdm-reservation" content="1"><meta name="tdm-policy" content="/p">', Reason.TDMREP),
    ('<meta name="tdm-reservation" content="0">', None),
    ('<link rel="license" href="https://creativecommons.org/licenses/by-nc/4.0/">', None),
]  # fmt: skip

_GROUPS = """User-agent: ExampleBot
Content-Usage: train-ai=y

User-agent: *
User-agent: OtherBot
Sitemap: https://shop.example/sitemap.xml
Allow: /
Content-Usage: {}
"""


_ROBOTS_TXT = [
    (_GROUPS.format("train-ai=n"), Reason.AIPREF),
    (_GROUPS.format("search=y,\ttrain-ai=n # for now"), Reason.AIPREF),
    (_GROUPS.format("/pictures/ train-ai=n"), Reason.AIPREF),
    (_GROUPS.format("/*.jpg?size=\ttrain-ai=n"), Reason.AIPREF),
    (_GROUPS.format("/texts/ train-ai=n"), None),
    (_GROUPS.format("/pictures/a.jpg$ train-ai=n"), None),
    (_GROUPS.format("train-ai=n\nContent-Usage: /pictures/ train-ai=y"), None),
    (_GROUPS.format("train-ai=y\ncontent-usage : /pictures/ train-ai=n"), Reason.AIPREF),
    # Of rules with the same path the more restrictive counts.
    (_GROUPS.format("/pictures/ train-ai=y\nContent-Usage: /pictures/ train-ai=n"), Reason.AIPREF),
    # Our own group stands in for the one that is for everyone.
    (_GROUPS.format("train-ai=n") + "\nUser-agent: cratedig\nAllow: /\n", None),
    (_GROUPS.format("train-ai=y") + "\nUser-agent: CrateDig/1\nContent-Usage: train-ai=n\n", Reason.AIPREF),
    ("User-agent: OtherBot\nContent-Usage: train-ai=n\n", None),
    ("User-agent: *\nContent-Signal: search=yes,ai-train=no,use=reference\nAllow: /", Reason.AIPREF),
    ("User-agent: *\nContent-Signal: ai-input=no\nAllow: /", None),
    ("Content-Usage: train-ai=n", Reason.AIPREF),
    ("User-agent: *\nDisallow: /", None),
    ("<html>not found</html>", None),
]  # fmt: skip

_TDMREP = [
    ('[{"location": "/", "tdm-reservation": 1}]', Reason.TDMREP),
    ('[{"location": "/pictures/*.jpg", "tdm-reservation": 1, "tdm-policy": "https://s/p.json"}]',
     Reason.TDMREP),
    # The first that matches counts.
    ('[{"location": "/pictures/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}]', None),
    ('[{"location": "/", "tdm-reservation": 1}, {"location": "/pictures/", "tdm-reservation": 0}]',
     Reason.TDMREP),
    ('[{"location": "/texts/", "tdm-reservation": 1}]', None),
    ('[{"location": "/pictures/$", "tdm-reservation": 1}]', None),
    ('[{"location": "/*.jpg*size=2$", "tdm-reservation": 1}]', Reason.TDMREP),
    ('[{"location": "/*.jpg$", "tdm-reservation": 1}]', None),
    ('[{"location": "/Pictures/", "tdm-reservation": 1}]', None),
    ('[{"location": "/p%69ctures/", "tdm-reservation": 1}]', Reason.TDMREP),
    ('{"tdm-reservation": 1}', Reason.TDMREP),
    ('[{"location": "/", "tdm-reservation": "1"}]', Reason.TDMREP),
    ('[{"location": "/"}]', None),
    ('[{"location": 7, "tdm-reservation": 1}, null, "x"]', None),
    ("<!doctype html><title>Not found</title>", None),
    ("", None),
]  # fmt: skip

_FILES = [
    (file_with_xmp(mining("DMI-PROHIBITED")), Reason.IPTC),
    (file_with_xmp(mining_attribute("DMI-PROHIBITED-AIMLTRAINING")), Reason.IPTC),
    (file_with_xmp(mining_resource("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING"), "PNG"), Reason.IPTC),
    (file_with_xmp(mining("DMI-PROHIBITED-SEECONSTRAINT"), "WEBP"), Reason.IPTC),
    (file_with_xmp(mining("DMI-PROHIBITED-SEELINKEDRIGHTSEXPR"), "TIFF"), Reason.IPTC),
    (file_with_xmp(mining("DMI-PROHIBITED"), "PNG", compressed=True), Reason.IPTC),
    (file_with_xmp(mining("DMI-PROHIBITED"), "AVIF"), Reason.IPTC),
    (file_with_xmp(mining("DMI-PROHIBITED-GENAIMLTRAINING")), None),
    (file_with_xmp(mining("DMI-ALLOWED")), None),
    (file_with_xmp(mining("DMI-UNSPECIFIED")), None),
    (file_with_xmp(xmp("<dc:rights>no DMI-PROHIBITED here</dc:rights>")), None),
    (jpeg_with_c2pa({"ai_training": "notAllowed"}), Reason.C2PA),
    (jpeg_with_c2pa({"data_mining": "constrained"}, "cawg.training-mining__2"), Reason.C2PA),
    (jpeg_with_c2pa({"ai_training": "notAllowed"}, segment_bytes=100), Reason.C2PA),
    (png_with_c2pa({"ai_inference": "notAllowed", "ai_training": "allowed"}), Reason.C2PA),
    (jpeg_with_c2pa({"ai_generative_training": "notAllowed", "ai_training": "allowed"}), None),
    (png_with_c2pa({"ai_training": "allowed", "data_mining": "allowed"}), None),
    (jpeg_with_c2pa({"ai_training": "notAllowed"}, "c2pa.actions"), None),
    (b"", None),
    (b"\xff\xd8\xff\xd9", None),
]  # fmt: skip

_CASES = [
    *((_headers, said, reason) for said, reason in _HEADERS),
    *((_page, said, reason) for said, reason in _METAS),
    *((_robots_txt, said, reason) for said, reason in _ROBOTS_TXT),
    *((_tdmrep, said, reason) for said, reason in _TDMREP),
    *((_file, said, reason) for said, reason in _FILES),
]


@pytest.mark.parametrize(("read", "said", "reason"), _CASES)
def test_what_forbids_and_what_does_not(
    read: Callable[[Any], Consent], said: str | bytes, reason: Reason | None
) -> None:
    """The reason is that of the statement, which is kept as evidence; without one all is allowed."""
    consent = read(said)
    assert consent.reason is reason
    assert consent.allowed is (reason is None)
    assert bool(consent.signals) is (reason is not None)
    assert all(signal.where.startswith("https://shop.example/") for signal in consent.signals)


def test_the_evidence_says_what_was_read_and_where() -> None:
    """Enough for a person to find the statement again."""
    together = _tdmrep(
        '[{"location": "/", "tdm-reservation": 1, "tdm-policy": "https://s/p"}]'
    ).merge(_robots_txt(_GROUPS.format("train-ai=n")))
    assert [(each.kind, each.value, each.where) for each in together.signals] == [
        ("tdmrep", "tdm-reservation: 1; tdm-policy: https://s/p",
         "https://shop.example/.well-known/tdmrep.json"),
        ("content-usage", "train-ai=n", "https://shop.example/robots.txt"),
    ]  # fmt: skip


def test_which_drafts_are_heeded_can_be_chosen() -> None:
    headers = {"Content-Usage": "train-ai=n", "Content-Signal": "ai-train=no"}
    chosen = consent_from_headers(headers, url=URL, user_agent=AGENT, vocabularies=[AIPREF])
    assert [signal.kind for signal in chosen.signals] == ["content-usage"]
    assert consent_from_headers(headers, url=URL, user_agent=AGENT, vocabularies=()) == UNSAID


_RESERVED = jpeg_with_c2pa({"ai_training": "notAllowed"})
_PROHIBITED = file_with_xmp(mining("DMI-PROHIBITED"), "PNG", compressed=True)


@given(st.data())
def test_a_damaged_file_raises_nothing(data: st.DataObject) -> None:
    """Whatever byte is changed or wherever it is cut off."""
    whole = bytearray(data.draw(st.sampled_from([_RESERVED, _PROHIBITED])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 1200))] = data.draw(st.integers(0, 255))
    consent_from_file(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
