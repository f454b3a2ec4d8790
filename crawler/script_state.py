"""Pictures in the JSON that a page's scripts carry: a shop's products, a gallery's slides.

Nothing is run: JSON is parsed wherever it stands whole (`__NEXT_DATA__`, `window.__STATE__ = {...}`,
`JSON.parse("...")`, `push([...])`), and what cannot be parsed is searched for quoted addresses. An
address counts by its file name, or by the key that it has; avatars, icons and logos never do.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lxml import html

from crawler.about import About
from crawler.addresses import Addresses
from crawler.elements import element_pictures
from crawler.filenames import (
    names_ornament,
    names_other_file,
    names_page,
    names_picture,
    names_placeholder,
)
from crawler.markup import parse_html, words
from crawler.sightings import SHOWN, Sight

# All scripts of one page together: enough for the largest shops', and read within a second.
_MAX_CHARACTERS = 4_000_000
_MAX_NODES = 200_000
_MAX_PICTURES = 2_000
# JSON within a string within JSON happens; deeper is not looked.
_MAX_NESTED = 2

# What begins as JSON does; most of what a program assigns does not.
_WHOLE_JSON = re.compile(
    r"(?:=|\(|\breturn\b)\s*(?=\{\s*[\"}]|\[\s*[\"{\[\]\d])|JSON\.parse\(\s*(?=\")"
)
_QUOTED_NAME = re.compile(
    r"""["']([^"'\s<>{}|]{1,2000}?\.(?:jpe?g|png|webp|avif|gif|bmp|tiff?)(?:\?[^"'\s<>{}|]{0,2000}?)?)\\*["']""",
    re.IGNORECASE,
)
_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_ABSOLUTE = re.compile(r"^(?:https?:)?//[^/\s]", re.IGNORECASE)
_PATH = re.compile(r"^(?:(?:https?:)?//[^/\s]|\.{0,2}/)[^\s<>\"'{}|]+$", re.IGNORECASE)
_PICTURE_KEY = re.compile(
    r"^(?:(?:main|large|full|original|hero|cover|featured|product|poster|preview|background|og|big|high|hi)"
    r"[_-]?(?:res)?[_-]?)?(?:images?|img|photos?|pictures?|pics?|poster|cover|artwork|hero)"
    r"(?:[_-]?(?:large|full|original|main))?[_-]?(?:ur[li]|src|href|link|file|path)?s?$",
    re.IGNORECASE,
)
_OTHER_KEY = re.compile(
    r"avatar|icon|logo|sprite|pixel|beacon|badge|flag|emoji|placeholder|lqip|blur|tracking",
    re.IGNORECASE,
)
# Keys under which one picture lies in several sizes, the largest last.
_SIZES = (
    "tiny", "xs", "icon", "thumb", "thumbnail", "sm", "small", "s", "md", "medium", "m", "default",
    "regular", "standard", "lg", "large", "l", "xl", "xlarge", "xxl", "huge", "big", "zoom", "hd",
    "full", "raw", "original", "orig",
)  # fmt: skip
# Keys that say nothing of their own: what holds them counts.
_ADDRESS_KEYS = frozenset({"url", "src", "uri", "href", "path", "file", "source", "@id"})


def script_pictures(document: html.HtmlElement, addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures that the JSON in a page's scripts names, each as its addresses."""
    left = _MAX_CHARACTERS
    found = 0
    for script in document.iter("script"):
        text = script.text or ""
        kind = script.get("type", "").split(";")[0].strip().lower()
        is_state = runs(script) or "json" in kind or "x-magento" in kind
        if not is_state or kind == "application/ld+json" or len(text) > left:
            continue
        left -= len(text)
        for group in _State(addresses).of_script(text):
            yield group
            found += bool(group)
            if found == _MAX_PICTURES:
                return


def runs(script: html.HtmlElement) -> bool:
    """Return whether a browser runs this script element."""
    kind = script.get("type", "").strip().lower()
    return kind in {"", "module"} or kind.endswith(("javascript", "ecmascript"))


def pictures_in_text(text: str) -> Iterator[str]:
    """Yield the quoted addresses in `text` that name a picture, unescaped, as they are written."""
    for match in _QUOTED_NAME.finditer(text):
        raw = _UNICODE_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), match[1])
        raw = raw.replace("\\", "")
        if _PATH.match(raw):
            yield raw


@dataclass(frozen=True, slots=True)
class _State:
    addresses: Addresses

    def of_script(self, text: str) -> Iterator[list[Sight]]:
        """Yield the pictures of one script: of the JSON that stands whole in it, then of the rest."""
        decoder = json.JSONDecoder(strict=False)
        rest: list[str] = []
        start = position = 0
        # A script can be written so that much of it parses from many places, and never ends.
        patience = _MAX_CHARACTERS
        if text.lstrip()[:1] in {"{", "["}:
            text = "=" + text
        while (match := _WHOLE_JSON.search(text, position)) and patience > 0:
            position = match.end()
            try:
                value, end = decoder.raw_decode(text, position)
            except json.JSONDecodeError as error:
                # The error counts the lines before it, which is quick, but adds up.
                patience -= error.pos - position + error.pos // 50
                continue
            except RecursionError:
                patience -= 10_000
                continue
            yield from self._of_value(value, nested=0)
            rest.append(text[start:position])
            start = position = end
        rest.append(text[start:])
        for piece in rest:
            for raw in pictures_in_text(piece):
                yield list(self._sight(raw, "", About(), ""))

    def _of_value(self, root: object, *, nested: int) -> Iterator[list[Sight]]:
        """Walk parsed JSON in its order."""
        left: list[tuple[str, object, Mapping[str, Any]]] = [("", root, {})]
        for _ in range(_MAX_NODES):
            if not left:
                return
            key, value, holder = left.pop()
            if isinstance(value, str):
                if nested < _MAX_NESTED and ('"' in value or "<img" in value):
                    yield from self._of_string(value, nested=nested + 1)
                else:
                    yield list(self._sight(value, key, _said(holder), _alt(holder)))
            elif isinstance(value, list):
                left += [(key, each, holder) for each in reversed(value)]
            elif isinstance(value, dict):
                sizes = self._sizes(value, key)
                if sizes:
                    yield sizes
                left += [
                    (key if name.lower() in _ADDRESS_KEYS else name, each, value)
                    for name, each in reversed(value.items())
                    if not (sizes and name.lower() in _SIZES)
                ]

    def _of_string(self, text: str, *, nested: int) -> Iterator[list[Sight]]:
        """Yield the pictures of a string that is JSON, or HTML, or has addresses in it."""
        if text.lstrip()[:1] in {"{", "["}:
            try:
                value = json.loads(text, strict=False)
            except (ValueError, RecursionError):
                pass  # then it is some other text
            else:
                yield from self._of_value(value, nested=nested)
                return
        if "<img" in text:
            for group in element_pictures(parse_html(text), self.addresses):
                yield [
                    dataclasses.replace(each, found_by="script")
                    for each in group
                    if not names_placeholder(each.url)
                ]
            return
        for raw in pictures_in_text(text):
            yield list(self._sight(raw, "", About(), ""))

    def _sizes(self, node: Mapping[str, Any], key: str) -> list[Sight]:
        """Return the addresses of a picture that `node` holds in several sizes; none if it does not."""
        sights: list[Sight] = []
        for name, value in node.items():
            if name.lower() in _SIZES:
                size = value if isinstance(value, dict) else {"url": value}
                raw = size.get("url") or size.get("src")
                if isinstance(raw, str):
                    rank = float(_SIZES.index(name.lower()))
                    sights += self._sight(raw, key or "image", _said(size), _alt(node), rank)
        return sights if len(sights) > 1 else []

    def _sight(
        self, raw: str, key: str, about: About, alt: str, size: float = 0
    ) -> Iterator[Sight]:
        """Yield `raw` if it is the address of a picture."""
        if len(raw) > 4000 or _OTHER_KEY.search(key) or names_ornament(raw):
            return
        called_picture = bool(_PICTURE_KEY.match(key))
        if not (_PATH.match(raw) or (called_picture and not re.search(r"\s", raw))):
            return
        url = self.addresses.resolve(raw)
        if url is None or names_other_file(url):
            return
        if names_picture(url) or (called_picture and _ABSOLUTE.match(raw) and not names_page(url)):
            yield Sight(url, "script", alt, about, (SHOWN, size))


def _said(node: Mapping[str, Any]) -> About:
    width, height = (
        value if isinstance(value := node.get(name), int) and 0 < value < 10**6 else None
        for name in ("width", "height")
    )
    caption = node.get("caption")
    return About(
        width=width,
        height=height,
        caption=words(caption) if isinstance(caption, str) else "",
    )


def _alt(node: Mapping[str, Any]) -> str:
    for name in ("alt", "altText", "alt_text", "title", "name"):
        if isinstance(value := node.get(name), str):
            return words(value)
    return ""
