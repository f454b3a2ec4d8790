"""What people said about pairs of pictures: one picture, or two. It stands above what is computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A person's word on two pictures, by their ids."""

    first: str
    second: str
    same: bool


class Sides:
    """Pictures that were said to be one, and that were said to be two, without contradiction.

    The newest verdict goes first, so that of verdicts that contradict each other, directly or by way
    of a third picture, the newer one stands. What is not a person's word comes last, through `join`.
    """

    def __init__(self, verdicts: Sequence[Verdict] = ()) -> None:
        """Take the verdicts, oldest first."""
        self._parent: dict[str, str] = {}
        self._apart: defaultdict[str, set[str]] = defaultdict(set)
        for verdict in reversed(verdicts):
            if verdict.same:
                self.join(verdict.first, verdict.second)
            else:
                self._part(verdict.first, verdict.second)

    @property
    def any_apart(self) -> bool:
        """Whether any two are held apart."""
        return bool(self._apart)

    def side(self, sha256: str) -> str:
        """Return what stands for all that are one picture with this one; itself when nothing was said."""
        while sha256 in self._parent:
            sha256 = self._parent[sha256]
        return sha256

    def are_apart(self, first: str, second: str) -> bool:
        """Say whether the two must not be in one group."""
        return self.side(second) in self._apart.get(self.side(first), ())

    def apart_from(self, sha256: str) -> set[str]:
        """Return the sides that must not be in one group with this picture."""
        return set(self._apart.get(self.side(sha256), ()))

    def join(self, first: str, second: str) -> bool:
        """Let two be one picture; False when they are held apart."""
        one, other = self.side(first), self.side(second)
        if one == other:
            return True
        if other in self._apart.get(one, ()):
            return False
        self._parent[other] = one
        for foe in self._apart.pop(other, set()):
            self._apart[foe].discard(other)
            self._apart[foe].add(one)
            self._apart[one].add(foe)
        return True

    def _part(self, first: str, second: str) -> None:
        one, other = self.side(first), self.side(second)
        if one != other:
            self._apart[one].add(other)
            self._apart[other].add(one)
