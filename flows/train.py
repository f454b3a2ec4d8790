"""Train on what people have decided, judge it honestly, and promote it when it is better."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping

from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.facts import picture_facts
from flows.models import compare_models
from flows.progress import Watch, unwatched
from flows.registry import Registry
from flows.workspace import Workspace
from model.card import ModelCard
from model.checkpoint import TrainedModel
from model.data import Example, Snapshot, kin_groups
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


def make_snapshot(workspace: Workspace, encoder_id: str) -> Snapshot:
    """Freeze what may be trained on now: permitted, distinct pictures and their latest answers.

    An answer given to a duplicate counts for the picture that is kept; of several answers the
    latest holds. `unsure` leaves the label unreviewed.
    """
    catalog = workspace.catalog
    names = workspace.project.taxonomy().names
    kept_of = catalog.duplicates()
    latest: dict[tuple[str, str], tuple[object, str]] = {}
    for (sha256, label), decision in catalog.latest_decisions().items():
        subject = (kept_of.get(sha256, sha256), label)
        stamped = (decision.at, decision.answer)
        latest[subject] = max(latest.get(subject, stamped), stamped)
    answers: dict[str, dict[str, bool]] = defaultdict(dict)
    for (sha256, label), (_, answer) in latest.items():
        if label in names and answer != "unsure":
            answers[sha256][label] = answer == "yes"

    permitted = catalog.permitted()
    sha256s, embeddings_ND = catalog.embeddings(encoder_id, sorted(answers.keys() & permitted))
    groups = kin_groups(sha256s, embeddings_ND, kept_of)
    return Snapshot(
        labels=names,
        examples=tuple(
            Example(sha256=sha256, group=groups[sha256], answers=answers[sha256])
            for sha256 in sha256s
        ),
        encoder_id=encoder_id,
        table_versions=catalog.versions(),
        seed=workspace.project.train.seed,
    )


def train(
    workspace: Workspace,
    *,
    rule: PromotionRule = DEFAULT_RULE,
    watch: Watch = unwatched,
) -> TrainResult:
    """Make a snapshot, train on it, publish the model, and promote it if it deserves it.

    Raises TooFewExamples, naming the label, when there is too little to learn from.
    """
    started = time.monotonic()
    source = EncoderSource(workspace)
    snapshot = make_snapshot(workspace, source.id())
    if not snapshot.examples:
        raise Permanent(
            "no picture has both an embedding and a decision: run `cratedig label`, then review "
            "some in the studio (`cratedig up`)"
        )
    workspace.store.put_once(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())

    sha256s = [example.sha256 for example in snapshot.examples]
    _, embeddings_ND = workspace.catalog.embeddings(snapshot.encoder_id, sha256s)
    prompts = source.prompts(workspace.project.taxonomy())
    with watch("train") as progress:
        model = train_model(
            snapshot,
            embeddings_ND,
            config=workspace.project.train_config(),
            text_LD=prompts.zero_shot_LD,
            on_progress=progress,
        )
    registry = Registry(workspace.store, workspace.project.name)
    new = not registry.has(model.card.version)
    if new:
        report = make_report(
            model,
            snapshot,
            embeddings_ND,
            facts=picture_facts(workspace.catalog, sha256s),
            text_LD=prompts.zero_shot_LD,
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


def new_decisions(workspace: Workspace) -> int:
    """Return how many answers people have given or changed since the newest snapshot was made.

    Counted are those that a snapshot made now would have and that one has not, or has otherwise;
    before the first snapshot, all.
    """
    now = make_snapshot(workspace, EncoderSource(workspace).id())
    kept = max(
        workspace.store.list("snapshots/"),
        key=lambda each: (each.last_modified, each.key),
        default=None,
    )
    before: dict[str, Mapping[str, bool]] = {}
    if kept is not None:
        newest = Snapshot.from_json(workspace.store.get(kept.key).decode())
        before = {each.sha256: each.answers for each in newest.examples}
    return sum(
        before.get(each.sha256, {}).get(label) != answer
        for each in now.examples
        for label, answer in each.answers.items()
    )


def should_train(workspace: Workspace, train_after_decisions: int = 50) -> bool:
    """Say whether enough has been decided since the last training to train again."""
    return new_decisions(workspace) >= train_after_decisions


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
