"""The catalogue as the pages need it: everything but the pixels, in memory, by columns.

A hundred thousand pictures take some tens of megabytes here, and a filter over them some
milliseconds, so that no page waits for the bucket once the tables have been read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flows.decision_notes import RETRACTED
from flows.rows import Answer, DecisionRow, LinkRow, PreLabelRow
from flows.studio.columns import Links, Picture, Pictures, Rows, Scores
from flows.studio.ledger import ANSWERS, Ledger

__all__ = ["RETRACTED", "LabelCount", "Page", "Picture", "View"]

AnswerFilter = Literal["any", "yes", "no", "unsure", "undecided"]
QueueOrder = Literal["uncertain", "highest", "newest"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A run of pictures, and the id after which the next page starts."""

    pictures: tuple[Picture, ...]
    total: int
    next: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """How far the review of one label has come, over pictures that are not duplicates."""

    label: str
    yes: int
    no: int
    unsure: int
    waiting: int
    """Undecided."""
    uncertain: int
    """Of those that wait, the scores between 0.25 and 0.75."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What the catalogue held at one moment."""

    pictures: Pictures
    links: Links
    prelabels: Scores
    decisions: Ledger
    embedded: int = 0
    """Pictures with a vector, by the encoder that has embedded the most."""

    @classmethod
    def of(
        cls,
        *,
        pictures: Iterable[Picture],
        links: Iterable[LinkRow] = (),
        prelabels: Iterable[PreLabelRow] = (),
        decisions: Iterable[DecisionRow] = (),
        embedded: int = 0,
    ) -> View:
        """Return the view of those rows."""
        held = Pictures.of(pictures)
        return cls(
            pictures=held,
            links=Links.of(links),
            prelabels=Scores.of(held, prelabels),
            decisions=Ledger.of(held, decisions),
            embedded=embedded,
        )

    @property
    def history(self) -> Mapping[str, Mapping[str, Sequence[DecisionRow]]]:
        """Kept picture to label to the decisions on it, oldest first; notes without their ids.

        As in training, an answer given to a duplicate counts for the picture that is kept.
        """
        return self.decisions

    def subject(self, sha256: str) -> str:
        """Return the picture that decisions about `sha256` count for."""
        kept = self.pictures.kept_row[self.pictures.row(sha256)] if sha256 in self.pictures else -1
        return self.pictures.ids[kept] if kept >= 0 else sha256

    def answer(self, sha256: str, label: str) -> Answer | None:
        """Return the answer that stands, or None where there is none."""
        row = self.pictures.row(self.subject(sha256))
        return ANSWERS[self.decisions.answers(label)[row]] if row >= 0 else None

    def score(self, sha256: str, label: str) -> float | None:
        """Return the pre-label's score in [0, 1], or None where there is none."""
        row = self.pictures.row(sha256)
        score = self.prelabels.column(label)[row] if row >= 0 else np.nan
        return None if np.isnan(score) else float(score)

    @cached_property
    def kept(self) -> Sequence[Picture]:
        """Every picture that is no duplicate of another, newest first."""
        newest = self.pictures.newest
        return self.pictures.made(newest[self.pictures.is_kept[newest]])

    @property
    def newest(self) -> Sequence[Picture]:
        """Every picture, newest first; those of one moment by id."""
        return self.pictures.made(self.pictures.newest)

    @cached_property
    def duplicates_of(self) -> Mapping[str, Sequence[Picture]]:
        """The kept picture's id to its duplicates, newest first."""
        return {
            self.pictures.ids[row]: self.pictures.made(rows)
            for row, rows in self.pictures.duplicates.items()
            if row >= 0
        }

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that pictures came from."""
        return self.pictures.sources

    @property
    def rejected(self) -> Sequence[LinkRow]:
        """Links of which nothing was kept, newest first."""
        return self.links.rejected

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many links were rejected for each reason, most first."""
        return self.links.reasons

    @cached_property
    def reviewed(self) -> int:
        """How many kept pictures have an answer to some label."""
        decided = np.zeros(len(self.pictures), np.bool_)
        for label in self.decisions.labels:
            decided |= self.decisions.answers(label) > 0
        return int((decided & self.pictures.is_kept).sum())

    @cached_property
    def prelabelled(self) -> int:
        """How many kept pictures have a pre-label of some label."""
        return int((self.prelabels.scored & self.pictures.is_kept).sum())

    def waiting(self, label: str) -> NDArray[np.bool_]:
        """Return of every row whether its picture is kept and undecided."""
        found: NDArray[np.bool_] = self.pictures.is_kept & (self.decisions.answers(label) == 0)
        return found

    def label_count(self, label: str) -> LabelCount:
        """Return how far the review of `label` has come."""
        answers = self.decisions.answers(label)[self.pictures.is_kept]
        waiting = self.waiting(label)
        scores = self.prelabels.column(label)[waiting]
        return LabelCount(
            label=label,
            yes=int((answers == ANSWERS.index("yes")).sum()),
            no=int((answers == ANSWERS.index("no")).sum()),
            unsure=int((answers == ANSWERS.index("unsure")).sum()),
            waiting=int(waiting.sum()),
            uncertain=int(((scores >= 0.25) & (scores <= 0.75)).sum()),
        )

    def queue(
        self, label: str, *, after: str | None, limit: int, order: QueueOrder = "uncertain"
    ) -> Page:
        """Return undecided pictures: the most uncertain pre-labels first, the highest, the newest.

        Those without a pre-label come last. `after` is the id of the last picture of the page
        before, decided by now or not.
        """
        rows = self.pictures.newest if order == "newest" else self.prelabels.order(label, order)
        return self.page_of(rows, self.waiting(label), after=after, limit=limit)

    def page_of(
        self, rows: Rows, passing: NDArray[np.bool_], *, after: str | None, limit: int
    ) -> Page:
        """Return a page of those of `rows`, in that order, for which `passing` is true."""
        found = rows[passing[rows]]
        total = len(found)
        last = self.pictures.row(after) if after is not None else -1
        if last >= 0:
            places = np.flatnonzero(rows == last)
            rest = rows[places[0] + 1 :] if len(places) else rows
            found = rest[passing[rest]]
        chosen = tuple(self.pictures.made(found[:limit]))
        more = len(found) > limit
        return Page(pictures=chosen, total=total, next=chosen[-1].sha256 if more else None)

    def standing(self, label: str) -> NDArray[np.uint8]:
        """Return of every row its answer's place in `ANSWERS`; a duplicate has its kept picture's."""
        kept = self.pictures.kept_row
        found: NDArray[np.uint8] = np.where(kept < 0, 0, self.decisions.answers(label)[kept])
        return found
