"""The reference is what the code says, and says something of everything."""

from __future__ import annotations

import re
from pathlib import Path

from flows.reference import attribute_docstrings, reference

COMMITTED = Path(__file__).parents[2] / "flows" / "REFERENCE.md"


def test_the_committed_reference_is_that_of_the_code() -> None:
    """After a change: `python -m flows.reference > flows/REFERENCE.md`."""
    assert COMMITTED.read_text() == reference()


def test_every_setting_key_and_reason_has_a_meaning() -> None:
    tables = COMMITTED.read_text().partition("## Commands")[0]
    bare = re.findall(r"^\| `[^|]*\|.*\|  \|$", tables, re.MULTILINE)
    assert bare == []


class Documented:
    """A class with one documented attribute of two."""

    first: int = 1
    """The first, over
    two lines."""
    second: int = 2


def test_a_docstring_belongs_to_the_attribute_before_it() -> None:
    assert attribute_docstrings(Documented) == {"first": "The first, over two lines."}
