"""Addresses as pages write them, made absolute and given one spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin, urlsplit

from w3lib.url import safe_url_string


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
        if not text or text.startswith("#"):
            return None
        try:
            joined, _ = urldefrag(urljoin(self.base_url, _with_slashes(text)))
            parts = urlsplit(joined)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                return None
            whole = joined if parts.path else parts._replace(path="/").geturl()
            return safe_url_string(whole)
        except ValueError:  # an unfinished IPv6 address, a port that is no number
            return None


def web_address(text: str) -> str | None:
    """Return a whole http(s) address in the spelling of `Addresses.resolve`; None if it is none."""
    return Addresses("").resolve(text)


def _with_slashes(address: str) -> str:
    mark = re.search(r"[?#]", address)
    end = mark.start() if mark else len(address)
    return address[:end].replace("\\", "/") + address[end:]
