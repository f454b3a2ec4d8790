"""The pages that people see."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from flows.errors import NotFound
from flows.prefect_api import PAGE_TIMEOUT_S, PrefectServer
from flows.studio import overview as overview_of

LINKS_PAGE = 100

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


def render(request: Request, name: str, context: dict[str, Any]) -> Response:
    """Answer with a template, in the frame that every page has."""
    project = request.app.state.reader.workspace().project
    common = {"project": project.name, "here": "/" + request.url.path.split("/")[1]}
    templates: Jinja2Templates = request.app.state.templates
    return templates.TemplateResponse(request, name, common | context)


def label_names(request: Request) -> tuple[str, ...]:
    """Return the project's labels."""
    names: tuple[str, ...] = request.app.state.reader.workspace().project.taxonomy().names
    return names


def known_label(label: str, labels: tuple[str, ...]) -> str:
    """Return `label`, or the first when it is empty. Raises NotFound for one that is not there."""
    if label and label not in labels:
        raise NotFound(f"project.toml has no label {label!r}; it has {', '.join(labels)}")
    return label or labels[0]


@router.get("/")
def overview(request: Request) -> Response:
    """Show the line with a count at every stage."""
    reader, queues = request.app.state.reader, request.app.state.queues
    workspace, view = reader.workspace(), reader.view()
    model = request.app.state.production.model(workspace)
    counts = [view.label_count(label) for label in label_names(request)]
    version = model.version if model else None
    server = PrefectServer.of(workspace.settings, timeout_s=PAGE_TIMEOUT_S)
    runs = overview_of.last_runs(workspace.project.name, server)
    context = {
        "stages": overview_of.stages(
            view,
            version=version,
            predictions=model.predictions if model else 0,
        ),
        "todo": overview_of.todo(
            view,
            counts,
            version=version,
            runs=runs,
            drifted=queues.left("drift") if version else {},
            suspects=queues.left("suspects") if version else {},
        ),
        "growth": overview_of.growth(view),
        "runs": runs,
        "labels": counts,
        "reasons": view.reasons,
        "model": model,
    }
    return render(request, "overview.html", context)


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
    return render(request, "rejected.html", context)


@router.get("/login")
def login(request: Request) -> Response:
    """Ask for the token."""
    templates: Jinja2Templates = request.app.state.templates
    return templates.TemplateResponse(request, "login.html")
