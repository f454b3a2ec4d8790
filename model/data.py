"""What a model is trained on, frozen; and splits that never part pictures that are kin.

Shapes: N examples, D embedding, L labels, F folds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_CHECK_PLANES = 64  # leading directions in which near pairs are looked for first
_MAX_NEIGHBOURS = 16  # nearest kin kept a picture, so that memory stays N x 16
_ROUNDING = 1e-5  # slack for float32 sums when pairs are pruned


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One picture and what people decided about it.

    `answers` maps a label to yes or no; a label that is absent is unreviewed, and never counts as
    a no. Pictures with the same `group` are kin: they stay on one side of every split.
    """

    sha256: str
    group: str
    answers: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Exactly what a model is trained on; two snapshots with one id train the same model.

    Examples are in the order of their sha256, each once: the one order in which embeddings,
    targets and scores go beside them. ValueError is raised otherwise, and for an answer to a label
    that the snapshot does not have. `table_versions` says where the rows were read, and
    `disagreements` per label on how many pictures the last words of two people are yes and no;
    neither changes the id.
    """

    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    encoder_id: str
    table_versions: Mapping[str, int]
    seed: int
    disagreements: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are given twice: {', '.join(self.labels)}")
        for before, after in itertools.pairwise(self.examples):
            if before.sha256 >= after.sha256:
                raise ValueError(
                    f"examples go in the order of their sha256, each once: "
                    f"{after.sha256} follows {before.sha256}"
                )
        known = set(self.labels)
        for example in self.examples:
            if unknown := set(example.answers) - known:
                raise ValueError(
                    f"image {example.sha256} is answered for {', '.join(sorted(unknown))}, "
                    f"which is not among the labels {', '.join(self.labels)}"
                )

    @property
    def id(self) -> str:
        """16 hex digits, decided by the rows, groups, answers, labels, encoder and seed alone."""
        decisive = self._as_dict()
        del decisive["table_versions"], decisive["disagreements"]
        return hashlib.sha256(_canonical(decisive).encode()).hexdigest()[:16]

    @property
    def sha256s(self) -> tuple[str, ...]:
        """The images, in the order of the rows of `targets_NL`."""
        return tuple(example.sha256 for example in self.examples)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row."""
        return tuple(example.group for example in self.examples)

    def targets_NL(self) -> NDArray[np.float32]:  # noqa: N802 - shape suffix
        """Return 1 for yes, 0 for no, nan for unreviewed; columns in the order of `labels`."""
        targets_NL = np.full((len(self.examples), len(self.labels)), np.nan, np.float32)
        column = {label: index for index, label in enumerate(self.labels)}
        for row, example in enumerate(self.examples):
            for label, answer in example.answers.items():
                targets_NL[row, column[label]] = answer
        return targets_NL

    def to_json(self) -> str:
        """Return canonical JSON: the same snapshot gives the same text."""
        return _canonical(self._as_dict())

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """Return the snapshot that `to_json` wrote."""
        fields = json.loads(text)
        return cls(
            labels=tuple(fields["labels"]),
            examples=tuple(
                Example(sha256=sha256, group=group, answers=answers)
                for sha256, group, answers in fields["examples"]
            ),
            encoder_id=fields["encoder_id"],
            table_versions=fields["table_versions"],
            seed=fields["seed"],
            disagreements=fields.get("disagreements", {}),  # older ones did not count them
        )

    def _as_dict(self) -> dict[str, object]:
        return {
            "labels": self.labels,
            "examples": [(e.sha256, e.group, dict(e.answers)) for e in self.examples],
            "encoder_id": self.encoder_id,
            "table_versions": dict(self.table_versions),
            "seed": self.seed,
            "disagreements": dict(self.disagreements),
        }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def kin_groups(
    sha256s: Sequence[str],
    embeddings_ND: NDArray[np.float32],
    duplicate_of: Mapping[str, str],
    near: float = 0.97,
) -> dict[str, str]:
    """Return the group of every image: the smallest sha256 among its kin.

    Kin are duplicates (`duplicate_of`: image -> the one that was kept, which need not be in
    `sha256s` itself) and pictures of one page or shoot, recognised by a cosine of at least `near`
    between their unit embeddings. The nearest pairs are joined first, and nearness joins no more
    than a twentieth of the pictures (or ten) into one group: an encoder that finds more than that
    alike is saying what a picture shows, not where it was taken, and one group of half the
    pictures could not be split. Duplicates are joined whatever their number.
    """
    if embeddings_ND.ndim != 2 or len(embeddings_ND) != len(sha256s):
        raise ValueError(f"{len(sha256s)} images come with embeddings {embeddings_ND.shape}")
    kin = _DisjointSets([*sha256s, *sorted(duplicate_of.values())])
    present = set(sha256s)
    for duplicate, kept in sorted(duplicate_of.items()):
        if duplicate in present:
            kin.join(duplicate, kept)
    largest = max(10, len(sha256s) // 20)
    for left, right in _near_pairs(embeddings_ND, near):
        kin.join(sha256s[left], sha256s[right], largest=largest)
    smallest: dict[str, str] = {}
    for sha256 in sorted(sha256s):
        smallest.setdefault(kin.root(sha256), sha256)
    return {sha256: smallest[kin.root(sha256)] for sha256 in sha256s}


def _near_pairs(embeddings_ND: NDArray[np.float32], near: float) -> list[tuple[int, int]]:
    """Return index pairs with a cosine of at least `near`, nearest first.

    Exact, but for pictures with more than 16 later neighbours, of which the nearest 16 are given.
    In the pictures' own leading directions, the length of what is left over taken as one direction
    more, a cosine can only look larger than it is: that prunes almost all of the N x N pairs at a
    fraction of the cost of D directions.
    """
    n, dim = embeddings_ND.shape
    if n < 2:
        return []
    sketch = embeddings_ND.astype(np.float32)
    if _CHECK_PLANES + 1 < dim < n / 2:  # else finding the directions costs more than it saves
        _, axes_DD = np.linalg.eigh(sketch.T @ sketch)
        lead = sketch @ axes_DD[:, -_CHECK_PLANES:]
        rest = np.sqrt(np.maximum((sketch**2).sum(1) - (lead**2).sum(1), 0))
        sketch = np.column_stack([lead, rest])
    lefts, rights, cosines = [], [], []
    block = max(1, 32_000_000 // n)
    for start in range(0, n, block):
        bound = sketch[start : start + block] @ sketch[start:].T
        left, right = np.nonzero(np.triu(bound >= near - _ROUNDING, k=1))
        cosine = _paired_cosines(embeddings_ND, left + start, right + start)
        order = np.lexsort((right, -cosine, left))
        order = order[cosine[order] >= near]
        first = np.searchsorted(left[order], left[order])  # where each row's own pairs begin
        order = order[np.arange(len(order)) - first < _MAX_NEIGHBOURS]
        lefts.append(left[order] + start)
        rights.append(right[order] + start)
        cosines.append(cosine[order])
    all_left, all_right = np.concatenate(lefts), np.concatenate(rights)
    order = np.lexsort((all_right, all_left, -np.concatenate(cosines)))
    return list(zip(all_left[order].tolist(), all_right[order].tolist(), strict=True))


def _paired_cosines(
    embeddings_ND: NDArray[np.float32], left: NDArray[np.intp], right: NDArray[np.intp]
) -> NDArray[np.float32]:
    cosine = np.empty(len(left), np.float32)
    for start in range(0, len(left), 65_536):  # 65,536 x 512 float32 are 128 MiB
        part = slice(start, start + 65_536)
        cosine[part] = np.einsum("pd,pd->p", embeddings_ND[left[part]], embeddings_ND[right[part]])
    return cosine


class _DisjointSets:
    """Union-find over names, with the size of every set."""

    def __init__(self, names: Sequence[str]) -> None:
        self._parent = {name: name for name in names}
        self._size = dict.fromkeys(names, 1)

    def root(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, left: str, right: str, *, largest: float = math.inf) -> None:
        """Join two sets, unless the result would have more than `largest` members."""
        left, right = self.root(left), self.root(right)
        if left != right and self._size[left] + self._size[right] <= largest:
            self._parent[right] = left
            self._size[left] += self._size[right]


def grouped_folds(
    targets_NL: NDArray[np.float32], groups: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of every row, 0 to `folds` - 1; a group is never parted.

    Each fold gets its share of rows, and of every label's yes and no answers, as nearly as whole
    groups allow: groups go, rarest content first, to the fold that lacks most of what they hold
    (Sechidis et al., On the stratification of multi-label data, 2011, with groups for examples).
    Ties go by `seed`. ValueError is raised when there are fewer groups than folds.
    """
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group_N.max()) + 1 if len(group_N) else 0
    if not 2 <= folds <= number:
        raise ValueError(f"{folds} folds cannot be made of {number} groups")
    content_NC = np.column_stack([np.ones(len(group_N)), targets_NL == 1, targets_NL == 0])
    content_GC = np.zeros((number, content_NC.shape[1]))
    np.add.at(content_GC, group_N, content_NC)
    total_C = content_GC.sum(0)
    content_GC /= np.where(total_C > 0, total_C, 1)  # a share of all there is of its kind

    rng = np.random.default_rng(seed)
    order = rng.permutation(number)
    order = order[np.argsort(-content_GC[order].max(1), kind="stable")]
    fold_name = rng.permutation(folds)
    lacking_FC = np.full((folds, len(total_C)), 1 / folds)
    fold_G = np.empty(number, np.int64)
    # The inner product is how much the choice lessens the sum of squared lacks; the totals weigh
    # them so that one rare answer counts as much as one common answer.
    for group in order:
        fold = int(np.argmax(lacking_FC @ (content_GC[group] * total_C)))
        lacking_FC[fold] -= content_GC[group]
        fold_G[group] = fold
    return fold_name[fold_G][group_N]
