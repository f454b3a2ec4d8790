"""What a site, a page or a file says about the use of its pictures, kept as evidence.

Read here: `X-Robots-Tag` headers, meta robots, TDMRep (header, meta element, tdmrep.json), AIPREF's
`Content-Usage` and Cloudflare's `Content-Signal` (header, robots.txt), and do-not-train statements in
the file (IPTC's plus:DataMining, C2PA and CAWG). What robots.txt allows to be fetched is
`crawler/robots.py`. A signal that forbids wins over any number that allow.

Pictures are taken here to train classifiers and to be judged by them: what is refused to generative
models alone (`DMI-PROHIBITED-GENAIMLTRAINING`, `ai_generative_training`) is not refused.

Sources: developers.google.com/search/docs/crawling-indexing/robots-meta-tag (syntax and scoping of
X-Robots-Tag and meta robots), www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510 (TDMRep);
`noai` and `noimageai` are DeviantArt's proposal of 2022; the others' stand in `content_usage.py` and
`embedded.py`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from lxml import html

from crawler.content_usage import VOCABULARIES, UsageVocabulary, refused_in_robots_txt, refused_uses
from crawler.embedded import EmbeddedRights, read_rights
from crawler.path_patterns import path_matches, path_of
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
_VALUE = re.compile(rf"(?:{'|'.join(sorted(_VALUED))})\s*:\s*[^\s,;]*", re.IGNORECASE)
_SCOPED = re.compile(r"^\s*([A-Za-z][\w.*-]*|\*)\s*:\s*(.*)$", re.DOTALL)

_REASONS = {
    "robots.txt": Reason.ROBOTS_TXT,
    "x-robots-tag": Reason.X_ROBOTS_TAG,
    "meta-robots": Reason.META_ROBOTS,
    "tdmrep": Reason.TDMREP,
    "content-usage": Reason.AIPREF,
    "content-signal": Reason.AIPREF,
    "iptc": Reason.IPTC,
    "c2pa": Reason.C2PA,
}

# PLUS's words that forbid what is done here. Those that point to a constraint elsewhere do: nobody
# has read it.
_PROHIBITED = frozenset(
    {
        "DMI-PROHIBITED",
        "DMI-PROHIBITED-AIMLTRAINING",
        "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING",
        "DMI-PROHIBITED-SEECONSTRAINT",
        "DMI-PROHIBITED-SEEEMBEDDEDRIGHTSEXPR",
        "DMI-PROHIBITED-SEELINKEDRIGHTSEXPR",
    }
)
_TRAINING_ENTRIES = frozenset({"ai_training", "ai_inference", "data_mining"})
# CAWG: without more information "constrained" is to be treated as "notAllowed".
_REFUSED = frozenset({"notAllowed", "constrained"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Signal:
    """One statement that forbids, as it was seen."""

    kind: str
    """`robots.txt`, `x-robots-tag`, `meta-robots`, `tdmrep`, `content-usage`, `content-signal`, `iptc`
    or `c2pa`."""
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


def consent_from_headers(
    headers: Headers,
    *,
    url: str,
    user_agent: str,
    vocabularies: Iterable[UsageVocabulary] = VOCABULARIES,
) -> Consent:
    """Return what a response's headers say to `user_agent`; names ignore case.

    These are X-Robots-Tag, tdm-reservation, and the fields of `vocabularies`, whose values are one
    list however many headers there are.
    """
    signals = _signals("x-robots-tag", _robots_tags(headers, user_agent) & FORBIDDING, url)
    if "1" in _joined(headers, "tdm-reservation").split(", "):
        policy = _joined(headers, "tdm-policy")
        signals.append(_tdm_reservation(policy, url))
    for each in vocabularies:
        signals += _signals(each.field, refused_uses(_joined(headers, each.field), each), url)
    return _consent(signals)


def consent_from_robots_txt(
    text: str,
    url: str,
    *,
    user_agent: str,
    vocabularies: Iterable[UsageVocabulary] = VOCABULARIES,
) -> Consent:
    """Return what a robots.txt says about the use of `url`, which it may well allow to be fetched."""
    where = urljoin(url, "/robots.txt")
    signals: list[Signal] = []
    for each in vocabularies:
        refused = refused_in_robots_txt(text, path_of(url), _product(user_agent), each)
        signals += _signals(each.field, refused, where)
    return _consent(signals)


def consent_from_tdmrep_json(text: str, url: str) -> Consent:
    """Return what a host's `/.well-known/tdmrep.json` says about `url`: its first rule that matches.

    What is no such file says nothing. A rule may stand alone, without the array, and one without a
    location is for the whole host: both are wrong, common, and clearly meant.
    """
    try:
        rules = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return UNSAID
    where = urljoin(url, "/.well-known/tdmrep.json")
    for rule in rules if isinstance(rules, list) else [rules]:
        location = rule.get("location", "/") if isinstance(rule, dict) else None
        if isinstance(location, str) and path_matches(location.strip(), path_of(url)):
            if str(rule.get("tdm-reservation")).strip() != "1":
                return UNSAID
            return _consent([_tdm_reservation(str(rule.get("tdm-policy") or ""), where)])
    return UNSAID


def consent_from_file(data: bytes, *, url: str = "") -> Consent:
    """Return what a picture file says about its own use; never raises. `url` is kept as evidence."""
    return consent_from_rights(read_rights(data), url=url)


def consent_from_rights(rights: EmbeddedRights, *, url: str = "") -> Consent:
    """Return what statements read from a file forbid."""
    signals: list[Signal] = []
    if rights.data_mining.upper() in _PROHIBITED:
        signals += _signals("iptc", [rights.data_mining], url)
    refused = (
        f"{name}: {use}"
        for name, use in rights.training_mining
        if name in _TRAINING_ENTRIES and use in _REFUSED
    )
    return _consent(signals + _signals("c2pa", refused, url))


def consent_from_html(document: html.HtmlElement, *, url: str, user_agent: str) -> Consent:
    """Return what a page's meta elements say to `user_agent` about the page's pictures."""
    signals: list[Signal] = []
    for name, content in _metas(document):
        if name in {"robots", _product(user_agent)}:
            signals += _signals("meta-robots", _directives(content) & FORBIDDING, url)
        elif name == "tdm-reservation" and content.strip() == "1":
            policy = next((each for key, each in _metas(document) if key == "tdm-policy"), "")
            signals.append(_tdm_reservation(policy.strip(), url))
    return _consent(signals)


def may_follow_links(
    document: html.HtmlElement, headers: Headers = (), *, user_agent: str = PRODUCT
) -> bool:
    """Return False if the page's meta robots or X-Robots-Tag ask that its links be left alone."""
    said = _robots_tags(headers, user_agent)
    for name, content in _metas(document):
        if name in {"robots", _product(user_agent)}:
            said |= _directives(content)
    return not said & _NO_FOLLOW


def _consent(signals: list[Signal]) -> Consent:
    return Consent(allowed=not signals, signals=tuple(dict.fromkeys(signals)))


def _signals(kind: str, tokens: Iterable[str], where: str) -> list[Signal]:
    return [Signal(kind=kind, value=token, where=where) for token in sorted(tokens)]


def _tdm_reservation(policy: str, where: str) -> Signal:
    """Return the signal; a policy may offer a licence, which is for a person to read."""
    value = "tdm-reservation: 1" + (f"; tdm-policy: {policy}" if policy else "")
    return Signal(kind="tdmrep", value=value, where=where)


def _joined(headers: Headers, field: str) -> str:
    return ", ".join(value.strip() for name, value in _pairs(headers) if name.lower() == field)


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
            said |= _directives(directive)
    return said


def _directives(text: str) -> set[str]:
    """Return the directives without a value; `max-image-preview: none` is not `none`."""
    text = _VALUE.sub(" ", text)
    return {token.lower() for token in re.split(r"[\s,;]+", text) if token}


def _metas(document: html.HtmlElement) -> Iterator[tuple[str, str]]:
    for meta in document.iter("meta"):
        yield meta.get("name", "").strip().lower(), meta.get("content", "")
