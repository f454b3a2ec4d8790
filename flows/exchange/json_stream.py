"""JSON files of any length, an entry at a time.

The tools' files are one list, or one object that holds lists: `json.load` would need some ten times
the file's size in memory. An entry by itself has to fit (`MAX_ENTRY`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from flows.errors import Permanent

MAX_ENTRY = 64 * 2**20
"""Characters that one entry may have."""

_READ = 2**18
_IN_NUMBERS = "0123456789+-.eE"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a file: in `file["images"][3]`, `section` is "images" and `key` 3.

    `section` is empty in a file that is one list, `key` None for a value that is neither list nor
    object.
    """

    file: str
    section: str
    key: int | str | None
    value: object

    @property
    def name(self) -> str:
        """What messages call it, such as `labels.json images[3]`."""
        place = "" if self.key is None else f"[{self.key}]"
        return f"{self.file} {self.section}{place}"

    def wrong(self, what: str) -> Permanent:
        """Return the error that something is wrong with this entry."""
        return Permanent(f"{self.name}: {what}")

    def object(self) -> dict[str, Any]:
        """Return the value, which has to be an object."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"expected an object, not {json.dumps(self.value)[:60]}")
        return self.value


def entries(path: Path) -> Iterator[Entry]:
    """Yield every entry of the lists and objects that a file's list or object holds, in order.

    Raises Permanent, naming the entry, where the file is not JSON or ends too early.
    """
    with path.open(encoding="utf-8") as file:
        reader = _Reader(file, path.name)
        opened = reader.peek()
        if opened == "[":
            yield from _list(reader, "")
        elif opened == "{":
            for section in _keys(reader, ""):
                inner = reader.peek()
                if inner == "[":
                    yield from _list(reader, section)
                elif inner == "{":
                    for key in _keys(reader, section):
                        yield Entry(path.name, section, key, reader.value(f"{section}[{key}]"))
                else:
                    yield Entry(path.name, section, None, reader.value(section))
        else:
            raise Permanent(f"{path.name} is not JSON: it begins with {opened!r}")
        if reader.peek():
            raise Permanent(f"{path.name} is not JSON: there is more after its end")


def _list(reader: _Reader, section: str) -> Iterator[Entry]:
    reader.take("[", section)
    if reader.peek() == "]":
        reader.take("]", section)
        return
    for index in range(2**63):
        place = f"{section}[{index}]"
        yield Entry(reader.name, section, index, reader.value(place))
        if reader.take(",]", place) == "]":
            return


def _keys(reader: _Reader, section: str) -> Iterator[str]:
    """Yield the keys of an object; the value is to be read before the next key is asked for."""
    reader.take("{", section)
    if reader.peek() == "}":
        reader.take("}", section)
        return
    while True:
        key = reader.value(section)
        if not isinstance(key, str):
            raise Permanent(f"{reader.name} {section}: not JSON: {key!r} is no key")
        reader.take(":", key)
        yield key
        if reader.take(",}", key) == "}":
            return


class _Reader:
    """A file's text, read on when what is there is not enough."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.name = name
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n\ufeff":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more(self.name)

    def take(self, expected: str, place: str) -> str:
        """Return the next character, which has to be one of those expected."""
        found = self.peek()
        if not found or found not in expected:
            raise Permanent(
                f"{self.name} {place}: not JSON: expected {' or '.join(expected)} "
                f"but {f'there is {found!r}' if found else 'the file ends'}"
            )
        self._at += 1
        return found

    def value(self, place: str) -> object:
        """Return the value that comes next, whole."""
        while True:
            self.peek()
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._ended:
                    raise Permanent(f"{self.name} {place}: not JSON: {error}") from None
            else:
                # A number that reaches the end of what was read may go on: 1.5, then e300.
                if self._ended or self._text[end : end + 3].lstrip(_IN_NUMBERS):
                    self._at = end
                    return value
            self._more(place)

    def _more(self, place: str) -> None:
        left = len(self._text) - self._at
        if left > MAX_ENTRY:
            raise Permanent(
                f"{self.name} {place}: not JSON, or an entry of more than {MAX_ENTRY} characters"
            )
        try:
            # As much again: what is tried several times is tried for a bounded number of times.
            read = self._file.read(max(_READ, left))
        except UnicodeDecodeError as error:
            raise Permanent(f"{self.name} {place}: not UTF-8: {error}") from None
        self._ended = not read
        self._text = self._text[self._at :] + read
        self._at = 0


class ListWriter:
    """A list, written an entry at a time, each on a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._count = 0

    def __enter__(self) -> Self:
        self._file.write("[")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._file.write("\n]")

    def add(self, value: object) -> None:
        """Write one more entry."""
        self._file.write(",\n" if self._count else "\n")
        self._file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        self._count += 1
