"""The rivals' figures beside ours: the best of them in the table, each of them in the notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import httpx
from playwright.sync_api import Error

from tests.bench.labelling.serving import chromium
from tests.bench.report import RivalUnavailable, Row
from tests.bench.rivals import Measured, fiftyone, label_studio

FIGURES: dict[str, Callable[[Measured], float | None]] = {
    "page of 200 from the server, p95": lambda found: found.page.p95,
    "the same with its 200 thumbnails, p95": lambda found: found.page_with_pictures.p95,
    "one answer, durable, p95": lambda found: found.one_answer.p95,
    "accept 200, durable, p95": lambda found: found.accept.p95,
    "Label page open in Chromium, cold": lambda found: found.open_s,
    "key to paint one by one, p95": lambda found: found.paint.p95,
    "decisions an hour one by one": lambda found: found.decisions_an_hour,
    "memory of the server, after the browser": lambda found: found.memory_mb,
}
"""By the name of our row."""


_THEIRS = (
    *(RivalUnavailable, httpx.HTTPError, Error),
    *(RuntimeError, OSError, LookupError, ValueError, AssertionError),
)
"""How a tool fails that does not start, does not answer, or answers otherwise than it used to."""


def measured(count: int) -> tuple[list[Measured], list[str]]:
    """Return what the tools that run here take with `count` pictures, and a line for each other one."""
    found, missing = [], []
    with chromium() as browser:
        for tool in (label_studio, fiftyone):
            try:
                found.append(tool.measure(count, browser))
            except _THEIRS as error:
                name = tool.__name__.rpartition(".")[2]
                why = (str(error).splitlines() or [type(error).__name__])[0]
                missing.append(f"{name} could not be measured: {why}")
    return found, missing


def with_rivals(rows: Sequence[Row], found: Sequence[Measured]) -> list[Row]:
    """Return the rows, each with the best of the rivals' figures where there is one."""
    return [_beside(row, found) for row in rows]


def _beside(row: Row, found: Sequence[Measured]) -> Row:
    if row.name not in FIGURES:
        return row
    figures = [figure for each in found if (figure := FIGURES[row.name](each)) is not None]
    if not figures:
        return row
    best = max(figures) if row.at_least else min(figures)
    ratio = row.value / best if row.at_least else best / row.value
    return dataclasses.replace(row, rival=best, ratio=ratio)
