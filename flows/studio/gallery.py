"""The whole dataset as one long list: filtered, ordered, and looked up by position.

A page that scrolls over 100,000 pictures asks for those at positions 41,000 to 41,119. That needs a
list that holds still: it is made once (some 0.2 s), kept under an id, and read by that id until the
page is opened anew. Answers and scores in it are always the current ones.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.studio.columns import EPOCH, Rows
from flows.studio.ledger import ANSWERS
from flows.studio.view import AnswerFilter, Picture, View

Show = Literal["kept", "duplicates", "grouped", "all"]
Order = Literal["newest", "oldest", "highest", "lowest", "largest", "smallest"]

_DAY_US = 86_400_000_000

KEPT_LISTINGS = 16
"""Listings in memory at once: 0.8 MB each at 100,000 pictures."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which pictures the Images page shows, and in which order.

    Scores and answers are those of `label`. Sides are in pixels; days are UTC, both included.
    """

    label: str
    answer: AnswerFilter = "any"
    low: float = 0.0
    high: float = 1.0
    source: str = ""
    show: Show = "kept"
    """"grouped": pictures of duplicate groups, kept ones and duplicates, together."""
    format: str = ""
    min_side: int = 0
    """Of the shorter side."""
    max_side: int = 0
    """Of the shorter side; 0 for any."""
    since: date | None = None
    until: date | None = None
    group: str = ""
    """The id of a picture: it, and all that are duplicates together with it."""
    order: Order = "newest"
    words: str = ""
    """To search for; what is found comes in the order of its likeness."""
    like: str = ""
    """The id of a picture to search by: of the dataset, or one that was dropped."""

    @property
    def searches(self) -> bool:
        """Whether there is something to search for."""
        return bool(self.words or self.like)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of pictures that holds still."""

    id: str
    sha256s: tuple[str, ...]
    nearness: Mapping[str, float]
    """Of a search: the cosine by id; else empty."""


class Gallery:
    """Keeps the listings that pages are scrolling over; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listings: OrderedDict[str, tuple[object, Listing]] = OrderedDict()

    def find(self, listing_id: str, key: object) -> Listing | None:
        """Return the listing of that id, or None when it is not known, or lists something else."""
        with self._lock:
            known_key, known = self._listings.get(listing_id, (None, None))
            if known is None or known_key != key:
                return None
            self._listings.move_to_end(listing_id)
            return known

    def keep(self, key: object, listing: Listing) -> None:
        """Remember what `key` (a filter, or whatever says what is listed) lists just now."""
        with self._lock:
            self._listings[listing.id] = (key, listing)
            while len(self._listings) > KEPT_LISTINGS:
                self._listings.popitem(last=False)


def make_listing(view: View, wanted: Wanted, found: Mapping[str, float] | None = None) -> Listing:
    """Return the pictures that pass the filter, as they stand now.

    `found` is what a search found, the nearest first: only those are listed, in that order.
    """
    passing = _passing(view, wanted)
    pictures = view.pictures
    if found is None:
        rows = _ordered(view, wanted)
        sha256s = tuple(pictures.ids[row] for row in rows[passing[rows]].tolist())
    else:
        sha256s = tuple(each for each in found if each in pictures and passing[pictures.row(each)])
    return Listing(id=secrets.token_hex(8), sha256s=sha256s, nearness=found or {})


def group_of(view: View, sha256: str) -> tuple[Picture, ...]:
    """Return the kept picture and its duplicates, of the group that `sha256` is in."""
    kept = view.subject(sha256)
    found = [view.pictures[kept]] if kept in view.pictures else []
    return (*found, *view.duplicates_of.get(kept, ()))


def formats(view: View) -> tuple[str, ...]:
    """Return the formats that the pictures have."""
    return tuple(sorted(view.pictures.format.dictionary.to_pylist()))


def _passing(view: View, wanted: Wanted) -> NDArray[np.bool_]:
    """Return of every row whether the filter lets its picture through."""
    pictures = view.pictures
    if wanted.group:
        kept = pictures.row(view.subject(wanted.group))
        in_group: NDArray[np.bool_] = (pictures.kept_row == kept) & (kept >= 0)
        return in_group
    found = _shown(view, wanted.show)
    if wanted.source:
        found &= pictures.from_source(wanted.source)
    if wanted.format:
        found &= pc.equal(pictures.format.cast(pa.string()), wanted.format).to_numpy(False)
    side = np.minimum(pictures.width, pictures.height)
    found &= side >= wanted.min_side
    if wanted.max_side:
        found &= side <= wanted.max_side
    if wanted.since:
        found &= pictures.added_us >= _start_us(wanted.since)
    if wanted.until:
        found &= pictures.added_us < _start_us(wanted.until) + _DAY_US
    if wanted.low > 0.0 or wanted.high < 1.0:
        score = view.prelabels.column(wanted.label)
        found &= (score >= wanted.low) & (score <= wanted.high)
    if wanted.answer != "any":
        answer = None if wanted.answer == "undecided" else wanted.answer
        found &= view.standing(wanted.label) == ANSWERS.index(answer)
    return found


def _shown(view: View, show: Show) -> NDArray[np.bool_]:
    pictures = view.pictures
    if show == "kept":
        return pictures.is_kept.copy()
    if show == "duplicates":
        return ~pictures.is_kept
    if show == "grouped":
        grouped = ~pictures.is_kept
        grouped[[row for row in pictures.duplicates if row >= 0]] = True
        return grouped
    return np.ones(len(pictures), np.bool_)


def _ordered(view: View, wanted: Wanted) -> Rows:
    """Return all rows in the order that is wanted; those that are alike in it by id."""
    pictures = view.pictures
    if wanted.show == "grouped" and wanted.order == "newest":
        # The kept picture first, its duplicates after it.
        rows = np.arange(len(pictures), dtype=np.int32)
        heads = np.where(pictures.kept_row < 0, rows, pictures.kept_row)
        return np.lexsort((rows, ~pictures.is_kept, heads)).astype(np.int32)
    if wanted.order in ("highest", "lowest"):
        return view.prelabels.order(wanted.label, wanted.order)
    if wanted.order == "newest":
        return pictures.newest
    if wanted.order == "oldest":
        return np.argsort(pictures.added_us, kind="stable").astype(np.int32)
    pixels = pictures.width.astype(np.int64) * pictures.height
    by = -pixels if wanted.order == "largest" else pixels
    return np.argsort(by, kind="stable").astype(np.int32)


def _start_us(day: date) -> int:
    return (datetime.combine(day, time(), UTC) - EPOCH) // timedelta(microseconds=1)
