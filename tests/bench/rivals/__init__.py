"""Other labelling tools, installed into environments of their own, measured as the studio is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.labelling.catalogue import FACES, LABELS, an_id, face, score_of
from tests.bench.report import FOLDER

KEPT = FOLDER / "rivals"
"""What was imported into each, for the next run: importing takes longer than measuring."""

PAGE = 200
PAGES = 20
PAGES_WITH_PICTURES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Median and 95th percentile, in milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """Sum up single measurements."""
        p50, p95 = (float(each) for each in np.percentile(np.asarray(seconds) * 1000, (50, 95)))
        return cls(p50=p50, p95=p95)

    def __str__(self) -> str:
        return f"{self.p50:,.0f} / {self.p95:,.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one tool took; None where it has no such thing."""

    tool: str
    """Its name and version."""
    import_s: float
    """To take the pictures in, once."""
    page: Times
    """A page of 200, highest score first, from its server."""
    page_with_pictures: Times
    one_answer: Times
    """Until it is acknowledged."""
    accept: Times
    """The same of 199 answers to as many pictures."""
    open_s: float
    """In Chromium, with a server that has answered nothing yet, until pictures are shown."""
    paint: Times
    """From a key that does something to the frame that shows it."""
    decisions_an_hour: float | None
    """One by one, by the keystroke model."""
    memory_mb: float
    """Of all of its servers, in the end."""

    def __str__(self) -> str:
        hourly = self.decisions_an_hour
        return (
            f"{self.tool}: page of {PAGE} {self.page}, with its pictures {self.page_with_pictures}, "
            f"one answer {self.one_answer}, {PAGE - 1} answers {self.accept}, "
            f"open {self.open_s:.2g} s, key to paint {self.paint}, "
            + (f"{hourly:,.0f} decisions an hour, " if hourly is not None else "")
            + f"{self.memory_mb:,.0f} MB; import {self.import_s:,.0f} s"
        )


def pictures(count: int) -> Path:
    """Return a folder of `count` thumbnails, those of the synthetic catalogue, named by their ids."""
    folder = KEPT / f"pictures-{count}"
    if not folder.exists():
        half = folder.with_suffix(".half")
        half.mkdir(parents=True, exist_ok=True)
        firsts = [half / f"{an_id(number)}.jpg" for number in range(FACES)]
        for number, first in enumerate(firsts):
            first.write_bytes(face(number))
        for number in range(FACES, count):
            os.link(firsts[number % FACES], half / f"{an_id(number)}.jpg")
        half.rename(folder)
    return folder


def scored(count: int) -> Iterator[tuple[str, float]]:
    """Yield the id and the first label's score of every picture, drawn as the catalogue draws them."""
    random = np.random.default_rng(0)
    for number in range(count):
        yield an_id(number), score_of(number, LABELS[0], random)
