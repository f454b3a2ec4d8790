"""Addresses as pages write them, made absolute and given one spelling, so that none is met twice.

What is changed in every address: the fragment is dropped; scheme and host become lower case (and
a host in other letters its IDNA form); `:80` and `:443` are dropped where they say nothing; `.` and
`..` are resolved; characters that may not stand there are percent-encoded as UTF-8; backslashes
in the path become slashes, and line breaks vanish, as in browsers.

What is left alone, because servers tell the spellings apart: percent-encoded characters (`%7E` is
not `~`), the letters' case of path and query, empty or repeated parameters and their order, `//`,
a slash at the end, `index.html`, `www.`, http against https. Signed addresses stay valid.

What is changed only for comparing (`spelling_key`) or for pages (`page_address`): `%2f` counts as
`%2F` (RFC 3986, 6.2.2.1), and parameters that only tell the site where a visitor came from
(`utm_source`, `fbclid`...) go. A picture's own address keeps both: they may be signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from w3lib.url import safe_url_string

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# A template that no script has filled in yet: `{{ image.url }}`, `${src}`, `<%= src %>`.
_TEMPLATE = re.compile(r"\{\{|\$\{|<%")
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_TRACKING = re.compile(
    r"^(?:utm_\w+|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|yclid|twclid|ttclid|igshid|mc_cid|mc_eid)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Makes the addresses in a page absolute."""

    base_url: str

    def resolve(self, raw: str | None, *, data_too: bool = False) -> str | None:
        """Return `raw` as an absolute http(s) address without fragment; None if it is none.

        `data:` addresses of pictures are returned as they are, if wanted.
        """
        # Browsers drop line breaks and take backslashes for slashes: so do the sites' authors.
        text = re.sub(r"[\t\n\r]", "", raw or "").strip()
        if text[:5].lower() == "data:":
            return text if data_too and text[5:11].lower() == "image/" else None
        # The fragment goes first: joined to the base, a bare one would be the page itself.
        text = text.partition("#")[0]
        if not text or _TEMPLATE.search(text):
            return None
        try:
            parts = urlsplit(urljoin(self.base_url, _with_slashes(text)))
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                return None
            userinfo, at, host = parts.netloc.rpartition("@")
            host = host.lower().removesuffix(_DEFAULT_PORTS[parts.scheme])
            whole = parts._replace(
                netloc=userinfo + at + host, path=_without_dots(parts.path) or "/"
            )
            return safe_url_string(whole.geturl())
        except ValueError:  # an unfinished IPv6 address, a port that is no number
            return None


def web_address(text: str) -> str | None:
    """Return a whole http(s) address in the spelling of `Addresses.resolve`; None if it is none."""
    return Addresses("").resolve(text)


def page_address(url: str) -> str:
    """Return a page's resolved address without what only tells where a visitor came from."""
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if not _TRACKING.match(each.partition("=")[0])]
    return parts._replace(query="&".join(kept)).geturl()


def spelling_key(url: str) -> str:
    """Return what two resolved addresses of one thing have in common, to compare and not to fetch."""
    if url.startswith("data:"):
        return url
    return _ESCAPE.sub(lambda escape: escape[0].upper(), page_address(url))


def _without_dots(path: str) -> str:
    """Return `path` without dot segments (RFC 3986, 5.2.4); `//` stays."""
    if "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    # What a dot segment at the end stood for is a folder.
    folder = path.rsplit("/", 1)[-1] in {".", ".."}
    return "/".join(kept) + ("/" if folder else "")


def _with_slashes(address: str) -> str:
    path, mark, query = address.partition("?")
    return path.replace("\\", "/") + mark + query
