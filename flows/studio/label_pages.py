"""The pages on which pictures are decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from flows.catalog import Catalog
from flows.errors import ProjectInvalid
from flows.labels import merge_labels, rename_label
from flows.project import LabelConfig, Prompt
from flows.project_edits import add_label, change_label
from flows.studio.agreement import disputed, measure
from flows.studio.pages import AName, known_label, label_names, render
from flows.studio.queues import ORDERS, Order

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/labels", tags=["studio"])

Name = Annotated[
    str,
    Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$"),
]
Sentences = Annotated[list[Annotated[Prompt, Field(max_length=500)]], Field(max_length=100)]


@router.get("/label")
def label_page(request: Request, label: AName = "", order: Order = "teaching") -> Response:
    """Show the page on which pictures are decided one by one."""
    return render(request, "label.html", labelling(request, label, order))


@router.get("/label/grid")
def label_grid_page(request: Request, label: AName = "", order: Order = "highest") -> Response:
    """Show the page on which many pictures are decided at once."""
    return render(request, "label_grid.html", labelling(request, label, order))


@router.get("/label/labels")
def labels_page(request: Request) -> Response:
    """Show the labels, to be changed."""
    workspace = request.app.state.reader.workspace()
    return render(request, "labels.html", {"labels": workspace.project.labels})


class LabelFields(BaseModel):
    """What a label is and what CLIP is asked about it."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: str = Field(default="", max_length=2000)
    prompts: Sentences = []
    against: Sentences = []
    synonyms: Sentences = []


class Renamed(BaseModel):
    """A label's new name."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    to: Name


class Done(BaseModel):
    """What was done, in a sentence."""

    said: str


@api.post("/add")
def add(request: Request, sent: LabelFields) -> Done:
    """Add a label."""
    with _refused():
        add_label(_root(request), LabelConfig.model_validate(_given(sent)))
    return Done(said=f"Added {sent.name}.")


@api.post("/change")
def change(request: Request, sent: LabelFields) -> Done:
    """Change what is said of a label."""
    with _refused():
        change_label(_root(request), sent.name, sent.model_dump(exclude={"name"}))
    return Done(said=f"Changed {sent.name}. Run `cratedig label` for scores by its new prompts.")


@api.post("/rename")
def rename(request: Request, sent: Renamed) -> Done:
    """Give a label another name; its answers follow."""
    with _refused():
        done = rename_label(_root(request), _catalog(request), sent.name, sent.to)
    return Done(said=f"{sent.name} is {sent.to} now: {done}.")


@api.post("/merge")
def merge(request: Request, sent: Renamed) -> Done:
    """Make a label part of another; its answers move where that has none."""
    with _refused():
        done = merge_labels(_root(request), _catalog(request), sent.name, sent.to)
    return Done(said=f"{sent.name} is part of {sent.to} now: {done}.")


@contextmanager
def _refused() -> Iterator[None]:
    """Answer 422, with the sentence, to what project.toml does not allow."""
    try:
        yield
    except (ProjectInvalid, ValidationError) as error:
        raise HTTPException(422, str(error)) from error


def _given(sent: LabelFields) -> dict[str, Any]:
    return {key: value for key, value in sent.model_dump().items() if value}


def _root(request: Request) -> Path:
    root: Path = request.app.state.reader.workspace().root
    return root


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.reader.workspace().catalog
    return catalog


def labelling(request: Request, label: str, order: Order | None) -> dict[str, Any]:
    """Return what the pages for deciding have in common."""
    view = request.app.state.reader.view()
    labels = label_names(request)
    chosen = known_label(label, labels)
    counts = [view.label_count(each) for each in labels]
    agreement = measure(view.decisions, chosen)
    project = request.app.state.reader.workspace().project
    return {
        "label": chosen,
        "description": next(each.description for each in project.labels if each.name == chosen),
        "counts": counts,
        "pictures": int(view.pictures.is_kept.sum()),
        "waiting": next(each.waiting for each in counts if each.label == chosen),
        "order": order,
        "orders": ORDERS,
        "disputed": sum(1 for _ in disputed(view.decisions, chosen)),
        "agreement": [
            ("with oneself", agreement.with_oneself),
            ("with others", agreement.with_others),
            ("with pre-labels", agreement.with_prelabels),
        ],
        "reviewer": request.app.state.access.reviewer,
    }
