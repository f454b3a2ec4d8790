"""The Images page: a grid over the whole dataset, and what its script asks for."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator
from starlette.responses import Response

from crawler.rejections import ImageRejected
from flows.studio import gallery
from flows.studio.finding import MOST_FOUND, Finder
from flows.studio.gallery import Gallery, Listing, Order, Show, Wanted
from flows.studio.pages import AName, AScore, known_label, label_names, render
from flows.studio.view import AnswerFilter, View

MAX_ROWS = 200
"""Pictures in one answer; thumbnails are read from the bucket together, as many at once."""

MAX_RANGE = 5000
"""Pictures that can be selected at once."""

# A form sends its empty fields, too.
ASide = Annotated[int, BeforeValidator(lambda sent: sent or 0), Query(ge=0, le=100_000)]
AMaybeId = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")]
ADay = Annotated[date | None, BeforeValidator(lambda sent: sent or None), Query()]
AListingId = Annotated[str, Query(pattern=r"^([0-9a-f]{16})?$")]
APosition = Annotated[int, Query(ge=0, le=1_000_000_000)]

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api", tags=["studio"])


class ImageTile(BaseModel):
    """A picture as the grid shows it."""

    sha256: str
    width: int
    height: int
    title: str
    score: float | None
    """Of the label that the page is about."""
    answer: str | None
    duplicate_how: str | None
    copies: int
    """Duplicates that this picture stands for."""
    nearness: float | None
    """Cosine with what was searched for."""


class ImageRows(BaseModel):
    """The pictures at positions `start` and after, of a list of `total`."""

    listing: str
    total: int
    start: int
    anchor: int | None
    """The position of the picture that `anchor` asked for."""
    pictures: list[ImageTile]


class DroppedPicture(BaseModel):
    """What `like` must be to search by the picture that was sent."""

    like: str


class ChosenImage(BaseModel):
    """A picture of a selection, and the answer that stands about the page's label."""

    sha256: str
    answer: str | None


class ImageRun(BaseModel):
    """A run of pictures, in little."""

    listing: str
    pictures: list[ChosenImage]


def wanted_pictures(
    request: Request,
    label: AName = "",
    answer: AnswerFilter = "any",
    low: AScore = 0.0,
    high: AScore = 1.0,
    source: AName = "",
    show: Show = "kept",
    format: Annotated[str, Query(max_length=20)] = "",  # noqa: A002 - it is the query's word
    min_side: ASide = 0,
    max_side: ASide = 0,
    since: ADay = None,
    until: ADay = None,
    group: AMaybeId = "",
    order: Order = "newest",
    words: AName = "",
    like: AMaybeId = "",
) -> Wanted:
    """Return the filter that the query asks for. Raises NotFound for an unknown label."""
    return Wanted(
        label=known_label(label, label_names(request)),
        answer=answer,
        low=low,
        high=high,
        source=source,
        show=show,
        format=format,
        min_side=min_side,
        max_side=max_side,
        since=since,
        until=until,
        group=group,
        order=order,
        words=words.strip(),
        like=like,
    )


ByQuery = Annotated[Wanted, Depends(wanted_pictures)]


@pages.get("/images")
def images_page(request: Request, wanted: ByQuery) -> Response:
    """Show the grid; its script fetches the pictures."""
    view = request.app.state.reader.view()
    labels = label_names(request)
    changed = _changed(wanted, Wanted(label=labels[0]))
    narrowing = changed.keys() - {"label", "order", "words", "like"}
    context = {
        "wanted": wanted,
        "most_found": MOST_FOUND,
        "like": view.pictures.get(wanted.like),
        "labels": labels,
        "sources": view.sources,
        "formats": gallery.formats(view),
        "reasons": view.reasons,
        "pictures": len(view.pictures),
        "filters": len(narrowing),
        "more_filters": bool(narrowing - {"answer", "low", "high", "show"}),
        "query": urlencode(changed),
    }
    return render(request, "images.html", context)


@api.get("/images")
def image_rows(
    request: Request,
    wanted: ByQuery,
    start: APosition = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 120,
    listing: AListingId = "",
    anchor: AMaybeId = "",
) -> ImageRows:
    """Return pictures by position in the filtered list, which holds still under its id.

    With the `listing` of an earlier answer, positions are those of that answer; without, or when it
    is no longer known, the list is made anew. `anchor` asks where a picture stands in it.
    """
    view: View = request.app.state.reader.view()
    listed = _listed(request, view, wanted, listing)
    run = listed.sha256s[start : start + limit]
    if not view.pictures.keys() >= set(run):  # something was forgotten since
        listed = _listed(request, view, wanted, "")
        run = listed.sha256s[start : start + limit]
    at = listed.sha256s.index(anchor) if anchor and anchor in listed.sha256s else None
    request.app.state.shelf.preload_thumbnails(run)
    return ImageRows(
        listing=listed.id,
        total=len(listed.sha256s),
        start=start,
        anchor=at,
        pictures=[_tile(view, wanted.label, each, listed) for each in run],
    )


@api.post("/search/picture")
async def search_picture(request: Request) -> DroppedPicture:
    """Take the picture that is the body, to search by; the page makes it small before."""
    finder: Finder = request.app.state.finder
    data = await request.body()
    try:
        return DroppedPicture(like=await run_in_threadpool(finder.drop, data))
    except ImageRejected as error:
        raise HTTPException(
            422, f"That is not a picture that can be searched by: {error}"
        ) from None


@api.get("/images/run")
def image_run(
    request: Request,
    wanted: ByQuery,
    start: APosition,
    limit: Annotated[int, Query(ge=1, le=MAX_RANGE)],
    listing: AListingId = "",
) -> ImageRun:
    """Return a run of pictures in little, for a selection that goes beyond what is on screen."""
    view: View = request.app.state.reader.view()
    listed = _listed(request, view, wanted, listing)
    return ImageRun(
        listing=listed.id,
        pictures=[
            ChosenImage(sha256=each, answer=view.answer(each, wanted.label))
            for each in listed.sha256s[start : start + limit]
        ],
    )


def _listed(request: Request, view: View, wanted: Wanted, listing_id: str) -> Listing:
    kept: Gallery = request.app.state.gallery
    found = kept.find(listing_id, wanted)
    if found is None:
        nearest = None
        if wanted.searches:
            finder: Finder = request.app.state.finder
            workspace = request.app.state.reader.workspace()
            nearest = finder.find(workspace, words=wanted.words, like=wanted.like)
        found = gallery.make_listing(view, wanted, nearest)
        kept.keep(wanted, found)
    return found


def _tile(view: View, label: str, sha256: str, listed: Listing) -> ImageTile:
    picture = view.pictures[sha256]
    return ImageTile(
        sha256=sha256,
        width=picture.width,
        height=picture.height,
        title=picture.title,
        score=view.score(sha256, label),
        answer=view.answer(sha256, label),
        duplicate_how=picture.duplicate_how,
        copies=len(view.pictures.duplicates.get(view.pictures.row(sha256), ())),
        nearness=listed.nearness.get(sha256),
    )


def _changed(wanted: Wanted, default: Wanted) -> dict[str, Any]:
    """Return what of the filter is not as it is by default, the label always."""
    found = {
        each.name: getattr(wanted, each.name)
        for each in dataclasses.fields(wanted)
        if getattr(wanted, each.name) != getattr(default, each.name)
    }
    return {"label": wanted.label} | found
