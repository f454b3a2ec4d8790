"""The catalogue as the pages need it: one frozen picture of everything but the pixels.

A hundred thousand pictures take some tens of megabytes here, and a filter over them some
milliseconds, so that no page waits for the bucket once the tables have been read.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Literal

from flows.rows import Answer, DecisionRow, LinkRow, PreLabelRow

RETRACTED = "retracted"
"""The note of a decision that takes an earlier one back.

The table of decisions is append-only and knows yes, no and unsure. Undoing a first answer appends
an "unsure" with this note: training masks it like any unsure, and here it counts as undecided.
"""

AnswerFilter = Literal["any", "yes", "no", "unsure", "undecided"]
Show = Literal["kept", "duplicates", "all"]
Sort = Literal["newest", "highest", "lowest"]
QueueOrder = Literal["uncertain", "highest"]


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One row of the images table without its thumbnail."""

    sha256: str
    width: int
    height: int
    format: str
    size: int
    duplicate_of: str | None
    duplicate_how: str | None
    added_at: datetime
    sources: tuple[str, ...]
    title: str
    """The picture's own text, or its page's title; empty if it has neither."""
    page_url: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which pictures a grid shows, and in which order."""

    label: str
    answer: AnswerFilter = "any"
    low: float = 0.0
    high: float = 1.0
    source: str = ""
    show: Show = "kept"
    sort: Sort = "newest"


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

    pictures: Mapping[str, Picture]
    links: Sequence[LinkRow]
    prelabels: Mapping[str, Mapping[str, float]]
    """Label to sha256 to score."""
    decisions: Sequence[DecisionRow]
    """Oldest first."""
    embedded: int = 0
    """Pictures with a vector, by the encoder that has embedded the most."""

    @cached_property
    def history(self) -> Mapping[str, Mapping[str, Sequence[DecisionRow]]]:
        """Kept picture to label to the decisions on it, oldest first.

        As in training, an answer given to a duplicate counts for the picture that is kept.
        """
        found: dict[str, dict[str, list[DecisionRow]]] = {}
        for row in self.decisions:
            found.setdefault(self.subject(row.sha256), {}).setdefault(row.label, []).append(row)
        return found

    def subject(self, sha256: str) -> str:
        """Return the picture that decisions about `sha256` count for."""
        picture = self.pictures.get(sha256)
        return picture.duplicate_of or sha256 if picture else sha256

    def answer(self, sha256: str, label: str) -> Answer | None:
        """Return the answer that stands, or None where there is none."""
        rows = self.history.get(self.subject(sha256), {}).get(label)
        return standing_answer(rows[-1]) if rows else None

    def score(self, sha256: str, label: str) -> float | None:
        """Return the pre-label's score in [0, 1], or None where there is none."""
        return self.prelabels.get(label, {}).get(sha256)

    @cached_property
    def kept(self) -> tuple[Picture, ...]:
        """Every picture that is no duplicate of another, newest first."""
        return tuple(each for each in self.newest if each.duplicate_of is None)

    @cached_property
    def newest(self) -> tuple[Picture, ...]:
        """Every picture, newest first; those of one moment by id."""
        by_id = sorted(self.pictures.values(), key=lambda each: each.sha256)
        return tuple(sorted(by_id, key=lambda each: each.added_at, reverse=True))

    @cached_property
    def duplicates_of(self) -> Mapping[str, tuple[Picture, ...]]:
        """The kept picture's id to its duplicates."""
        found: dict[str, list[Picture]] = {}
        for picture in self.newest:
            if picture.duplicate_of is not None:
                found.setdefault(picture.duplicate_of, []).append(picture)
        return {sha256: tuple(each) for sha256, each in found.items()}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that pictures came from."""
        return tuple(sorted({name for each in self.pictures.values() for name in each.sources}))

    @cached_property
    def rejected(self) -> tuple[LinkRow, ...]:
        """Links of which nothing was kept, newest first."""
        rows = [row for row in self.links if row.outcome == "rejected"]
        return tuple(sorted(rows, key=lambda row: (row.seen_at, row.url), reverse=True))

    @cached_property
    def reasons(self) -> Mapping[str, int]:
        """How many links were rejected for each reason, most first."""
        counted = Counter(row.reason for row in self.rejected)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def reviewed(self) -> int:
        """How many kept pictures have an answer to some label."""
        decided = {
            sha256
            for sha256, by_label in self.history.items()
            if any(standing_answer(rows[-1]) for rows in by_label.values())
        }
        return sum(each.sha256 in decided for each in self.kept)

    @cached_property
    def prelabelled(self) -> int:
        """How many kept pictures have a pre-label of some label."""
        scored = {sha256 for scores in self.prelabels.values() for sha256 in scores}
        return sum(each.sha256 in scored for each in self.kept)

    def label_count(self, label: str) -> LabelCount:
        """Return how far the review of `label` has come."""
        answers = Counter(self.answer(each.sha256, label) for each in self.kept)
        waiting = [self.score(each.sha256, label) for each in self._waiting(label)]
        return LabelCount(
            label=label,
            yes=answers["yes"],
            no=answers["no"],
            unsure=answers["unsure"],
            waiting=len(waiting),
            uncertain=sum(score is not None and 0.25 <= score <= 0.75 for score in waiting),
        )

    def queue(
        self, label: str, *, after: str | None, limit: int, order: QueueOrder = "uncertain"
    ) -> Page:
        """Return undecided pictures: the most uncertain pre-labels first, or the highest.

        Those without a pre-label come last. `after` is the id of the last picture of the page
        before, decided by now or not.
        """

        def key(sha256: str) -> tuple[float, str]:
            score = self.score(sha256, label)
            if score is None:
                return 1.0, sha256
            return (abs(score - 0.5) if order == "uncertain" else -score), sha256

        start = key(after) if after else None
        ordered = sorted(key(each.sha256) for each in self._waiting(label))
        rest = [each for each in ordered if start is None or each > start]
        chosen = tuple(self.pictures[sha256] for _, sha256 in rest[:limit])
        more = len(rest) > limit
        return Page(pictures=chosen, total=len(ordered), next=chosen[-1].sha256 if more else None)

    def page(self, wanted: Filter, *, after: str | None, limit: int) -> Page:
        """Return one page of the pictures that `wanted` lets through.

        `after` is the last id of the page before. When that picture no longer passes the filter
        (somebody has decided it meanwhile), the page goes on from where it would have been.
        """
        found = list(self._matching(wanted))
        total = len(found)
        if after is not None and after in self.pictures:
            start = self._order(wanted, self.pictures[after])
            found = [each for each in found if self._order(wanted, each) > start]
        found.sort(key=lambda each: self._order(wanted, each))
        chosen = tuple(found[:limit])
        more = len(found) > limit
        return Page(pictures=chosen, total=total, next=chosen[-1].sha256 if more else None)

    def _waiting(self, label: str) -> list[Picture]:
        return [each for each in self.kept if self.answer(each.sha256, label) is None]

    def _matching(self, wanted: Filter) -> Iterator[Picture]:
        any_score = wanted.low <= 0.0 and wanted.high >= 1.0
        for each in self.pictures.values():
            if wanted.show != "all" and (each.duplicate_of is None) != (wanted.show == "kept"):
                continue
            if wanted.source and wanted.source not in each.sources:
                continue
            if not any_score:
                score = self.score(each.sha256, wanted.label)
                if score is None or not wanted.low <= score <= wanted.high:
                    continue
            if wanted.answer != "any":
                answer = self.answer(each.sha256, wanted.label) or "undecided"
                if answer != wanted.answer:
                    continue
            yield each

    def _order(self, wanted: Filter, picture: Picture) -> tuple[float, str]:
        """Return the key by which a page is sorted; pictures without a score come last."""
        if wanted.sort == "newest":
            return -picture.added_at.timestamp(), picture.sha256
        score = self.score(picture.sha256, wanted.label)
        if score is None:
            return 2.0, picture.sha256
        return (score if wanted.sort == "lowest" else -score), picture.sha256


def standing_answer(row: DecisionRow) -> Answer | None:
    """Return the answer of a decision, or None when it takes an earlier one back."""
    if row.answer == "unsure" and row.note == RETRACTED:
        return None
    return row.answer


def group_prelabels(rows: Iterable[PreLabelRow]) -> dict[str, dict[str, float]]:
    """Return label to sha256 to score."""
    grouped: dict[str, dict[str, float]] = {}
    for row in rows:
        grouped.setdefault(row.label, {})[row.sha256] = row.score
    return grouped
