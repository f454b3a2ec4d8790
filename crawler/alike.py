"""Addresses that are one page under several names, and pages that look alike by their addresses."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Parameters that mean a visit and nothing else.
_SESSION = re.compile(
    r"^(?:jsessionid|phpsessid|aspsessionid\w*|asp\.net_sessionid|cfid|cftoken|oscsid|zenid|sessid"
    r"|session_?id)$",
    re.IGNORECASE,
)
# Names that mean a visit where the value looks like one: `sid=12` is an article of PHP-Nuke.
_PERHAPS_SESSION = re.compile(r"^(?:s|sid|ssid|session|sess)$", re.IGNORECASE)
_SESSION_VALUE = re.compile(r"^(?=.*\d)[0-9A-Za-z_-]{16,}$")
# Servlets put it into the path, and so does ASP.NET: `/(S(lit3py55t21z5v55))/page.aspx`.
_SESSION_IN_PATH = re.compile(
    r";(?:jsessionid|phpsessid|sid)=[^/;]*|/\(S\([0-9a-z]+\)\)(?=/)", re.IGNORECASE
)
_NUMBER = re.compile(r"[0-9a-f]{12,}|\d+", re.IGNORECASE)

# Visits without a new picture until a family of pages is left alone: those of one shape; those of
# one path, whatever the query; those of one top folder, which may well hold a hundred articles
# without a picture.
_ONE_SHAPE = 30
_ONE_PATH = 60
_ONE_FOLDER = 200


def without_session(url: str) -> str:
    """Return `url` without the parameters that only tell one visit from another."""
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if not _is_session(each)]
    return parts._replace(path=_SESSION_IN_PATH.sub("", parts.path), query="&".join(kept)).geturl()


def families(url: str) -> dict[str, int]:
    """Return the families that a page belongs to by its address, each with what it is allowed.

    Numbers count as one number, and a path that runs in circles as one round of it.
    """
    parts = urlsplit(without_session(url))
    segments = [_NUMBER.sub("0", each) for each in parts.path.split("/")]
    path = parts.netloc + "/".join(dict.fromkeys(segments))
    names = (_NUMBER.sub("0", each.partition("=")[0]) for each in parts.query.split("&"))
    keys = "&".join(sorted(set(names)))
    found = {f"{path}?{keys}": _ONE_SHAPE}
    if keys:
        found[f"{path}?*"] = _ONE_PATH
    if len(segments) > 2:
        found[f"{parts.netloc}/{segments[1]}/*"] = _ONE_FOLDER
    return found


def _is_session(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return bool(
        _SESSION.match(name) or (_PERHAPS_SESSION.match(name) and _SESSION_VALUE.match(value))
    )
