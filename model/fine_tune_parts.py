"""Which pictures an encoder is fine-tuned on, which are watched meanwhile, and which it never sees.

A model on the fine-tuned encoder is judged on the last alone. Kin stay in one part. Where there are
enough of every answer a group's part goes by the hash of its name, so that it stays there as the set
grows, and later models can be compared on pictures that neither has seen.

Shapes: N examples, L labels.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from model.data import Snapshot, grouped_folds
from model.readiness import MIN_ANSWERS
from model.train import TooFewExamples

FITTED, WATCHED, JUDGED = 0, 1, 2

_JUDGED_SHARE = 1 / 3
_WATCHED_SHARE = 1 / 8
_ENOUGH = 10  # answers of either kind, of every label, in every part, for parts by hash


def deal_parts(snapshot: Snapshot) -> NDArray[np.int64]:
    """Return FITTED, WATCHED or JUDGED for every example: about 13/24, 3/24 and 8/24 of them.

    Raises TooFewExamples when a label would lack answers in one of them.
    """
    targets_NL, groups = snapshot.targets_NL(), snapshot.groups
    part_N = np.array([_own_part(group) for group in groups], np.int64)
    if _fewest(targets_NL, part_N, range(3)) >= _ENOUGH:
        return part_N
    part_N = np.full(len(groups), JUDGED)
    if len(set(groups)) >= 6:
        rest_N = grouped_folds(targets_NL, groups, folds=3, seed=snapshot.seed) != 0
        kept = [group for group, in_rest in zip(groups, rest_N, strict=True) if in_rest]
        folds = min(6, len(set(kept)))
        fold_N = grouped_folds(targets_NL[rest_N], kept, folds=folds, seed=snapshot.seed)
        part_N[rest_N] = np.where(fold_N == 0, WATCHED, FITTED)
    too_few = _fewest(targets_NL, part_N, (FITTED, JUDGED)) < MIN_ANSWERS
    if too_few or _fewest(targets_NL, part_N, (WATCHED,)) < 1:
        raise TooFewExamples(
            "too few examples to fine-tune on: of every label there must be a yes and a no to "
            f"watch, and {MIN_ANSWERS} of each to fit on and to judge by, of different kinds; "
            'review more pictures, or leave fine_tune "off"'
        )
    return part_N


def _own_part(group: str) -> int:
    digest = hashlib.sha256(f"part {group}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    if share < _JUDGED_SHARE:
        return JUDGED
    return WATCHED if share < _JUDGED_SHARE + _WATCHED_SHARE else FITTED


def _fewest(
    targets_NL: NDArray[np.float32], part_N: NDArray[np.int64], parts: range | tuple[int, ...]
) -> int:
    """Return how many there are of the rarest answer in those parts."""
    answers = (targets_NL[part_N == part] for part in parts)
    return min(int((each == answer).sum(0).min()) for each in answers for answer in (0, 1))
