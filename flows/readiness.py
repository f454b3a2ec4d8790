"""What `cratedig train --check` and the studio say before anything is trained."""

from __future__ import annotations

import dataclasses

from flows.encoders import EncoderSource
from flows.facts import picture_facts
from flows.review import waiting
from flows.snapshots import snapshot_with_embeddings
from flows.workspace import Workspace
from model.learning_curve import forecast, learning_curves
from model.mislabels import suspected_mislabels
from model.readiness import Readiness, examine, refusals
from model.report import MORE, held_out_targets
from model.train import train


def check(workspace: Workspace) -> Readiness:
    """Return what could be trained on now, what would be refused, and what more would bring.

    Pictures that are cut off are not counted among the dark, blurred and small, because the catalogue
    has none: a file that ends before its last pixel is rejected when it comes (`crawler.decode`).
    Nothing is stored. Where training would be refused there are no suspects and no forecast.
    """
    source = EncoderSource(workspace)
    snapshot, embeddings_ND = snapshot_with_embeddings(workspace, source.id())
    duplicates = workspace.catalog.duplicates()
    facts = picture_facts(workspace.catalog, snapshot.sha256s)
    suspects, forecasts = [], {}
    if snapshot.examples and not refusals(snapshot):
        # One deal of the cards and few draws: enough for who is suspected, in half the time.
        config = dataclasses.replace(workspace.project.train_config(), repeats=1, resamples=100)
        text_LD = source.prompts(workspace.project.taxonomy()).zero_shot_LD
        model = train(snapshot, embeddings_ND, config=config, text_LD=text_LD)
        suspects = suspected_mislabels(
            model.sha256s,
            model.head.labels,
            model.out_of_fold_NL,
            held_out_targets(model, snapshot),
        )
        curves = learning_curves(
            embeddings_ND,
            snapshot.targets_NL(),
            labels=snapshot.labels,
            groups=snapshot.groups,
            strengths=[model.card.strengths[label] for label in snapshot.labels],
            text_LD=text_LD,
            seed=snapshot.seed,
        )
        for curve, counts in zip(curves, model.card.counts, strict=True):
            if found := forecast(curve, counts.positives, MORE):
                forecasts[curve.label] = found
    return examine(
        snapshot,
        embeddings_ND,
        facts=facts,
        unreviewed=waiting(workspace),
        duplicates=len(duplicates),
        suspects=suspects,
        forecasts=forecasts,
    )


def readiness_text(readiness: Readiness) -> str:
    """Return the check for a terminal."""
    lines = [
        f"{readiness.pictures} pictures with decisions, {readiness.duplicates} duplicates left out"
    ]
    for each in readiness.labels:
        lines.append(
            f"{each.label}: {each.positives} yes, {each.negatives} no, {each.unreviewed} unreviewed; "
            f"from {len(each.sources)} sites; {each.dark} dark, {each.blurred} blurred, "
            f"{each.small} small; mean cosine {each.alike:.2f}"
        )
        if each.disagreements:
            lines.append(
                f"  people differ on {each.disagreements} of its pictures: the latest answer holds"
            )
        if each.forecast:
            then = each.forecast.then
            lines.append(
                f"  about {each.forecast.more} more of {each.label} would bring recall from "
                f"{each.forecast.now:.2f} to about {then.value:.2f} [{then.low:.2f}, {then.high:.2f}]"
            )
    lines += [f"refused: {said}" for said in readiness.refused]
    lines += [f"warning: {said}" for said in readiness.warnings]
    lines.append("ready to train" if readiness.ready else "not ready: review more pictures first")
    return "\n".join(lines)
