"""What a row of a table, or the JSON beside a picture in an archive, says about that picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from crawler.pages import NOTHING_SAID, About

# By field, the names under which data sets carry it, best first; LAION's TEXT is alternative text.
_ALT = ("alt", "alt_text", "text")
_PAGE = ("page_url",)
_ABOUT: Mapping[str, tuple[str, ...]] = {
    "title": ("title",),
    "caption": ("caption", "description"),
    "license": ("license", "licence"),
    "creator": ("creator", "author"),
    "credit": ("credit", "copyright"),
    "acquire_license": ("acquire_license",),
}
_SIDES = ("width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is said, sorted by what it means."""

    alt: str = ""
    page_url: str = ""
    about: About = NOTHING_SAID
    """What has no field of its own is in `about.columns`."""


class DescriptionColumns:
    """Which of a table's columns mean what; chosen once, for all rows."""

    def __init__(self, names: list[str]) -> None:
        by_name: dict[str, str] = {}
        for name in names:
            by_name.setdefault(_plain(name), name)
        self._alt = _first(by_name, _ALT)
        self._page = _first(by_name, _PAGE)
        self._about = {
            field: name for field, known in _ABOUT.items() if (name := _first(by_name, known))
        }
        self._sides = {side: by_name[side] for side in _SIDES if side in by_name}
        self._used = {self._alt, self._page, *self._about.values(), *self._sides.values()}

    def describe(self, row: Mapping[str, object]) -> Description:
        """Return what one row says; values become text, white space collapsed, empty ones left out."""
        texts = {name: text for name, value in row.items() if (text := text_of(value))}
        if not texts:
            return _NOTHING
        # A side that is no number is kept as what it says.
        columns = {
            name: text
            for name, text in texts.items()
            if name not in self._used or (name in self._sides.values() and not _pixels(text))
        }
        about = NOTHING_SAID
        if columns or self._about or self._sides:
            said = {field: texts.get(name, "") for field, name in self._about.items()}
            width, height = (_pixels(texts.get(self._sides.get(side, ""), "")) for side in _SIDES)
            about = About(columns=columns, width=width, height=height, **said)
        return Description(
            alt=texts.get(self._alt, ""),
            page_url=texts.get(self._page, ""),
            about=about,
        )


_NOTHING = Description()


def describe(fields: Mapping[str, object]) -> Description:
    """Return what a single object says, such as the JSON beside a picture."""
    return DescriptionColumns(list(fields)).describe(fields)


def text_of(value: object) -> str:
    """Return a value of a table as text in one line; empty for what is missing."""
    if value is None:
        return ""
    if not isinstance(value, str):
        if isinstance(value, int | float):
            return str(value)
        value = json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(value.split())


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _first(by_name: Mapping[str, str], known: tuple[str, ...]) -> str:
    """Return the column with the best of the known names; empty, which no column is, for none."""
    return next((by_name[each] for each in known if each in by_name), "")


def _pixels(text: str) -> int | None:
    # Tables that have gone through floats say 640.0.
    digits = text.removesuffix(".0")
    return int(digits) if digits.isdecimal() and len(digits) < 7 and int(digits) > 0 else None
