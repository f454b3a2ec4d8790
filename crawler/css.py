"""Background pictures out of style sheets and style attributes, without a CSS engine."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A property's value ends at ; or }, but not within quotes or parentheses: data: URLs are full of both.
_VALUE = r"""((?:"[^"]*"|'[^']*'|\((?:"[^"]*"|'[^']*'|[^()"']|\([^()]*\))*\)|[^;{}"'()])*)"""
# Custom properties too: themes keep their backgrounds in them.
_BACKGROUND = re.compile(
    rf"(?:^|[;{{\s])(?:background(?:-image)?|--[\w-]+)\s*:{_VALUE}", re.IGNORECASE
)
_URL = re.compile(r"""url\(\s*(?:"([^"]*)"|'([^']*)'|([^"'()\s]*))\s*\)""", re.IGNORECASE)
_IMAGE_SET = re.compile(
    r"""(?:-webkit-)?image-set\(((?:"[^"]*"|'[^']*'|[^()"']|\([^()]*\))*)\)""", re.IGNORECASE
)
_IN_SET = re.compile(
    r"""(?:url\(\s*)?(?:"([^"]*)"|'([^']*)'|(?<=\()([^"'()\s]+))\s*\)?"""
    r"""(?:\s*type\([^)]*\))?\s*(?:([\d.]+)(x|dppx|dpi))?""",
    re.IGNORECASE,
)


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
    return [urls for urls in found if urls and urls[0] and not urls[0].startswith("#")]


def _finest_first(members: str) -> list[str]:
    sized: list[tuple[float, str]] = []
    for *parts, number, unit in _IN_SET.findall(members):
        try:
            density = float(number or 1.0)
        except ValueError:  # 1.2.3x
            continue
        sized.append((density / 96 if unit.lower() == "dpi" else density, "".join(parts)))
    return [url for _, url in sorted(sized, key=lambda each: -each[0])]
