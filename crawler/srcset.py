"""The candidates of a srcset attribute, as browsers read it.

Follows "Parsing a srcset attribute" of the HTML standard (html.spec.whatwg.org, images.html), except
that the largest candidate is wanted here and not the one that fits a screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WHITESPACE = " \t\n\f\r"
# No picture is wider than nine digits say, and int() refuses thousands of them.
_INTEGER = re.compile(r"^[0-9]{1,9}$")
_FLOAT = re.compile(r"^-?(?:[0-9]+|[0-9]*\.[0-9]+)(?:[eE][+-]?[0-9]+)?$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address of a srcset with its size."""

    url: str
    width: int = 0
    """Pixels, from a `w` descriptor; 0 if there is none."""
    density: float = 1.0
    """From an `x` descriptor; 1 if there is none."""


def parse_srcset(value: str) -> list[Candidate]:
    """Return the valid candidates in order; a candidate with a wrong descriptor is left out."""
    candidates: list[Candidate] = []
    position, end = 0, len(value)
    while True:
        while position < end and value[position] in _WHITESPACE + ",":
            position += 1
        if position == end:
            return candidates
        start = position
        while position < end and value[position] not in _WHITESPACE:
            position += 1
        url = value[start:position]
        descriptors: list[str] = []
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            descriptors, position = _split_descriptors(value, position)
        candidate = _candidate(url, descriptors)
        if candidate is not None:
            candidates.append(candidate)


def largest(candidates: list[Candidate]) -> Candidate | None:
    """Return the candidate of most pixels, the first of equals; None if there are none."""
    return max(candidates, key=lambda each: (each.width, each.density), default=None)


def _split_descriptors(value: str, position: int) -> tuple[list[str], int]:
    """Return the descriptors that begin at `position`, and where the next candidate begins."""
    descriptors: list[str] = []
    current = ""
    in_parentheses = False
    for index in range(position, len(value)):
        character = value[index]
        if in_parentheses:
            current += character
            in_parentheses = character != ")"
        elif character == ",":
            return [*descriptors, *_nonempty(current)], index + 1
        elif character in _WHITESPACE:
            descriptors.extend(_nonempty(current))
            current = ""
        else:
            current += character
            in_parentheses = character == "("
    return [*descriptors, *_nonempty(current)], len(value)


def _nonempty(text: str) -> Iterator[str]:
    if text:
        yield text


def _candidate(url: str, descriptors: list[str]) -> Candidate | None:
    """Return the candidate, None if a descriptor is unknown, out of range or given twice."""
    width = height = 0
    density: float | None = None
    for descriptor in descriptors:
        number, unit = descriptor[:-1], descriptor[-1]
        if unit == "w" and _INTEGER.match(number) and not width and density is None:
            width = int(number)
            valid = width > 0
        elif unit == "h" and _INTEGER.match(number) and not height and density is None:
            height = int(number)
            valid = height > 0
        elif unit == "x" and _FLOAT.match(number) and density is None and not (width or height):
            density = float(number)
            valid = density >= 0
        else:
            valid = False
        if not valid:
            return None
    if height and not width:
        return None
    return Candidate(url, width, 1.0 if density is None else density)
