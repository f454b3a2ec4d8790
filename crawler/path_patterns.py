"""Path patterns as robots.txt has them (RFC 9309, 2.2.3), which TDMRep and AIPREF use as well."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

# RFC 3986's unreserved characters mean the same encoded and plain; `/` and `?` do not.
_SAFE = "!#$&'()*+,/:;=?@[]~"
_ENCODED_RESERVED = re.compile(r"%(?:2[1346789abcf]|3[abdf]|40|5[bd]|25)", re.IGNORECASE)


def path_of(url: str) -> str:
    """Return what patterns are held against: the path of `url`, with its query."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def path_matches(pattern: str, path: str) -> bool:
    """Return whether `path` begins as `pattern` says: `*` is any run of characters, `$` the end.

    Costs no more than the lengths multiplied, whatever the pattern.
    """
    anchored = pattern.endswith("$")
    first, *others = (_one_spelling(each) for each in pattern.removesuffix("$").split("*"))
    # In a path these two are characters like any other, which a pattern can only write encoded.
    path = _one_spelling(path.replace("*", "%2A").replace("$", "%24"))
    if not path.startswith(first):
        return False
    position = len(first)
    for piece in others:
        position = path.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    if not anchored or position == len(path):
        return True
    return bool(others) and path.endswith(others[-1])


def _one_spelling(text: str) -> str:
    """Return `text` with one encoding of each character: reserved ones stay as they are."""
    pieces = re.split(f"({_ENCODED_RESERVED.pattern})", text, flags=re.IGNORECASE)
    return "".join(
        piece.upper() if index % 2 else quote(unquote_to_bytes(piece), safe=_SAFE)
        for index, piece in enumerate(pieces)
    )
