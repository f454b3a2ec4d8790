"""Train on what people have decided, judge it honestly, and promote it when it is better."""

from __future__ import annotations

import dataclasses
import time

from flows import observe
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.facts import picture_facts
from flows.models import compare_models
from flows.prelabel import embed_these
from flows.progress import Watch, unwatched
from flows.registry import Registry
from flows.snapshots import answers_now, snapshot_with_embeddings
from flows.tuned_encoders import production_source, source_of
from flows.workspace import Workspace
from model.card import ModelCard
from model.checkpoint import TrainedModel
from model.data import Snapshot
from model.held_out import unseen_rows
from model.intervals import Interval
from model.page import card_page
from model.report import held_out_targets, make_report
from model.train import train as train_model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRule:
    """When a challenger replaces the champion, by the difference of their macro F1.

    Its interval's lower end must lie above `lowest`, and its value above `mean`.
    """

    lowest: float = -0.01
    mean: float = 0.0

    def allows(self, difference: Interval) -> bool:
        """Say whether the difference is good enough."""
        return difference.low > self.lowest and difference.value > self.mean


DEFAULT_RULE = PromotionRule()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a challenger went into production, and why."""

    promoted: bool
    champion: str | None
    difference: Interval | None
    """Macro F1 of challenger minus champion, on the same pictures, neither fitted on them."""
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training run made."""

    version: str
    snapshot_id: str
    trained: bool
    """False when this very model had been trained before: same pictures, answers and settings."""
    card: ModelCard
    verdict: Verdict
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        macro = self.card.evaluation.macro_f1
        made = "trained" if self.trained else "had already trained"
        state = "in production" if self.verdict.promoted else "not promoted"
        return (
            f"{made} {self.version} macro F1 {macro.value:.2f} [{macro.low:.2f}, {macro.high:.2f}] "
            f"{state}: {self.verdict.reason} in {self.seconds:.0f} s"
        )


def train(
    workspace: Workspace,
    *,
    rule: PromotionRule = DEFAULT_RULE,
    watch: Watch = unwatched,
) -> TrainResult:
    """Make a snapshot, train on it, publish the model, and promote it if it deserves it.

    The head is for the encoder of the model in production where that was fine-tuned from the
    project's, else for the project's. Raises TooFewExamples, naming the label, when there is too
    little to learn from.
    """
    return train_on(workspace, production_source(workspace), rule=rule, watch=watch)


@observe.stage("train")
def train_on(
    workspace: Workspace,
    source: EncoderSource,
    *,
    rule: PromotionRule = DEFAULT_RULE,
    watch: Watch = unwatched,
) -> TrainResult:
    """Train as `train` does, on the embeddings of one encoder."""
    started = time.monotonic()
    if source.kin_id() != source.id():
        decided = sorted(answers_now(workspace).of)
        with watch("embed") as progress:
            for each in (source_of(workspace, source.kin_id()), source):
                embed_these(workspace, each, decided, progress=progress)
    snapshot, embeddings_ND = snapshot_with_embeddings(workspace, source.id(), source.kin_id())
    if not snapshot.examples:
        raise Permanent(
            "no picture has both an embedding and a decision: run `cratedig label`, then review "
            "some in the studio (`cratedig up`)"
        )
    workspace.store.put_once(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())

    prompts = source.prompts(workspace.project.taxonomy())
    with watch("train") as progress:
        model = train_model(
            snapshot,
            embeddings_ND,
            config=workspace.project.train_config(),
            text_LD=prompts.zero_shot_LD,
            seen=source.seen,
            on_progress=progress,
        )
    registry = Registry(workspace.store, workspace.project.name)
    new = not registry.has(model.card.version)
    if new:
        report = make_report(
            model,
            snapshot,
            embeddings_ND,
            facts=picture_facts(workspace.catalog, snapshot.sha256s),
            text_LD=prompts.zero_shot_LD,
            unseen_N=unseen_rows(snapshot.groups, snapshot.sha256s, source.seen)
            if source.seen
            else None,
        )
        model = dataclasses.replace(model, card=dataclasses.replace(model.card, report=report))
        page = card_page(model, held_out_targets(model, snapshot), title=workspace.project.name)
        registry.publish(model, page=page)
    verdict = promote_if_better(registry, model, snapshot, rule)
    return TrainResult(
        version=model.card.version,
        snapshot_id=snapshot.id,
        trained=new,
        card=model.card,
        verdict=verdict,
        seconds=round(time.monotonic() - started, 2),
    )


def promote_if_better(
    registry: Registry,
    model: TrainedModel,
    snapshot: Snapshot,
    rule: PromotionRule = DEFAULT_RULE,
) -> Verdict:
    """Put the model into production if it beats what is there, on pictures neither was fitted on.

    Both are judged by their out-of-fold scores on the pictures that both have, against the answers
    as they are now, each with its own thresholds.
    """
    version, champion = model.card.version, registry.production()
    if champion == version:
        return Verdict(
            promoted=True, champion=champion, difference=None, reason="it is the champion already"
        )
    if champion is None:
        reason = "it is the first model"
        registry.promote(version, instead_of=None, reason=reason)
        return Verdict(promoted=True, champion=None, difference=None, reason=reason)
    comparison = compare_models(model, registry.load(champion), snapshot)
    if comparison is None:
        reason = f"it has no picture or label in common with {champion}, so nothing is shown"
        return Verdict(promoted=False, champion=champion, difference=None, reason=reason)
    difference = comparison.difference
    better = rule.allows(difference)
    reason = (
        f"macro F1 {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] "
        f"against {champion}"
    )
    if better:
        registry.promote(version, instead_of=champion, reason=reason)
    return Verdict(promoted=better, champion=champion, difference=difference, reason=reason)


def report_rows(card: ModelCard) -> list[dict[str, str]]:
    """Return the table of a model: a row a label, then the mean."""
    rows = [
        {
            "label": label.label,
            "yes": str(label.positives),
            "no": str(label.negatives),
            "threshold": f"{label.threshold:.2f}",
            "precision": str(label.precision),
            "recall": str(label.recall),
            "F1": str(label.f1),
            "average precision": str(label.average_precision),
        }
        for label in card.evaluation.labels
    ]
    return [*rows, {"label": "macro F1", "F1": str(card.evaluation.macro_f1)}]


def report_text(card: ModelCard) -> str:
    """Return the table of a model for a terminal."""
    rows = report_rows(card)
    columns = list(rows[0])
    lines = [dict(zip(columns, columns, strict=True)), *rows]
    width = {column: max(len(line.get(column, "")) for line in lines) for column in columns}
    said = [
        "  ".join(line.get(column, "").ljust(width[column]) for column in columns).rstrip()
        for line in lines
    ]
    return "\n".join([*said, *(f"note: {warning}" for warning in card.warnings)])


def report_markdown(result: TrainResult) -> str:
    """Return the verdict on a training run for Prefect's page of it."""
    card = result.card
    rows = report_rows(card)
    columns = list(rows[0])
    table = [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row.get(column, '') for column in columns)} |" for row in rows),
    ]
    notes = [f"- {warning}" for warning in card.warnings]
    return "\n".join([f"**{result}**", "", *table, "", *notes])
