"""Use other thresholds: publish a version that has them, derived from one that was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from flows.encoders import EncoderSource
from flows.errors import NotFound, Permanent
from flows.facts import picture_facts
from flows.registry import Registry
from flows.workspace import Workspace
from model.data import Snapshot
from model.page import card_page
from model.report import held_out_targets, make_report
from model.rethreshold import with_thresholds


def publish_with_thresholds(
    workspace: Workspace, version: str, thresholds: Mapping[str, float]
) -> str:
    """Publish `version` with other thresholds, card, report and page included; return its name.

    Models never change, so that a prediction can be walked back to the thresholds it was made
    with: this is a version of its own, that has its weights from the other. Promoting it is a step
    of its own, too. Raises NotFound for a version that is not there.
    """
    registry = Registry(workspace.store, workspace.project.name)
    if not registry.has(version):
        raise NotFound(f"there is no model version {version}: see `cratedig models list`")
    model = registry.load(version)
    text = workspace.store.get(f"snapshots/{model.card.snapshot_id}.json").decode()
    snapshot = Snapshot.from_json(text)
    try:
        derived = with_thresholds(model, snapshot, thresholds)
    except ValueError as error:
        raise Permanent(str(error)) from error
    if not registry.has(derived.card.version):
        sha256s, embeddings_ND = workspace.catalog.embeddings(
            snapshot.encoder_id, list(snapshot.sha256s)
        )
        # Pictures that were forgotten since leave no vector: a report of the rest would be another's.
        if len(sha256s) == len(snapshot.sha256s):
            prompts = EncoderSource(workspace).prompts(workspace.project.taxonomy())
            report = make_report(
                derived,
                snapshot,
                embeddings_ND,
                facts=picture_facts(workspace.catalog, sha256s),
                text_LD=prompts.zero_shot_LD if prompts.labels == snapshot.labels else None,
            )
            derived = dataclasses.replace(
                derived, card=dataclasses.replace(derived.card, report=report)
            )
        page = card_page(derived, held_out_targets(derived, snapshot), title=workspace.project.name)
        registry.publish(derived, page=page)
    return derived.card.version
