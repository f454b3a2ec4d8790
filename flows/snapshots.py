"""What may be trained on now, frozen: permitted, distinct pictures and what people say of them.

Of several answers to one question the latest holds, whoever gave it: it is that of somebody who
could see the earlier ones. Where the last words of two people are yes and no it is counted as a
disagreement all the same, for a label on which people differ is one that no model can get right.
An answer given to a duplicate counts for the picture that is kept. `unsure` leaves a label
unreviewed. Consent is looked at anew each time, as the catalogue has it now.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from flows.decision_notes import stands
from flows.encoders import EncoderSource
from flows.rows import DecisionRow
from flows.workspace import Workspace
from model.data import Example, Snapshot, kin_groups


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What holds of each picture, and on which (picture, label) two people differ."""

    of: Mapping[str, Mapping[str, bool]]
    disputed: frozenset[tuple[str, str]]


def settle(
    decisions: Iterable[DecisionRow], labels: Iterable[str], kept_of: Mapping[str, str]
) -> Answers:
    """Return what holds, from every decision, earliest first; `kept_of` maps duplicates to kept."""
    known = set(labels)
    latest: dict[tuple[str, str], DecisionRow] = {}
    last_words: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in decisions:
        if row.label in known and stands(row.note):
            subject = (kept_of.get(row.sha256, row.sha256), row.label)
            latest[subject] = row
            last_words[subject][row.who] = row.answer
    of: dict[str, dict[str, bool]] = defaultdict(dict)
    for (sha256, label), row in latest.items():
        if row.answer != "unsure":
            of[sha256][label] = row.answer == "yes"
    return Answers(
        of=of,
        disputed=frozenset(
            subject for subject, words in last_words.items() if {"yes", "no"} <= set(words.values())
        ),
    )


def answers_now(workspace: Workspace) -> Answers:
    """Return what holds now of every picture that anybody has decided."""
    catalog = workspace.catalog
    names = workspace.project.taxonomy().names
    return settle(catalog.decisions(), names, catalog.duplicates())


def make_snapshot(workspace: Workspace, encoder_id: str) -> Snapshot:
    """Freeze what may be trained on now."""
    snapshot, _ = snapshot_with_embeddings(workspace, encoder_id)
    return snapshot


def snapshot_with_embeddings(
    workspace: Workspace, encoder_id: str, kin_encoder_id: str | None = None
) -> tuple[Snapshot, NDArray[np.float32]]:
    """Freeze what may be trained on now; return it with the embeddings of its rows, (N, D).

    With `kin_encoder_id`, kin are found by that encoder's vectors, and pictures are those that both
    have embedded: an encoder that was fine-tuned finds alike what has the same labels.
    """
    catalog = workspace.catalog
    names = workspace.project.taxonomy().names
    versions = catalog.versions()
    kept_of = catalog.duplicates()
    answers = settle(catalog.decisions(), names, kept_of)
    usable = sorted(answers.of.keys() & catalog.permitted())
    kin_ND = None
    if kin_encoder_id is not None and kin_encoder_id != encoder_id:
        usable, _ = catalog.embeddings(encoder_id, usable)
        usable, kin_ND = catalog.embeddings(kin_encoder_id, usable)
    sha256s, embeddings_ND = catalog.embeddings(encoder_id, usable)
    groups = kin_groups(sha256s, embeddings_ND if kin_ND is None else kin_ND, kept_of)
    disputed = Counter(
        label
        for sha256 in sha256s
        for label in sorted(answers.of[sha256])
        if (sha256, label) in answers.disputed
    )
    snapshot = Snapshot(
        labels=names,
        examples=tuple(
            Example(sha256=sha256, group=groups[sha256], answers=answers.of[sha256])
            for sha256 in sha256s
        ),
        encoder_id=encoder_id,
        table_versions=versions,
        seed=workspace.project.train.seed,
        disagreements=dict(disputed),
    )
    return snapshot, embeddings_ND


def new_decisions(workspace: Workspace) -> int:
    """Return how many answers people have given or changed since the newest snapshot was made.

    Counted are those that a snapshot made now would have and that one has not, or has otherwise;
    before the first snapshot, all. No snapshot is made for it, and where nothing was written to the
    table of decisions since, nothing but its version is read.
    """
    catalog = workspace.catalog
    names = workspace.project.taxonomy().names
    kept = max(
        workspace.store.list("snapshots/"),
        key=lambda each: (each.last_modified, each.key),
        default=None,
    )
    before: dict[str, Mapping[str, bool]] = {}
    if kept is not None:
        newest = Snapshot.from_json(workspace.store.get(kept.key).decode())
        seen = newest.table_versions.get("decisions")
        if newest.labels == names and seen == catalog.versions().get("decisions"):
            return 0
        before = {each.sha256: each.answers for each in newest.examples}
    answers = answers_now(workspace).of
    usable = answers.keys() & catalog.permitted()
    usable -= set(catalog.without_embedding(EncoderSource(workspace).id()))
    return sum(
        before.get(sha256, {}).get(label) != answer
        for sha256 in usable
        for label, answer in answers[sha256].items()
    )
