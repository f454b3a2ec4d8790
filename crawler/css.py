"""Pictures out of style sheets and style attributes, without a CSS engine."""

from __future__ import annotations

import re

from crawler.addresses import Addresses

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A property's value ends at ; or }, but not within quotes or parentheses: data: URLs are full of both.
_VALUE = r"""((?:"[^"]*"|'[^']*'|\((?:"[^"]*"|'[^']*'|[^()"']|\([^()]*\))*\)|[^;{}"'()])*)"""
# Custom properties too: themes keep their backgrounds in them.
_BACKGROUND = re.compile(
    rf"(?:^|[;{{\s])(?:background(?:-image)?|content|--[\w-]+)\s*:{_VALUE}", re.IGNORECASE
)
_URL = re.compile(
    r"""url\(\s*(?:"([^"]*)"|'([^']*)'|((?:\\[0-9a-f]{1,6}\s?|\\.|[^"'()\s\\])*))\s*\)""",
    re.IGNORECASE,
)
_IMAGE_SET = re.compile(
    r"""(?:-webkit-)?image-set\(((?:"[^"]*"|'[^']*'|[^()"']|\([^()]*\))*)\)""", re.IGNORECASE
)
_IN_SET = re.compile(
    r"""(?:url\(\s*)?(?:"([^"]*)"|'([^']*)'|(?<=\()([^"'()\s]+))\s*\)?"""
    r"""(?:\s*type\([^)]*\))?\s*(?:([\d.]+)(x|dppx|dpi))?""",
    re.IGNORECASE,
)


# `a\20 b` is a space, `a\(b` a parenthesis.
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?|\\(.)")
_IMPORT = re.compile(
    r"""@import\s+(?:url\(\s*)?(?:"([^"]*)"|'([^']*)'|([^"'()\s;]+))\s*\)?""", re.IGNORECASE
)


def sheet_images(css_text: str, sheet_url: str) -> list[str]:
    """Return the pictures that the style sheet at `sheet_url` shows, each once, at their finest."""
    addresses = Addresses(sheet_url)
    finest = (addresses.resolve(urls[0], data_too=True) for urls in background_urls(css_text))
    return list(dict.fromkeys(url for url in finest if url is not None))


def imported_sheets(css_text: str, sheet_url: str) -> list[str]:
    """Return the addresses of the sheets that the one at `sheet_url` imports, each once."""
    addresses = Addresses(sheet_url)
    found = (
        addresses.resolve("".join(parts)) for parts in _IMPORT.findall(_COMMENT.sub("", css_text))
    )
    return list(dict.fromkeys(url for url in found if url is not None))


def background_urls(css: str) -> list[list[str]]:
    """Return the background pictures of `css`: for each, its addresses, the finest first.

    `css` is a style sheet, or the declarations of a style attribute. Fonts, imports, cursors and
    references into the page (`url(#...)`) are left out.
    """
    found: list[list[str]] = []
    for value in _BACKGROUND.findall(_COMMENT.sub("", css)):
        found += picture_urls(value)
    return found


def picture_urls(value: str) -> list[list[str]]:
    """Return the pictures of one property's value, as `background_urls` does."""
    found = [_finest_first(members) for members in _IMAGE_SET.findall(value)]
    found += [["".join(parts)] for parts in _URL.findall(_IMAGE_SET.sub("", value))]
    return [
        [_unescape(url) for url in urls]
        for urls in found
        if urls and urls[0] and not urls[0].startswith("#")
    ]


def _finest_first(members: str) -> list[str]:
    sized: list[tuple[float, str]] = []
    for *parts, number, unit in _IN_SET.findall(members):
        try:
            density = float(number or 1.0)
        except ValueError:  # 1.2.3x
            continue
        sized.append((density / 96 if unit.lower() == "dpi" else density, "".join(parts)))
    return [url for _, url in sorted(sized, key=lambda each: -each[0])]


def _unescape(url: str) -> str:
    def character(escape: re.Match[str]) -> str:
        if escape[2] is not None:
            return escape[2]
        code = int(escape[1], 16)
        return chr(code) if 0 < code < 0x110000 else "\ufffd"

    return _ESCAPE.sub(character, url)
