"""Evaluate: how good a version is, at its thresholds and at others, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from flows.errors import NotFound, Permanent, Transient
from flows.studio.pages import render

if TYPE_CHECKING:  # scipy comes with a model, not with the studio's start
    from flows.models import Changed, Comparison
    from flows.studio.view import View
    from flows.workspace import Workspace
    from model.checkpoint import TrainedModel

MAX_CHANGED = 200
"""Pictures that changed sides, on one page."""

BORDERLINE = 12
"""Pictures nearest to the threshold that the page shows of a label."""

_VERSION = r"^[0-9a-f]{12}$"

Version = Annotated[str, PathParam(pattern=_VERSION)]
AVersion = Annotated[str | None, Query(pattern=_VERSION)]
Threshold = Annotated[float, Field(gt=0, le=1)]

router = APIRouter(tags=["evaluate"])


class Judged(BaseModel):
    """What a version said of pictures while they were held out, and what people say of them today.

    Column n of everything is picture `sha256s[n]`.
    """

    version: str
    labels: list[str]
    thresholds: dict[str, float]
    sha256s: list[str]
    groups: list[int] = Field(description="pictures of one number are kin: not independent")
    scores: dict[str, list[float]]
    answers: dict[str, str] = Field(
        description="a letter a picture: y(es), n(o), u(nsure), - undecided"
    )


class NewThresholds(BaseModel):
    """Thresholds by label; labels that are not named keep theirs."""

    model_config = ConfigDict(extra="forbid")

    thresholds: dict[Annotated[str, Field(max_length=200)], Threshold] = Field(
        min_length=1, max_length=1000
    )
    instead_of: str | None = Field(
        default=None, pattern=_VERSION, description="what is in production, as far as is known"
    )


class Instead(BaseModel):
    """What is in production, as far as whoever promotes knows: refused when it is another by now."""

    model_config = ConfigDict(extra="forbid")

    instead_of: str | None = Field(default=None, pattern=_VERSION)


class InProduction(BaseModel):
    """What is in production now."""

    version: str


@router.get("/model", include_in_schema=False)
def evaluate_page(request: Request, version: AVersion = None) -> Response:
    """Show how good a version is: the one in production, unless another is asked for."""
    from flows.models import list_models

    workspace = request.app.state.reader.workspace()
    lines = list_models(workspace)
    production = next((each.version for each in lines if each.production), None)
    chosen = version or (lines[0].version if lines else None)
    if chosen is not None and chosen not in {each.version for each in lines}:
        raise NotFound(f"there is no model version {chosen}")
    model = request.app.state.production.shown(workspace, chosen) if chosen else None
    context = {
        "model": model,
        "lines": lines,
        "production": production,
        "other": next((each.version for each in lines if each.version != chosen), None),
        "can_roll_back": sum(each.promoted_at is not None for each in lines) > 1,
    }
    return render(request, "model.html", context)


@router.get("/api/models/{version}/evaluation")
def evaluation(request: Request, version: Version) -> Judged:
    """Return held-out scores and today's answers, from which every curve can be drawn."""
    from model.data import Snapshot

    reader = request.app.state.reader
    workspace, view = reader.workspace(), reader.view()
    model = request.app.state.production.trained(workspace, version)
    text = workspace.store.get(f"snapshots/{model.card.snapshot_id}.json").decode()
    snapshot = Snapshot.from_json(text)
    group_of = dict(zip(snapshot.sha256s, snapshot.groups, strict=True))
    number_of: dict[str, int] = {}
    rows = [row for row, sha256 in enumerate(model.sha256s) if sha256 in view.pictures]
    sha256s = [model.sha256s[row] for row in rows]
    labels = list(model.head.labels)
    request.app.state.shelf.preload_thumbnails(_first_seen(model, rows))
    return Judged(
        version=version,
        labels=labels,
        thresholds=dict(zip(labels, map(float, model.head.thresholds_L), strict=True)),
        sha256s=sha256s,
        groups=[number_of.setdefault(group_of[each], len(number_of)) for each in sha256s],
        scores={
            label: model.out_of_fold_NL[rows, column].astype(float).tolist()
            for column, label in enumerate(labels)
        },
        answers={
            label: "".join((view.answer(each, label) or "-")[0] for each in sha256s)
            for label in labels
        },
    )


def _first_seen(model: TrainedModel, rows: list[int]) -> list[str]:
    """Return the pictures that the galleries begin with: a browser would ask for them one by one."""
    apart_NL = model.out_of_fold_NL[rows] - model.head.thresholds_L
    nearest_NL = abs(apart_NL).argsort(axis=0, kind="stable")[:BORDERLINE]
    return [model.sha256s[rows[row]] for row in dict.fromkeys(nearest_NL.ravel().tolist())]


@router.post("/api/models/{version}/thresholds")
def use_thresholds(request: Request, version: Version, new: NewThresholds) -> InProduction:
    """Put a version into production that is this one with other thresholds."""
    from flows.rethreshold import publish_with_thresholds

    workspace = request.app.state.reader.workspace()
    with _refusals():
        derived = publish_with_thresholds(workspace, version, new.thresholds)
        _promote(workspace, derived, new.instead_of, f"thresholds of {version} were chosen by hand")
    return InProduction(version=derived)


@router.post("/api/models/{version}/promote")
def promote(request: Request, version: Version, instead: Instead) -> InProduction:
    """Put a version into production whatever the rule says."""
    with _refusals():
        workspace = request.app.state.reader.workspace()
        _promote(workspace, version, instead.instead_of, "by hand, in the studio")
    return InProduction(version=version)


@router.post("/api/models/roll-back")
def roll_back_model(request: Request) -> InProduction:
    """Put back the version that was in production before the present one."""
    from flows.models import roll_back

    with _refusals():
        return InProduction(version=roll_back(request.app.state.reader.workspace()))


@router.get("/model/compare", include_in_schema=False)
def compare_page(
    request: Request,
    challenger: Annotated[str, Query(pattern=_VERSION)],
    champion: Annotated[str, Query(pattern=_VERSION)],
) -> Response:
    """Show two versions on the same pictures, and the pictures that changed sides."""
    from flows.models import compare_versions

    reader = request.app.state.reader
    workspace, view = reader.workspace(), reader.view()
    said = ""
    sides: Mapping[str, list[Changed]] = {}
    comparison: Comparison | None = None
    try:
        comparison = compare_versions(workspace, challenger, champion)
    except NotFound:
        raise
    except Permanent as error:
        said = str(error)
    if comparison is not None:
        sides = _sides(comparison, view)
        shown = {each.sha256 for changed in sides.values() for each in changed[:MAX_CHANGED]}
        request.app.state.shelf.preload_thumbnails(shown)
    context = {
        "comparison": comparison,
        "said": said,
        "sides": sides,
        "most": MAX_CHANGED,
        "pictures": view.pictures,
        "challenger": challenger,
        "champion": champion,
    }
    return render(request, "model_compare.html", context)


def _sides(comparison: Comparison, view: View) -> Mapping[str, list[Changed]]:
    """Return who changed sides: for the better, for the worse, and where nobody has decided.

    By today's answers: one that was corrected since the training counts as it stands.
    """
    sides: dict[str, list[Changed]] = {"better": [], "worse": [], "undecided": []}
    for each in comparison.changed:
        if each.sha256 not in view.pictures:
            continue
        answer = view.answer(each.sha256, each.label)
        if answer not in {"yes", "no"}:
            sides["undecided"].append(each)
        else:
            sides["better" if each.challenger == (answer == "yes") else "worse"].append(each)
    return sides


def _promote(workspace: Workspace, version: str, instead_of: str | None, reason: str) -> None:
    from flows.registry import Registry

    registry = Registry(workspace.store, workspace.project.name)
    if registry.production() != version:
        registry.promote(version, instead_of=instead_of, reason=reason)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what cannot be done as things stand into 409, with its sentence."""
    try:
        yield
    except NotFound:
        raise
    except (Permanent, Transient) as error:
        if type(error) not in (Permanent, Transient):
            raise  # a store that is away, a project that is broken: no matter of models
        raise HTTPException(409, str(error)) from error
