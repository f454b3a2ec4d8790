"""A page of thumbnails with a line under each, in one file: to be looked at, sent, kept."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

_PAGE = Markup(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; background: Canvas; color: CanvasText; }}
:root {{ color-scheme: light dark; }}
h1 {{ font-size: 1.4rem; }}
ol {{ list-style: none; padding: 0; display: grid; gap: 1rem;
     grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); }}
img {{ width: 100%; height: 160px; object-fit: contain; background: #8882; border-radius: 4px; }}
figure {{ margin: 0; }}
figcaption {{ overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>{about}</p>
<ol>
{cards}
</ol>
</html>
"""
)
_CARD = Markup(
    '<li><figure><img alt="" src="data:image/jpeg;base64,{data}">'
    "<figcaption>{caption}</figcaption></figure></li>"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """A picture and what is said under it."""

    thumbnail: bytes
    """JPEG."""
    caption: str


def contact_sheet(title: str, about: str, cards: Iterable[Card]) -> str:
    """Return a page in HTML that holds everything it shows; all text is escaped."""
    shown = [
        _CARD.format(data=base64.b64encode(card.thumbnail).decode(), caption=card.caption)
        for card in cards
    ]
    return _PAGE.format(title=title, about=about, cards=Markup("\n").join(shown))


def write_contact_sheet(path: Path, title: str, about: str, cards: Iterable[Card]) -> None:
    """Write that page to `path`."""
    path.write_text(contact_sheet(title, about, cards), encoding="utf-8")
