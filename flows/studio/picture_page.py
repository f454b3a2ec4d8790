"""The page of one picture: where it came from, what was said of it, and what is like it."""

from __future__ import annotations

import json

import pyarrow.compute as pc
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from flows.errors import NotFound
from flows.predictions import published
from flows.studio.finding import Finder
from flows.studio.gallery import group_of
from flows.studio.pages import label_names, render
from flows.studio.pictures import Sha256
from flows.studio.view import RETRACTED, View

NEIGHBOURS = 12

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/images", tags=["studio"])


class Neighbour(BaseModel):
    """A picture that is like another."""

    sha256: str
    title: str
    nearness: float
    """Cosine of the two embeddings."""


class Neighbours(BaseModel):
    """The nearest pictures, the nearest first, without the picture itself."""

    pictures: list[Neighbour]


class Predicted(BaseModel):
    """What the model in production says of one label."""

    label: str
    score: float
    answer: str
    fitted: bool
    """The model was fitted on this very picture."""


class Predictions(BaseModel):
    """What was published last about a picture; no version when no model is in production."""

    version: str | None
    labels: list[Predicted]


@pages.get("/images/{sha256}")
def picture_page(request: Request, sha256: Sha256) -> Response:
    """Show one picture and all that is known of it."""
    reader = request.app.state.reader
    view = _view_with(request, sha256)
    row = reader.workspace().catalog.image(sha256)
    group = group_of(view, sha256)
    request.app.state.shelf.preload_thumbnails(each.sha256 for each in group)
    history = view.history.get(view.subject(sha256), {}).values()
    context = {
        "picture": view.pictures[sha256],
        "group": group,
        "answers": [
            {
                "label": label,
                "score": view.score(sha256, label),
                "answer": view.answer(sha256, label),
            }
            for label in label_names(request)
        ],
        "provenance": row.provenance,
        "consent_allowed": row.consent_allowed,
        "signals": json.loads(row.consent).get("signals", []),
        "shard": row.shard,
        "history": sorted(
            (row for rows in history for row in rows), key=lambda row: row.at, reverse=True
        ),
        "retracted": RETRACTED,
    }
    return render(request, "picture.html", context)


@api.get("/{sha256}/neighbours")
def neighbours(request: Request, sha256: Sha256) -> Neighbours:
    """Return the pictures whose embeddings are nearest to this one's."""
    view = _view_with(request, sha256)
    finder: Finder = request.app.state.finder
    workspace = request.app.state.reader.workspace()
    found = finder.find(workspace, like=sha256, limit=NEIGHBOURS + 1)
    # The kept picture of its own group is no neighbour: it is the same picture.
    near = {each: cosine for each, cosine in found.items() if each in view.pictures}
    near.pop(view.subject(sha256), None)
    chosen = list(near)[:NEIGHBOURS]
    request.app.state.shelf.preload_thumbnails(chosen)
    return Neighbours(
        pictures=[
            Neighbour(sha256=each, title=view.pictures[each].title, nearness=near[each])
            for each in chosen
        ]
    )


@api.get("/{sha256}/predictions")
def predictions(request: Request, sha256: Sha256) -> Predictions:
    """Return what the model in production has published about a picture."""
    _view_with(request, sha256)
    workspace = request.app.state.reader.workspace()
    model = request.app.state.production.model(workspace)
    if model is None:
        return Predictions(version=None, labels=[])
    rows = {
        row["label"]: row
        for part in published(workspace.store, model.version)
        for row in part.filter(pc.equal(part.column("sha256"), sha256)).to_pylist()
    }
    return Predictions(
        version=model.version,
        labels=[
            Predicted(
                label=label,
                score=row["score"],
                answer="yes" if row["answer"] else "no",
                fitted=row["fitted"],
            )
            for label, row in rows.items()
        ],
    )


def _view_with(request: Request, sha256: str) -> View:
    view: View = request.app.state.reader.view()
    if sha256 not in view.pictures:
        raise NotFound(f"the catalogue has no picture {sha256}")
    return view
