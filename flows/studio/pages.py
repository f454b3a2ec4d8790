"""The pages that people see."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Depends, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from flows.errors import NotFound
from flows.studio import overview as overview_of
from flows.studio.pictures import Sha256
from flows.studio.view import RETRACTED, AnswerFilter, Filter, Show, Sort

GRID_PAGE = 96
LINKS_PAGE = 100

AnId = Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")]
AName = Annotated[str, Query(max_length=200)]
AScore = Annotated[float, Query(ge=0, le=1)]

router = APIRouter(include_in_schema=False)


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _decimals(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _sentence(said: str) -> str:
    return said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")


def _commands(said: str) -> Markup:
    """Show what stands between backticks as code."""
    parts = said.split("`")
    code = Markup("<code>{}</code>")
    return Markup("").join(
        code.format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def make_templates() -> Jinja2Templates:
    """Return the templates; a name that one lacks is an error, and everything is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    environment.filters["decimals"] = _decimals
    environment.filters["spaced"] = _spaced
    environment.filters["moment"] = _moment
    environment.filters["bytes"] = _bytes
    environment.filters["sentence"] = _sentence
    environment.filters["commands"] = _commands
    return Jinja2Templates(env=environment)


def _page(request: Request, name: str, context: dict[str, Any]) -> Response:
    project = request.app.state.reader.workspace().project
    common = {"project": project.name, "here": "/" + request.url.path.split("/")[1]}
    templates: Jinja2Templates = request.app.state.templates
    return templates.TemplateResponse(request, name, common | context)


def _labels(request: Request) -> tuple[str, ...]:
    names: tuple[str, ...] = request.app.state.reader.workspace().project.taxonomy().names
    return names


def _one_of(label: str, labels: tuple[str, ...]) -> str:
    """Return `label`, or the first when it is empty. Raises NotFound for one that is not there."""
    if label and label not in labels:
        raise NotFound(f"project.toml has no label {label!r}; it has {', '.join(labels)}")
    return label or labels[0]


@router.get("/")
def overview(request: Request) -> Response:
    """Show the line with a count at every stage."""
    reader = request.app.state.reader
    workspace, view = reader.workspace(), reader.view()
    model = request.app.state.production.model(workspace)
    counts = [view.label_count(label) for label in _labels(request)]
    version = model.version if model else None
    prefect = workspace.settings.prefect_api_url
    context = {
        "stages": overview_of.stages(
            view,
            version=version,
            predictions=model.predictions if model else 0,
        ),
        "todo": overview_of.todo(view, counts, version=version),
        "labels": counts,
        "reasons": view.reasons,
        "model": model,
        "prefect_ui": prefect.rstrip("/").removesuffix("/api") if prefect else "",
    }
    return _page(request, "overview.html", context)


def _wanted(
    request: Request,
    label: AName = "",
    answer: AnswerFilter = "any",
    low: AScore = 0.0,
    high: AScore = 1.0,
    source: AName = "",
    show: Show = "kept",
    sort: Sort = "newest",
) -> Filter:
    return Filter(
        label=_one_of(label, _labels(request)),
        answer=answer,
        low=low,
        high=high,
        source=source,
        show=show,
        sort=sort,
    )


@router.get("/images")
def images(
    request: Request, wanted: Annotated[Filter, Depends(_wanted)], after: AnId = None
) -> Response:
    """Show a page of the pictures that pass the filter."""
    view = request.app.state.reader.view()
    labels = _labels(request)
    page = view.page(wanted, after=after, limit=GRID_PAGE)
    request.app.state.shelf.preload_thumbnails(each.sha256 for each in page.pictures)
    chosen = {name: getattr(wanted, name) for name in Filter.__slots__}
    default = Filter(label=labels[0])
    narrowing = ("answer", "low", "high", "source", "show")
    context = {
        "view": view,
        "page": page,
        "wanted": wanted,
        "after": after,
        "labels": labels,
        "sources": view.sources,
        "query": urlencode(chosen),
        "filtered": any(getattr(wanted, name) != getattr(default, name) for name in narrowing),
    }
    return _page(request, "images.html", context)


@router.get("/images/{sha256}")
def picture(request: Request, sha256: Sha256) -> Response:
    """Show one picture and all that is known of it."""
    reader = request.app.state.reader
    view = reader.view()
    if sha256 not in view.pictures:
        raise NotFound(f"the catalogue has no picture {sha256}")
    row = reader.workspace().catalog.image(sha256)
    duplicates = view.duplicates_of.get(sha256, ())
    request.app.state.shelf.preload_thumbnails(each.sha256 for each in duplicates)
    history = view.history.get(view.subject(sha256), {}).values()
    context = {
        "picture": view.pictures[sha256],
        "duplicates": duplicates,
        "answers": [
            {
                "label": label,
                "score": view.score(sha256, label),
                "answer": view.answer(sha256, label),
            }
            for label in _labels(request)
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
    return _page(request, "picture.html", context)


@router.get("/rejected")
def rejected(
    request: Request,
    reason: AName = "",
    start: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
) -> Response:
    """Show links of which nothing was kept, and why."""
    view = request.app.state.reader.view()
    found = [row for row in view.rejected if not reason or row.reason == reason]
    context = {
        "rows": found[start : start + LINKS_PAGE],
        "total": len(found),
        "start": start,
        "size": LINKS_PAGE,
        "reason": reason,
        "reasons": view.reasons,
        "links": len(view.links),
    }
    return _page(request, "rejected.html", context)


@router.get("/label")
def label_page(request: Request, label: AName = "") -> Response:
    """Show the page on which pictures are decided one by one."""
    return _page(request, "label.html", _labelling(request, label))


@router.get("/label/grid")
def label_grid_page(request: Request, label: AName = "") -> Response:
    """Show the page on which many pictures are decided at once."""
    return _page(request, "label_grid.html", _labelling(request, label))


def _labelling(request: Request, label: str) -> dict[str, Any]:
    view = request.app.state.reader.view()
    labels = _labels(request)
    chosen = _one_of(label, labels)
    counts = [view.label_count(each) for each in labels]
    waiting = next(each.waiting for each in counts if each.label == chosen)
    return {"label": chosen, "counts": counts, "waiting": waiting}


@router.get("/model")
def model_page(request: Request) -> Response:
    """Show how good the model in production is."""
    reader = request.app.state.reader
    production, workspace = request.app.state.production, reader.workspace()
    model = production.model(workspace)
    shown = production.galleries(workspace, model, reader.view()) if model else ()
    request.app.state.shelf.preload_thumbnails(
        picture.sha256 for gallery in shown for picture, _ in gallery.items
    )
    return _page(request, "model.html", {"model": model, "galleries": shown})


@router.get("/login")
def login(request: Request) -> Response:
    """Ask for the token."""
    templates: Jinja2Templates = request.app.state.templates
    return templates.TemplateResponse(request, "login.html")
