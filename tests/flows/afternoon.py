"""The founding experiment: an afternoon with photographs of records and turntables, told by numbers.

A person imports a folder, has CLIP pre-label it, decides about half of the pictures with a slip now
and then, trains, corrects what the review queue proposes, and trains again. A third of the folder
is never decided on by anybody: on it everything is measured, against the photographs' own labels.

Shapes: M held-out pictures, L labels.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flows.catalog import Catalog
from flows.collect import CollectResult
from flows.example_project import EXAMPLE_PROJECT
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.prelabel import PrelabelResult, prelabel
from flows.project import Project
from flows.registry import Registry
from flows.review import Answered, apply_decisions
from flows.settings import Settings
from flows.train import TrainResult, train
from flows.workspace import Workspace
from model.data import grouped_folds, kin_groups
from model.intervals import Interval
from model.metrics import Evaluation, evaluate, paired_difference
from model.thresholds import choose_thresholds

THIRDS = 3
FIRST_ANSWERS = 48
"""Pictures a label that are decided before the first training: half of what there is to decide."""

SLIPS = 4
"""Of those, answers a label that are the wrong way round: one in twelve."""

UNSURE = 24
"""Undecided pictures a label that the queue proposes after the first training."""

Who = Literal["zero-shot", "head", "corrected", "all right"]
WHO: tuple[Who, ...] = ("zero-shot", "head", "corrected", "all right")
"""CLIP's pre-labels; the head before and after one round of correcting; and on all true answers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """The held-out pictures of one afternoon or of several, as everybody scored them."""

    labels: tuple[str, ...]
    targets_ML: NDArray[np.float32]
    groups: tuple[str, ...]
    scores: Mapping[Who, NDArray[np.float32]]
    thresholds: Mapping[Who, NDArray[np.float32]]
    """Each picture's, (M, L): those that were chosen on the afternoon that held it out."""

    @classmethod
    def together(cls, parts: Sequence[Judged]) -> Judged:
        """Return the pictures of several afternoons as one set."""
        return cls(
            labels=parts[0].labels,
            targets_ML=np.concatenate([each.targets_ML for each in parts]),
            groups=tuple(group for each in parts for group in each.groups),
            scores={who: np.concatenate([each.scores[who] for each in parts]) for who in WHO},
            thresholds={
                who: np.concatenate([each.thresholds[who] for each in parts]) for who in WHO
            },
        )

    def evaluation(self, who: Who, *, at_half: bool = False) -> Evaluation:
        """Return how good `who` is at the thresholds that were chosen, or at a half."""
        return evaluate(
            self.scores[who],
            self.targets_ML,
            0.5 if at_half else self.thresholds[who],
            labels=self.labels,
            groups=self.groups,
            seed=0,
        )

    def gain(self, who: Who, over: Who) -> Interval:
        """Return the macro F1 of one less that of another, with its interval."""
        return paired_difference(
            self.scores[who],
            self.scores[over],
            self.targets_ML,
            challenger_thresholds=self.thresholds[who],
            champion_thresholds=self.thresholds[over],
            groups=self.groups,
            seed=0,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Afternoon:
    """What one afternoon did, stage by stage, and how good what it made is."""

    imported: CollectResult
    prelabelled: PrelabelResult
    first: TrainResult
    second: TrainResult
    looked_at_again: int
    """Answers that the first model's report suspected."""
    slips: int
    slips_found: int
    """Wrong answers there were after the first round of decisions, and how many were suspected."""
    decided: tuple[int, int]
    """Answers, both labels together, before each training."""
    judged: Judged


def open_project(root: Path, settings: Settings, weights: Path) -> Workspace:
    """Write what `cratedig init` writes, with a checkpoint for encoder, and open it."""
    named = 'model = "ViT-B-32"\npretrained = "laion2b_s34b_b79k"'
    before, _, rest = EXAMPLE_PROJECT.partition(named)
    _, _, after = rest.partition("\n")
    root.mkdir(parents=True, exist_ok=True)
    # "auto" tries every backend, which takes longer than so few pictures do in any of them.
    after = after.replace('backend = "auto"', 'backend = "torch"')
    (root / "project.toml").write_text(f'{before}checkpoint = "{weights}"\n{after}')
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def spend_afternoon(
    workspace: Workspace, photographs: Path, *, third: int = 0, seed: int = 0
) -> Afternoon:
    """Run the whole line over `photographs` (images/, labels.csv), with a third of it held out.

    The person goes through each label's queue, most uncertain pre-label first, for `FIRST_ANSWERS`
    pictures, and gets `SLIPS` of them wrong, drawn by `seed`. After the first training they look
    again at every answer that the model's report suspects, and at the `UNSURE` undecided pictures
    whose scores are nearest to the threshold; those they get right.
    """
    imported, _ = import_pictures(workspace, str(photographs / "images"))
    prelabelled, _ = prelabel(workspace)
    labels = workspace.project.taxonomy().names
    truth = _truth(workspace, photographs / "labels.csv")
    sha256s, embeddings_ND = workspace.catalog.embeddings(prelabelled.encoder_id, sorted(truth))
    targets_NL = np.array(
        [[label in truth[each] for label in labels] for each in sha256s], np.float32
    )
    kin = kin_groups(sha256s, embeddings_ND, workspace.catalog.duplicates())
    groups = [kin[each] for each in sha256s]
    fold_N = grouped_folds(targets_NL, groups, folds=THIRDS, seed=0)
    pool, out = np.flatnonzero(fold_N != third), np.flatnonzero(fold_N == third)
    zero_shot = {(row.sha256, row.label): row.score for row in workspace.catalog.prelabels()}
    zero_shot_NL = np.array(
        [[zero_shot[each, label] for label in labels] for each in sha256s], np.float32
    )

    answers_NL = np.full_like(targets_NL, np.nan)
    random = np.random.default_rng(seed)
    for column in range(len(labels)):
        seen = pool[np.argsort(np.abs(zero_shot_NL[pool, column] - 0.5), kind="stable")]
        seen = seen[:FIRST_ANSWERS]
        answers_NL[seen, column] = targets_NL[seen, column]
        slipped = random.permutation(seen)[:SLIPS]
        answers_NL[slipped, column] = 1 - targets_NL[slipped, column]
    wrong_NL = ~np.isnan(answers_NL) & (answers_NL != targets_NL)
    thresholds = {"zero-shot": choose_thresholds(zero_shot_NL[pool], answers_NL[pool])}
    decided = [_decide(workspace, sha256s, answers_NL)]
    first = train(workspace)

    registry = Registry(workspace.store, workspace.project.name)
    head = registry.load(first.version).head
    scores = {"zero-shot": zero_shot_NL, "head": head.scores(embeddings_ND)}
    thresholds["head"] = head.thresholds_L
    assert first.card.report is not None
    row_of = {each: row for row, each in enumerate(sha256s)}
    suspects = [(row_of[s.sha256], labels.index(s.label)) for s in first.card.report.suspects]
    for row, column in suspects:
        answers_NL[row, column] = targets_NL[row, column]
    for column in range(len(labels)):
        undecided = pool[np.isnan(answers_NL[pool, column])]
        unsure_N = np.abs(scores["head"][undecided, column] - head.thresholds_L[column])
        proposed = undecided[np.argsort(unsure_N, kind="stable")][:UNSURE]
        answers_NL[proposed, column] = targets_NL[proposed, column]
    decided.append(_decide(workspace, sha256s, answers_NL))
    second = train(workspace)

    answers_NL[pool] = targets_NL[pool]
    _decide(workspace, sha256s, answers_NL)
    for who, version in (("corrected", second.version), ("all right", train(workspace).version)):
        head = registry.load(version).head
        scores[who], thresholds[who] = head.scores(embeddings_ND), head.thresholds_L
    return Afternoon(
        imported=imported,
        prelabelled=prelabelled,
        first=first,
        second=second,
        looked_at_again=len(suspects),
        slips=int(wrong_NL.sum()),
        slips_found=sum(bool(wrong_NL[each]) for each in suspects),
        decided=(decided[0], decided[1]),
        judged=Judged(
            labels=labels,
            targets_ML=targets_NL[out],
            groups=tuple(groups[row] for row in out),
            scores={who: scores[who][out] for who in WHO},
            thresholds={
                who: np.tile(thresholds[who], (len(out), 1)).astype(np.float32) for who in WHO
            },
        ),
    )


def _truth(workspace: Workspace, labels: Path) -> dict[str, set[str]]:
    """Return the true labels of every picture that was kept, by its sha256."""
    with labels.open(newline="", encoding="utf-8") as file:
        of_name = {row["filename"]: row["labels"].split(";") for row in csv.DictReader(file)}
    kept_of = workspace.catalog.duplicates()
    truth: dict[str, set[str]] = {}
    for link in workspace.catalog.links():
        if link.sha256 is not None:
            sha256 = kept_of.get(link.sha256, link.sha256)
            truth.setdefault(sha256, set()).update(filter(None, of_name[link.url.split("/")[-1]]))
    return truth


def _decide(workspace: Workspace, sha256s: Sequence[str], answers_NL: NDArray[np.float32]) -> int:
    """Hand in every answer as the studio would; return how many there are now."""
    labels = workspace.project.taxonomy().names
    answered = [
        Answered(
            image=sha256s[row],
            label=labels[column],
            answer="yes" if answers_NL[row, column] else "no",
        )
        for row, column in np.argwhere(~np.isnan(answers_NL))
    ]
    apply_decisions(workspace, answered, who="a person")
    return len(answered)
