"""Clusters of undecided pictures that look alike, to be decided together."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from flows.studio.label_pages import labelling
from flows.studio.pages import AName, render
from flows.studio.queues import most_used_encoder

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


@router.get("/label/clusters")
def clusters_page(request: Request, label: AName = "") -> Response:
    """Show the page on which pictures that look alike are decided together."""
    return render(request, "label_clusters.html", labelling(request, label, None))


@api.get("/clusters")
def clusters(
    request: Request, label: Annotated[str, Query(min_length=1, max_length=200)]
) -> Clusters:
    """Return clusters of the undecided pictures of `label` with the highest scores."""
    from model.clusters import near_together

    reader = request.app.state.reader
    view, workspace = reader.recent(), reader.workspace()
    waiting = view.waiting(label)
    rows = view.prelabels.order(label, "highest")
    chosen = [view.pictures.ids[row] for row in rows[waiting[rows]][:CANDIDATES]]
    encoder = most_used_encoder(workspace)
    found: list[list[ClusterPicture]] = []
    if encoder is not None and chosen:
        ids, vectors_ND = workspace.catalog.embeddings(encoder, chosen)
        unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True).clip(1e-12)
        for members in near_together(unit_ND, most=MOST)[:CLUSTERS]:
            cluster = []
            for member in members.tolist():
                picture = view.pictures[ids[member]]
                cluster.append(
                    ClusterPicture(
                        sha256=picture.sha256,
                        width=picture.width,
                        height=picture.height,
                        title=picture.title,
                        score=view.score(picture.sha256, label),
                    )
                )
            found.append(cluster)
    shelf = request.app.state.shelf
    shelf.preload_thumbnails(each.sha256 for cluster in found[:2] for each in cluster)
    return Clusters(clusters=found, waiting=int(waiting.sum()))
