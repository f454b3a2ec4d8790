"""Prompts tried out in seconds: on the dataset's decisions, or on a folder, storing nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crawler.archive import SkippedMember, archive_members
from crawler.decode import decode, examine
from crawler.rejections import ImageRejected
from flows.contact_sheet import Card
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.prelabel import calibrations
from flows.search import Hit, search
from flows.workspace import Workspace
from model.labels import LabelPrompt, Taxonomy
from model.prelabel import embed_prompts, margins, prelabel, suggest
from model.ranking import average_precision


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrial:
    """What prompts would do for a label."""

    label: str
    prompts: tuple[str, ...]
    hits: tuple[Hit, ...]
    """The pictures that they rank top; `score` is the margin over the background."""
    average_precision: float
    """Against the decisions so far; nan without a yes."""
    now: float
    """The same of the project's own prompts for the label."""
    decisions: int

    def __str__(self) -> str:
        """Return what to know in a line."""
        return (
            f"{self.label}: average precision {self.average_precision:.3f} "
            f"(project.toml's prompts {self.now:.3f}) on {self.decisions} decisions"
        )

    def cards(self) -> Iterator[Card]:
        """Yield the top pictures for a contact sheet."""
        for place, hit in enumerate(self.hits, start=1):
            yield Card(hit.thumbnail, f"{place}. {hit.score:+.2f} {hit.sha256[:12]}")


def try_prompts(
    workspace: Workspace,
    source: EncoderSource,
    prompts: Sequence[str],
    *,
    label: str,
    against: Sequence[str] = (),
    limit: int = 24,
) -> PromptTrial:
    """Rank the embedded pictures by `prompts` as the label's, and judge that by its decisions.

    Nothing is stored. Raises Permanent for a label that the project does not have.
    """
    configured = {each.label: each for each in workspace.project.taxonomy().labels}
    if label not in configured:
        raise Permanent(
            f"label {label!r} is not in project.toml, which has {', '.join(sorted(configured))}"
        )
    asked = (
        LabelPrompt(label=label, prompts=tuple(prompts), against=tuple(against)),
        configured[label],
    )
    embedded = [embed_prompts(source.load(), Taxonomy(labels=(each,))) for each in asked]
    sha256s, embeddings_ND = workspace.catalog.embeddings(source.id())
    if not sha256s:
        raise Permanent("no picture is embedded yet: run `cratedig label` first")
    row_of = {sha256: row for row, sha256 in enumerate(sha256s)}
    decided = {
        row_of[sha256]: decision.answer == "yes"
        for (sha256, name), decision in workspace.catalog.latest_decisions().items()
        if name == label and decision.answer != "unsure" and sha256 in row_of
    }
    rows = sorted(decided)
    yes_N = np.array([decided[row] for row in rows], dtype=bool)
    judged = [
        average_precision(margins(embeddings_ND, each, encoder_id=source.id())[rows, 0], yes_N)
        for each in embedded
    ]
    direction_D = embedded[0].positive_LD[0] - embedded[0].negative_LD[0]
    return PromptTrial(
        label=label,
        prompts=asked[0].texts,
        hits=tuple(search(workspace, source, direction_D, limit=limit)),
        average_precision=judged[0],
        now=judged[1],
        decisions=len(rows),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DryLabel:
    """One picture of a folder and what the project's prompts say about it, or why nothing."""

    name: str
    scores: dict[str, float]
    thumbnail: bytes = b""
    refused: str = ""

    @property
    def card(self) -> Card:
        """The picture for a contact sheet, labels with a yes first."""
        suggested = ((label, suggest(score)) for label, score in self.scores.items())
        said = [
            f"{label} {each.answer} {each.sure:.0%}"
            for label, each in sorted(suggested, key=lambda pair: pair[1].answer == "no")
        ]
        return Card(self.thumbnail, f"{self.name}: {', '.join(said)}")


def dry_label(workspace: Workspace, source: EncoderSource, path: Path) -> Iterator[DryLabel]:
    """Pre-label the pictures in a folder or archive, one after the other, and store nothing.

    With the calibration that the project's decisions give, as its own pictures get.
    """
    encoder = source.load()
    prompts = source.prompts(workspace.project.taxonomy())
    sha256s, embeddings_ND = workspace.catalog.embeddings(source.id())
    fitted = None
    if sha256s:
        margin_NL = margins(embeddings_ND, prompts, encoder_id=source.id())
        fitted = calibrations(workspace, prompts, sha256s, margin_NL)
    for member in archive_members(path):
        if not isinstance(member, tuple):
            if isinstance(member, SkippedMember):
                yield DryLabel(name=member.name, scores={}, refused=member.detail)
            continue
        name, data = member
        try:
            thumbnail = examine(data).thumbnail
            image = decode(data, reduce_to=encoder.preprocessing.draft_size)
        except ImageRejected as error:
            yield DryLabel(name=name, scores={}, refused=str(error))
            continue
        scores_1L = prelabel(
            encoder.encode_images([image]), prompts, encoder_id=encoder.id, calibrations=fitted
        )
        scores = dict(zip(prompts.labels, map(float, scores_1L[0]), strict=True))
        yield DryLabel(name=name, scores=scores, thumbnail=thumbnail)


def dry_table(found: Sequence[DryLabel]) -> str:
    """Return a line a picture: its name, and a score a label."""
    labels = next((list(each.scores) for each in found if each.scores), [])
    width = max((len(each.name) for each in found), default=0)
    lines = [f"{'':<{width}}  {'  '.join(labels)}"]
    for each in found:
        scores = (
            "  ".join(f"{each.scores[label]:>{len(label)}.2f}" for label in labels)
            if each.scores
            else each.refused
        )
        lines.append(f"{each.name:<{width}}  {scores}")
    return "\n".join(lines)
