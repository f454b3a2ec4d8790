"""Clusters of undecided pictures that look alike, to be decided together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from flows.studio.api import Holder, Reviewer
from flows.studio.label_pages import labelling
from flows.studio.page_leases import MAX_HELD, Held
from flows.studio.pages import AName, render
from flows.studio.queues import most_used_encoder
from flows.studio.view import View
from flows.workspace import Workspace

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api", tags=["studio"])

MOST = 60
"""Pictures in one cluster: what is seen at one look."""

CANDIDATES = 3_000
CLUSTERS = 50


class ClusterPicture(BaseModel):
    """An undecided picture."""

    sha256: str
    width: int
    height: int
    title: str
    score: float | None = Field(ge=0, le=1)


class Clusters(BaseModel):
    """The largest clusters, each with its centre first and its odd ones last."""

    clusters: list[list[ClusterPicture]]
    waiting: int
    held: int = 0
    """Of those that wait, so many are on the screens of others."""
    holders: list[str] = []
    """Who they are; the names may be empty."""


@router.get("/label/clusters")
def clusters_page(request: Request, label: AName = "") -> Response:
    """Show the page on which pictures that look alike are decided together."""
    return render(request, "label_clusters.html", labelling(request, label, None))


@api.get("/clusters")
def clusters(
    request: Request,
    label: Annotated[str, Query(min_length=1, max_length=200)],
    holder: Holder = "",
    reviewer: Reviewer = "",
) -> Clusters:
    """Return clusters of the undecided pictures of `label` with the highest scores.

    Those are left out that others have on their screens; `holder` is the tab that asks.
    """
    reader = request.app.state.reader
    view = reader.recent()
    if not view.waiting(label).any():
        # That nothing waits is not said before the store has been asked.
        view = reader.view()
    waiting = view.waiting(label)
    rows = view.prelabels.order(label, "highest")
    chosen = [view.pictures.ids[row] for row in rows[waiting[rows]][:CANDIDATES]]
    near = _near(reader.workspace(), chosen)

    def choose(held: Held) -> tuple[Clusters, list[str]]:
        left = [[each for each in ids if each not in held.others] for ids in near]
        free = sorted(filter(None, left), key=len, reverse=True)[:CLUSTERS]
        # As many as one tab may hold: of more, others would be shown the first of them, too.
        ends = np.cumsum([len(ids) for ids in free])
        dealt = [ids for ids, end in zip(free, ends, strict=True) if end <= MAX_HELD]
        known = filter(view.pictures.__contains__, held.others)
        busy = [each for each in known if waiting[view.pictures.row(each)]]
        found = Clusters(
            clusters=[[_shown(view, each, label) for each in ids] for ids in dealt],
            waiting=int(waiting.sum()) - len(busy),
            held=len(busy),
            holders=sorted({held.others[each] for each in busy}),
        )
        return found, [each for ids in dealt for each in ids]

    who = reviewer or request.app.state.access.reviewer
    found: Clusters = request.app.state.queues.lend(label, choose, holder=holder, who=who)
    shelf = request.app.state.shelf
    shelf.preload_thumbnails(each.sha256 for cluster in found.clusters[:2] for each in cluster)
    return found


def _near(workspace: Workspace, sha256s: Sequence[str]) -> list[list[str]]:
    """Return these in clusters, the largest first, by the encoder that has embedded most."""
    from model.clusters import near_together

    encoder = most_used_encoder(workspace)
    if encoder is None or not sha256s:
        return []
    ids, vectors_ND = workspace.catalog.embeddings(encoder, sha256s)
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True).clip(1e-12)
    return [[ids[row] for row in rows.tolist()] for rows in near_together(unit_ND, most=MOST)]


def _shown(view: View, sha256: str, label: str) -> ClusterPicture:
    picture = view.pictures[sha256]
    return ClusterPicture(
        sha256=sha256,
        width=picture.width,
        height=picture.height,
        title=picture.title,
        score=view.score(sha256, label),
    )
