"""What the file name in an address promises, which a server need not keep."""

from __future__ import annotations

import re

_PICTURE = re.compile(r"\.(?:jpe?g|jpe|jfif|png|webp|avif|gif|bmp|tiff?)$", re.IGNORECASE)
_OTHER = re.compile(
    r"\.(?:svgz?|ico|cur|pdf|zip|t?gz|bz2|xz|7z|rar|dmg|exe|iso|apk|mp[34]|m4[av]|wav|og[agv]|flac"
    r"|webm|avi|mov|mkv|m3u8|woff2?|ttf|otf|eot|css|js|mjs|json|xml|rss|atom|csv|docx?|xlsx?|pptx?|epub)$",
    re.IGNORECASE,
)
_PAGE = re.compile(r"\.(?:[xs]?html?|php\d?|aspx?|jspx?|cgi)$", re.IGNORECASE)
_ORNAMENT = re.compile(
    r"favicon|apple-touch-icon|gravatar\.com/|/avatars?/|[/_.-](?:logo|icon|sprite)s?[/_.-]",
    re.IGNORECASE,
)
# `blank.gif`, `lazy-load.gif`, `placeholder_600x400.png`, and neither `blank-canvas.jpg` nor `pixel-8.jpg`.
_PLACEHOLDER = re.compile(
    r"(?:^|[/_.-])(?:spacer|blank|pixel|placeholder|transparent|loading|loader|lazy|lazyload|1x1|empty)"
    r"(?:[._-](?:\d+x\d+|1px|[0-9a-f]{8,}|images?|img|pixel|load(?:er|ing)?|spinner|small|large|square"
    r"|portrait|landscape|white|gr[ae]y|default|product|min))*\.(?:gif|png|svg|jpe?g|webp)$",
    re.IGNORECASE,
)


def names_picture(url: str) -> bool:
    """Return whether an address ends like a picture's file name.

    A colon in the name is MediaWiki's: `File:Name.jpg` is the page about the picture.
    """
    name = _path(url).rsplit("/", 1)[-1]
    return bool(_PICTURE.search(name)) and ":" not in name and "%3a" not in name.lower()


def names_other_file(url: str) -> bool:
    """Return whether an address ends like the name of a file that is neither page nor picture."""
    return bool(_OTHER.search(_path(url)))


def names_page(url: str) -> bool:
    """Return whether an address ends like the name of a page."""
    return bool(_PAGE.search(_path(url)))


def names_ornament(url: str) -> bool:
    """Return whether an address is that of a site's icon or logo, or of a user's avatar."""
    return bool(_ORNAMENT.search(url))


def names_placeholder(url: str) -> bool:
    """Return whether an address is that of a stand-in until a script brings the picture."""
    return url[:5].lower() == "data:" or bool(_PLACEHOLDER.search(_path(url)))


def _path(url: str) -> str:
    # Also of what is no address: nothing here may refuse what a page says.
    return re.split(r"[?#]", url, maxsplit=1)[0]
