"""What a site says about the use of its pages and pictures, kept as evidence.

Read here: `X-Robots-Tag` headers, meta robots, and TDMRep's header and meta element. robots.txt is
`crawler/robots.py`. A signal that forbids wins over any number that allow.

Sources: developers.google.com/search/docs/crawling-indexing/robots-meta-tag (syntax and scoping of
X-Robots-Tag and meta robots), www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510 (TDMRep);
`noai` and `noimageai` are DeviantArt's proposal of 2022.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lxml import html

from crawler.rejections import Reason

PRODUCT = "cratedig"
"""The product token by which sites address us, in robots.txt as in X-Robots-Tag."""

FORBIDDING = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""Tokens of X-Robots-Tag and meta robots with which a site keeps its pictures to itself."""

_NO_FOLLOW = frozenset({"nofollow", "none"})
# "name: rest" in X-Robots-Tag is an agent's name, except for these directives, which take a value.
_VALUED = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview", "tdm-policy"}
)
_SCOPED = re.compile(r"^\s*([A-Za-z][\w.*-]*|\*)\s*:\s*(.*)$", re.DOTALL)

_REASONS = {
    "robots.txt": Reason.ROBOTS_TXT,
    "x-robots-tag": Reason.X_ROBOTS_TAG,
    "meta-robots": Reason.META_ROBOTS,
    "tdmrep": Reason.TDMREP,
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Signal:
    """One statement that forbids, as it was seen."""

    kind: str
    """`robots.txt`, `x-robots-tag`, `meta-robots` or `tdmrep`."""
    value: str
    where: str
    """The address that said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Whether a picture may be taken, and the statements that decided it."""

    allowed: bool = True
    signals: tuple[Signal, ...] = ()

    @property
    def reason(self) -> Reason | None:
        """The reason to reject with: that of the first signal; None when allowed."""
        if self.allowed or not self.signals:
            return None
        return _REASONS[self.signals[0].kind]

    def merge(self, other: Consent) -> Consent:
        """Return both together: allowed only if both allow; signals united, ours first."""
        if not other.signals and other.allowed:
            return self
        signals = tuple(dict.fromkeys((*self.signals, *other.signals)))
        return Consent(allowed=self.allowed and other.allowed, signals=signals)

    def to_json(self) -> str:
        """Return the evidence as one line of JSON, the same for the same consent."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Consent:
        """Return what `to_json` wrote."""
        fields = json.loads(text)
        signals = tuple(Signal(**signal) for signal in fields["signals"])
        return cls(allowed=fields["allowed"], signals=signals)


UNSAID = Consent()
"""Nothing was said, so nothing is forbidden."""


Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""A response's headers: a (multi-)dict, or pairs in which a name may come several times."""


def consent_from_headers(headers: Headers, *, url: str, user_agent: str) -> Consent:
    """Return what a response's X-Robots-Tag and tdm-reservation headers say to `user_agent`.

    Names ignore case.
    """
    signals = _signals("x-robots-tag", _robots_tags(headers, user_agent) & FORBIDDING, url)
    for name, value in _pairs(headers):
        if name.lower() == "tdm-reservation" and value.strip() == "1":
            signals.append(Signal(kind="tdmrep", value="tdm-reservation: 1", where=url))
    return _consent(signals)


def consent_from_html(document: html.HtmlElement, *, url: str, user_agent: str) -> Consent:
    """Return what a page's meta elements say to `user_agent` about the page's pictures."""
    signals: list[Signal] = []
    for name, content in _metas(document):
        if name in {"robots", _product(user_agent)}:
            signals += _signals("meta-robots", _tokens(content) & FORBIDDING, url)
        elif name == "tdm-reservation" and content.strip() == "1":
            signals.append(Signal(kind="tdmrep", value="tdm-reservation: 1", where=url))
    return _consent(signals)


def may_follow_links(
    document: html.HtmlElement, headers: Headers = (), *, user_agent: str = PRODUCT
) -> bool:
    """Return False if the page's meta robots or X-Robots-Tag ask that its links be left alone."""
    said = _robots_tags(headers, user_agent)
    for name, content in _metas(document):
        if name in {"robots", _product(user_agent)}:
            said |= _tokens(content)
    return not said & _NO_FOLLOW


def _consent(signals: list[Signal]) -> Consent:
    return Consent(allowed=not signals, signals=tuple(dict.fromkeys(signals)))


def _signals(kind: str, tokens: Iterable[str], where: str) -> list[Signal]:
    return [Signal(kind=kind, value=token, where=where) for token in sorted(tokens)]


def _product(user_agent: str) -> str:
    """Return the product token by which a site addresses us: `cratedig`."""
    return user_agent.split("/", 1)[0].strip().lower()


def _robots_tags(headers: Headers, user_agent: str) -> set[str]:
    said: set[str] = set()
    for name, value in _pairs(headers):
        if name.lower() == "x-robots-tag":
            said |= _said_to(_product(user_agent), value)
    return said


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _said_to(product: str, value: str) -> set[str]:
    """Return the directives of one X-Robots-Tag value that are meant for `product` or for all.

    A name with a colon opens a scope that lasts to the next one: `otherbot: noindex, nofollow`
    does not concern us at all.
    """
    concerns_us = True
    said: set[str] = set()
    for part in value.split(","):
        directive = part
        scoped = _SCOPED.match(part)
        if scoped and scoped[1].lower() not in _VALUED:
            concerns_us = scoped[1].lower() in {product, "*"}
            directive = scoped[2]
        if concerns_us:
            said |= _tokens(directive)
    return said


def _tokens(text: str) -> set[str]:
    return {token.lower() for token in re.split(r"[\s,;]+", text) if token}


def _metas(document: html.HtmlElement) -> Iterator[tuple[str, str]]:
    for meta in document.iter("meta"):
        yield meta.get("name", "").strip().lower(), meta.get("content", "")
