"""Tables of picture addresses as links: img2dataset's kind of list, whatever its format.

They are read as a stream: a table of a million rows takes no more memory than one of a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from crawler.addresses import Addresses
from crawler.descriptions import DescriptionColumns, text_of
from crawler.pages import ImageLink
from crawler.rejections import Reason, Rejected
from crawler.table_rows import BadRow, TableUnreadable, open_rows

__all__ = ["FOUND_BY", "TableUnreadable", "UrlTable"]

FOUND_BY = "url table"

# How tables in the wild call the address of a picture; upper and lower case are the same.
_URL_COLUMNS = (
    "url",
    "image_url",
    "imageurl",
    "img_url",
    "image_link",
    "image_src",
    "src",
    "href",
    "link",
    "address",
    "image",
)
_MOST_SHAPES = 256
"""Sets of columns that are remembered; rows of a file of JSON lines may each have their own."""

_ADDRESSES = Addresses("")
_PLAIN_ADDRESS = re.compile(r"https?://[a-z0-9.-]*[a-z0-9]/[\w.~/?&=+,;:@!$%()*-]*", re.ASCII)
"""What `Addresses.resolve` returns as it is; it takes ten times as long to find that out."""


class UrlTable:
    """A table of addresses in a file. Raises `TableUnreadable` when it cannot be one.

    `name` stands for the file in messages and in the addresses of bad rows, `NAME:LINE`. The column
    of addresses is the one that is named, or the first there is of the usual names, or the only
    one. The other columns become alternative text, caption and so on where their names say so
    (`crawler.descriptions`), and are kept by name where they do not.
    """

    def __init__(self, path: Path, name: str, *, url_column: str = "") -> None:
        self._name = name
        self._rows = open_rows(path, name)
        self.url_column = _choose(self._rows.columns, url_column, name)
        self._shapes: dict[tuple[str, ...], DescriptionColumns] = {}

    def links(self) -> Iterator[ImageLink]:
        """Yield a link for each row that holds an address."""
        return (each for each in self._read() if isinstance(each, ImageLink))

    def rejected(self) -> Iterator[Rejected]:
        """Yield, for each of the other rows, why it does not."""
        return (each for each in self._read() if isinstance(each, Rejected))

    def _read(self) -> Iterator[ImageLink | Rejected]:
        for number, row in self._rows:
            if isinstance(row, BadRow):
                reason = Reason.TRUNCATED if row.breaks_off else Reason.BAD_ROW
                yield self._rejected(number, reason, row.problem)
                continue
            text = text_of(row.get(self.url_column))
            plain = _PLAIN_ADDRESS.fullmatch(text)
            url = text if plain else _ADDRESSES.resolve(text, data_too=True)
            if url is None:
                problem = f"{text[:200]!r} is no http(s) address" if text else "no address"
                yield self._rejected(number, Reason.BAD_ROW, problem)
            else:
                yield self._link(url, row)

    def _link(self, url: str, row: Mapping[str, object]) -> ImageLink:
        rest = {name: value for name, value in row.items() if name != self.url_column}
        shape = tuple(rest)
        if shape not in self._shapes:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = DescriptionColumns(list(shape))
        said = self._shapes[shape].describe(rest)
        return ImageLink(
            url=url, page_url=said.page_url, found_by=FOUND_BY, alt=said.alt, about=said.about
        )

    def _rejected(self, number: int, reason: Reason, problem: str) -> Rejected:
        return Rejected(
            url=f"{self._name}:{number}",
            page_url=self._name,
            reason=reason,
            detail=f"row {number} of {self._name}: {problem}",
        )


def _choose(columns: list[str], wanted: str, name: str) -> str:
    """Return the column that holds the addresses."""
    there = ", ".join(columns[:30])
    if wanted:
        if wanted not in columns:
            raise TableUnreadable(f"table {name} has no column {wanted!r}; its columns: {there}")
        return wanted
    by_name = {column.strip().lower().replace("-", "_"): column for column in reversed(columns)}
    for usual in _URL_COLUMNS:
        if usual in by_name:
            return by_name[usual]
    if len(columns) == 1:
        return columns[0]
    raise TableUnreadable(
        f"table {name} does not say which column holds the addresses; its columns: {there}; "
        "name one with --url-column, or `url_column` in project.toml"
    )
