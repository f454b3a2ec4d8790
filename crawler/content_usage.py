"""What a site wants done with its contents, in the words of AIPREF's drafts; pluggable for that.

The header and the robots.txt rule are those of draft-ietf-aipref-attach-05, the words those of
draft-ietf-aipref-vocab-08 (September 2026), which are not final: a vocabulary is a value here, and
what this room heeds is `VOCABULARIES`. Cloudflare's Content Signals (draft-romm-aipref-contentsignals)
say the same by another name.

`train-ai` has come to mean generative models alone; earlier drafts meant any. A site that says
`train-ai=n` is taken at the word. `search` and `ai-use` are not what is done here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from crawler.path_patterns import path_matches


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageVocabulary:
    """One way to say what contents may be used for."""

    field: str
    """The header and the robots.txt rule, lower case."""
    no: str
    """The value that refuses."""
    training: frozenset[str]
    """Labels of the uses that this software makes of a picture."""


AIPREF = UsageVocabulary(
    field="content-usage",
    no="n",
    # `bots` (any automated processing), `ai` and `tdm` are earlier drafts' names.
    training=frozenset({"train-ai", "bots", "ai", "tdm"}),
)
CONTENT_SIGNALS = UsageVocabulary(field="content-signal", no="no", training=frozenset({"ai-train"}))
VOCABULARIES = (AIPREF, CONTENT_SIGNALS)
"""Those that are heeded."""

_KEY = r"[a-z*][a-z0-9_.*-]*"
_ITEM = (
    r'(?:"(?:[^"\\]|\\["\\])*"'
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
    r"|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]|@-?[0-9]{1,15}|:[A-Za-z0-9+/=]*:)"
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_ITEM})?)*"
_MEMBER = re.compile(rf"({_KEY})(?:=({_ITEM}|\([^()]*\)))?{_PARAMETERS}")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def refused_uses(value: str, vocabulary: UsageVocabulary) -> list[str]:
    """Return what a header's value refuses of what is done here, as it says it: `train-ai=n`.

    A structured field dictionary (RFC 9651, 3.2): of a label said twice the last counts, parameters
    and unknown labels are ignored, and what cannot be parsed says nothing at all.
    """
    said = _dictionary(value)
    return [
        f"{label}={answer}"
        for label, answer in said.items()
        if label in vocabulary.training and answer == vocabulary.no
    ]


def refused_in_robots_txt(
    text: str, path: str, product: str, vocabulary: UsageVocabulary
) -> list[str]:
    """Return what robots.txt refuses for `path` (with its query) to the agent named `product`.

    The group is chosen as RFC 9309 has it; of its rules those with the longest matching path count,
    together where there are several. Rules outside any group are meant for everyone.
    """
    matching = [
        (len(pattern), value)
        for pattern, value in _rules(text, product, vocabulary.field)
        if path_matches(pattern, path)
    ]
    longest = max((length for length, _ in matching), default=0)
    refused = (
        use
        for length, value in matching
        if length == longest
        for use in refused_uses(value, vocabulary)
    )
    return list(dict.fromkeys(refused))


def _dictionary(value: str) -> dict[str, str]:
    """Return a dictionary's members as they are written, a bare key as `?1`; none if it is no dictionary."""
    said: dict[str, str] = {}
    text = value.strip(" ")
    position = 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            return {}
        said[member[1]] = member[2] or "?1"
        position = member.end()
        comma = _COMMA.match(text, position)
        if position < len(text) and (comma is None or comma.end() == len(text)):
            return {}
        position = comma.end() if comma else position
    return said


def _rules(text: str, product: str, field: str) -> Iterator[tuple[str, str]]:
    """Yield path pattern and value of the rules named `field` that concern `product`."""
    rules: dict[str, list[tuple[str, str]]] = {}
    agents: list[str] = [""]
    naming = False
    for line in text.lstrip("\ufeff").splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        if name == "user-agent":
            agent = value.lower().partition("/")[0].strip()
            agents = [*agents, agent] if naming else [agent]
            # A group that names us counts even if it has no such rule.
            rules.setdefault(agent, [])
            naming = True
        elif name == field:
            pattern, usage = "", value
            if value.startswith("/"):
                pattern, _, usage = value.replace("\t", " ").partition(" ")
            for agent in agents:
                rules.setdefault(agent, []).append((pattern, usage.strip()))
            naming = False
        elif name != "sitemap":  # which stands anywhere
            naming = False
    yield from rules.get("", [])
    yield from rules.get(product, rules.get("*", []))
