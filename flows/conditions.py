"""Conditions on the rows of a table, in the SQL that Lance understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

K = TypeVar("K", str, tuple[str, str])
V = TypeVar("V")

_CHUNK_ROWS = 1000
_CHUNK_CHARACTERS = 2**20
"""Rows are looked up by a condition that spells their keys out; it is kept within these."""


def sql_text(value: str) -> str:
    """Return `value` as a literal for a `where` condition."""
    return "'" + value.replace("'", "''") + "'"


def sql_in(column: str, values: Iterable[str]) -> str:
    """Return the condition that `column` is one of `values`, of which there is at least one."""
    return f"{column} IN ({', '.join(map(sql_text, values))})"


def chunks(rows: dict[K, V]) -> Iterator[dict[K, V]]:
    """Yield `rows` in order, in parts whose keys can be spelled out in one condition."""
    chunk: dict[K, V] = {}
    characters = 0
    for key, row in rows.items():
        size = len("".join(key))
        if chunk and (len(chunk) == _CHUNK_ROWS or characters + size > _CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = {}, 0
        chunk[key] = row
        characters += size
    if chunk:
        yield chunk
