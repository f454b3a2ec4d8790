"""Do answers agree: with each other, with those given blind a second time, and with pre-labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flows.decision_notes import AGAIN, AGAIN_RETRACTED, RETRACTED, SETTLED, kind_of
from flows.rows import DecisionRow
from flows.studio.ledger import Ledger

if TYPE_CHECKING:
    from model.intervals import Interval

_CLEAR = frozenset({"yes", "no"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How often two answers were the same."""

    agreed: int
    pairs: int

    @property
    def interval(self) -> Interval:
        """The share with Wilson's 95 % interval."""
        # It takes scipy along, which the studio starts without.
        from model.intervals import wilson

        return wilson(self.agreed / self.pairs if self.pairs else 0.0, self.pairs)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What answers that were given blind tell about one label; "unsure" is left out."""

    with_oneself: Share
    with_others: Share
    with_prelabels: Share
    """A score of 0.5 or more is a yes. One by one it is hidden; in the grid the order shows it."""


def measure(ledger: Ledger, label: str) -> Agreement:
    """Return how far the blind answers to `label` agree with what was said before."""
    counts = {"oneself": [0, 0], "others": [0, 0], "prelabels": [0, 0]}
    for _, rows in ledger.contested(label):
        standing: DecisionRow | None = None
        pairs: dict[str, tuple[DecisionRow, DecisionRow | None]] = {}
        for row in rows:
            kind = kind_of(row.note)
            if kind == AGAIN:
                pairs[row.who] = (row, standing)
            elif kind == AGAIN_RETRACTED:
                pairs.pop(row.who, None)
            else:
                standing = None if kind == RETRACTED else row
        for again, first in pairs.values():
            if again.answer not in _CLEAR:
                continue
            if again.score is not None:
                said = "yes" if again.score >= 0.5 else "no"
                _count(counts["prelabels"], said == again.answer)
            if first is not None and first.answer in _CLEAR:
                whom = "oneself" if first.who == again.who else "others"
                _count(counts[whom], first.answer == again.answer)
    shares = {name: Share(agreed=agreed, pairs=pairs) for name, (agreed, pairs) in counts.items()}
    return Agreement(
        with_oneself=shares["oneself"],
        with_others=shares["others"],
        with_prelabels=shares["prelabels"],
    )


def disputed(ledger: Ledger, label: str) -> Iterator[int]:
    """Yield the rows of pictures on which yes and no stand against each other.

    What one person said last counts, what was said blind apart from it; nothing from before an
    answer that settled the matter.
    """
    for row, rows in ledger.contested(label):
        if set(last_words(rows).values()) >= _CLEAR:
            yield row


def last_words(rows: Sequence[DecisionRow]) -> dict[tuple[str, bool], str]:
    """Return the last answer of each person, and whether it was given blind."""
    words: dict[tuple[str, bool], str] = {}
    for row in rows:
        kind = kind_of(row.note)
        if kind == SETTLED:
            words = {}
        who = (row.who, kind in (AGAIN, AGAIN_RETRACTED))
        if kind in (RETRACTED, AGAIN_RETRACTED):
            words.pop(who, None)
        else:
            words[who] = row.answer
    return words


def _count(counted: list[int], same: bool) -> None:
    counted[0] += same
    counted[1] += 1
