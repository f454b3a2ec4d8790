"""All decisions by columns: which answer stands, who gave which before, and what people disagree on.

A group is what was said about one label of one picture; as in training, an answer given to a
duplicate counts for the picture that is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.decision_notes import RETRACTED, id_of, kind_of, stands
from flows.rows import DECISIONS, Answer, DecisionRow, to_table
from flows.studio.columns import EPOCH, Pictures

_GIVEN: tuple[Answer, ...] = tuple(sorted(get_args(Answer)))
ANSWERS: tuple[Answer | None, ...] = (None, *_GIVEN)
"""What a code in `Ledger.answers` means."""

_COLUMN = np.dtype(
    [
        ("at", "i8"),
        ("who", "i4"),
        ("sha256", "i4"),
        ("label", "i4"),
        ("answer", "i1"),
        ("kind", "i4"),
        ("score", "f4"),
        ("id", "u8"),
    ]
)

_SPAN = 2**32
"""More than there are rows of pictures and names of pictures together."""


class Words:
    """Names by number. Only ever added to, so that numbers given out stay what they are."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._code: dict[str, int] = {}

    def code(self, name: str) -> int:
        """Return the name's number, a new one if it has none."""
        found = self._code.get(name)
        if found is None:
            found = self._code[name] = len(self.names)
            self.names.append(name)
        return found

    def find(self, name: str) -> int:
        """Return the name's number, or -1."""
        return self._code.get(name, -1)

    def codes(self, names: pa.Array) -> NDArray[np.int32]:
        """Return the numbers of an Arrow array of names."""
        encoded = names.dictionary_encode()
        codes = np.array([self.code(each) for each in encoded.dictionary.to_pylist()], np.int32)
        return codes[encoded.indices.to_numpy()] if len(codes) else codes


class _Words:
    """Every name: shared by the ledgers made of one another."""

    def __init__(self) -> None:
        self.who, self.sha256, self.label, self.kind = Words(), Words(), Words(), Words()


class Ledger(Mapping[str, Mapping[str, Sequence[DecisionRow]]]):
    """Decisions in the order in which they were made; a kept picture's id leads to those on it."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._words = _Words()
        self._rows = np.empty(0, _COLUMN)
        self._order = np.empty(0, np.int64)
        self._keys = np.empty(0, np.int64)  # of the rows in `_order`
        self._answers: dict[str, NDArray[np.int8]] = {}
        self._ids: set[int] = set()

    @classmethod
    def of(cls, pictures: Pictures, rows: Iterable[DecisionRow]) -> Ledger:
        """Return the ledger of those decisions."""
        return cls(pictures).plus_rows(rows)

    def plus(self, table: pa.Table) -> Ledger:
        """Return a ledger with the decisions of a table of `DECISIONS` as well; none counts twice."""
        if not table.num_rows:
            return self
        table = table.combine_chunks()
        notes = table["note"].to_pylist()
        rows = np.empty(table.num_rows, _COLUMN)
        rows["at"] = table["at"].cast(pa.int64()).to_numpy()
        for name in ("who", "sha256", "label"):
            rows[name] = getattr(self._words, name).codes(table[name].chunk(0))
        answers = np.array([ANSWERS.index(each) for each in table["answer"].to_pylist()], np.int8)
        rows["answer"] = answers
        rows["kind"] = [self._words.kind.code(kind_of(note)) for note in notes]
        rows["id"] = [_hashed(id_of(note)) for note in notes]
        rows["score"] = table["score"].fill_null(np.nan).to_numpy()
        rows = self._new(rows)
        if not len(rows):
            return self
        if len(self._rows) and rows["at"].min() <= self._rows["at"][-1]:
            rows = self._in_order(np.concatenate([self._rows, rows]))
            return self._over(rows[_first_mentions(rows)], self._pictures)
        rows = self._in_order(rows)
        return self._followed_by(rows[_first_mentions(rows)])

    def plus_rows(self, rows: Iterable[DecisionRow]) -> Ledger:
        """Return a ledger with those decisions as well."""
        return self.plus(to_table(rows, DECISIONS))

    def moved_to(self, pictures: Pictures) -> Ledger:
        """Return the same decisions on other pictures, or on others' duplicates."""
        return self._over(self._rows, pictures)

    def _new(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Return the rows whose id is not known yet, and those without one."""
        there = [each != 0 and each in self._ids for each in rows["id"].tolist()]
        new: NDArray[np.void] = rows[~np.array(there)]
        return new

    def _in_order(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Return the rows by time; of one microsecond by what was said, as in the catalogue."""
        if np.all(rows["at"][1:] > rows["at"][:-1]):
            return rows
        who = np.argsort(np.argsort(self._words.who.names))[rows["who"]]
        keys = (rows["answer"], rows["label"], rows["sha256"], who, rows["at"])
        return rows[np.lexsort(keys)]

    def _over(self, rows: NDArray[np.void], pictures: Pictures) -> Ledger:
        """Return the ledger of those rows on those pictures."""
        made = Ledger(pictures)
        made._words, made._rows = self._words, rows
        made._ids = set(rows["id"].tolist())
        keys = made._keys_of(rows)
        made._order = np.argsort(keys, kind="stable")
        made._keys = keys[made._order]
        return made

    def _followed_by(self, rows: NDArray[np.void]) -> Ledger:
        """Return the ledger with rows that are later than all that are there."""
        made = Ledger(self._pictures)
        made._words, made._rows = self._words, np.concatenate([self._rows, rows])
        # Its own: a ledger that is made of the same one beside this may not have these rows.
        made._ids = self._ids | set(rows["id"].tolist())
        keys = made._keys_of(rows)
        order = np.argsort(keys, kind="stable")
        at = np.searchsorted(self._keys, keys[order], side="right")
        made._keys = np.insert(self._keys, at, keys[order])
        made._order = np.insert(self._order, at, order + len(self._rows))
        touched = {self._words.label.names[code] for code in np.unique(rows["label"])}
        kept = {label: each for label, each in self._answers.items() if label not in touched}
        made._answers = kept
        return made

    def _keys_of(self, rows: NDArray[np.void]) -> NDArray[np.int64]:
        """Return the group of each row: its label, and the row of the picture that it counts for."""
        codes, places = np.unique(rows["sha256"], return_inverse=True)
        names = pa.array([self._words.sha256.names[code] for code in codes], pa.string())
        known = len(self._pictures)
        subject = known + codes.astype(np.int64)
        if known:
            row = self._pictures.rows_of(names)
            kept = np.where(row >= 0, self._pictures.kept_row[row], -1)
            # One that is not among the pictures (yet) stands for itself, behind them.
            subject = np.where(kept >= 0, kept, subject)
        return rows["label"].astype(np.int64) * _SPAN + subject[places]

    def __len__(self) -> int:
        return len(self._subjects)

    def __iter__(self) -> Iterator[str]:
        known = len(self._pictures)
        for subject in self._subjects.tolist():
            if subject < known:
                yield self._pictures.ids[subject]
            else:
                yield self._words.sha256.names[subject - known]

    def __getitem__(self, sha256: str) -> dict[str, list[DecisionRow]]:
        """Return the decisions on a kept picture by label, oldest first; KeyError for none."""
        found = {}
        for label in self._words.label.names:
            rows = self.on(sha256, label)
            if rows:
                found[label] = rows
        if not found:
            raise KeyError(sha256)
        return found

    def on(self, sha256: str, label: str) -> list[DecisionRow]:
        """Return the decisions on one label of a kept picture, oldest first."""
        return [self._row(each) for each in self._group(sha256, label).tolist()]

    def knows(self, decision_id: str) -> bool:
        """Say whether a decision was handed in under that id."""
        return _hashed(decision_id) in self._ids

    def answers(self, label: str) -> NDArray[np.int8]:
        """Return the answer that stands for every row of the pictures, as a place in `ANSWERS`.

        Duplicates have none of their own.
        """
        if label not in self._answers:
            found = np.zeros(len(self._pictures), np.int8)
            rows, subject = self._last_words(label)
            back = rows["kind"] == self._words.kind.find(RETRACTED)
            found[subject] = np.where(back, 0, rows["answer"])
            self._answers[label] = found
        return self._answers[label]

    def answered_since(self, label: str, when: datetime) -> NDArray[np.bool_]:
        """Return of every row of the pictures whether its answer was given after `when`."""
        found = np.zeros(len(self._pictures), np.bool_)
        rows, subject = self._last_words(label)
        found[subject] = rows["at"] > (when - EPOCH) // timedelta(microseconds=1)
        return found

    def _last_words(self, label: str) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """Return the decision that stands on each picture, and the rows of those pictures."""
        code = self._words.label.find(label)
        low, high = np.searchsorted(self._keys, [code * _SPAN, (code + 1) * _SPAN])
        order, subject = self._order[low:high], self._keys[low:high] - code * _SPAN
        names = self._words.kind.names
        standing = [number for number, kind in enumerate(names) if stands(kind)]
        counts = np.isin(self._rows["kind"][order], standing) & (subject < len(self._pictures))
        order, subject = order[counts], subject[counts]
        last = np.append(subject[1:] != subject[:-1], True)[: len(subject)]
        return self._rows[order[last]], subject[last]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every label that something was said about."""
        return tuple(self._words.label.names)

    @property
    def decisions(self) -> int:
        """How many decisions there are."""
        return len(self._rows)

    def contested(self, label: str) -> Iterator[tuple[int, list[DecisionRow]]]:
        """Yield the groups in which more than one answer was given: a picture's row, and them."""
        code = self._words.label.find(label)
        if code < 0:
            return
        low, high = np.searchsorted(self._keys, [code * _SPAN, (code + 1) * _SPAN])
        subjects, starts = np.unique(self._keys[low:high], return_index=True)
        counts = np.diff(np.append(starts, high - low))
        for subject, start, count in zip(
            (subjects - code * _SPAN).tolist(), starts.tolist(), counts.tolist(), strict=True
        ):
            if count > 1 and subject < len(self._pictures):
                places = self._order[low + start : low + start + count]
                yield subject, [self._row(each) for each in places.tolist()]

    @cached_property
    def _subjects(self) -> NDArray[np.int64]:
        return np.unique(self._keys % _SPAN)

    def _group(self, sha256: str, label: str) -> NDArray[np.int64]:
        code, row = self._words.label.find(label), self._pictures.row(sha256)
        if row < 0:
            row = self._words.sha256.find(sha256)
            row = row + len(self._pictures) if row >= 0 else -1
        if code < 0 or row < 0:
            return np.empty(0, np.int64)
        key = code * _SPAN + row
        low, high = np.searchsorted(self._keys, [key, key + 1])
        return self._order[low:high]

    def _row(self, place: int) -> DecisionRow:
        row = self._rows[place]
        return DecisionRow(
            sha256=self._words.sha256.names[row["sha256"]],
            label=self._words.label.names[row["label"]],
            answer=_GIVEN[row["answer"] - 1],
            who=self._words.who.names[row["who"]],
            at=EPOCH + timedelta(microseconds=int(row["at"])),
            score=None if np.isnan(row["score"]) else float(row["score"]),
            note=self._words.kind.names[row["kind"]],
        )


def _hashed(decision_id: str) -> int:
    """Return 64 bits of the id, never 0; 0 for no id."""
    if not decision_id:
        return 0
    digest = hashlib.blake2b(decision_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


def _first_mentions(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which rows are not one that is there already, under its id or word for word."""
    first = np.ones(len(rows), np.bool_)
    named = np.flatnonzero(rows["id"] != 0)
    _, kept = np.unique(rows["id"][named], return_index=True)
    first[named] = False
    first[named[kept]] = True
    # Rows are in the order of time and content: the same word twice stands side by side.
    if len(rows) > 1:
        same = np.ones(len(rows) - 1, np.bool_)
        for name in ("at", "who", "sha256", "label", "answer", "kind"):
            same &= rows[name][1:] == rows[name][:-1]
        first[1:] &= ~same
    return first
