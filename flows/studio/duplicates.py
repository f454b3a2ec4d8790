"""The Duplicates page: groups side by side, why they are groups, and what a person makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from crawler.decode import Fingerprint
from flows.studio.pages import render
from flows.studio.view import Picture
from flows.verdicts import NoSuchGroup, merge, take_out

GROUPS_PAGE = 24
SHOWN_OF_A_GROUP = 40
SHOWN_VERDICTS = 12

HASH_BITS = 64

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/duplicates", tags=["studio"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A picture of a group, and how far it is from the one that is kept."""

    picture: Picture
    phash_bits: int
    """Of 64."""
    dhash_bits: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One picture that is kept, and those that it stands for."""

    kept: Picture
    members: tuple[Member, ...]
    more: int
    """Members that are not shown."""


class Split(BaseModel):
    """The picture that is not the same as the others of its group."""

    model_config = ConfigDict(extra="forbid")

    sha256: Id


class Merge(BaseModel):
    """Pictures that are one."""

    model_config = ConfigDict(extra="forbid")

    sha256s: list[Id] = Field(min_length=2, max_length=50)


class Parted(BaseModel):
    """From how many pictures one was parted."""

    parted: int


class Merged(BaseModel):
    """How many pictures were said to be one."""

    merged: int


@pages.get("/duplicates")
def duplicates_page(
    request: Request, start: Annotated[int, Query(ge=0, le=100_000_000)] = 0
) -> Response:
    """Show a page of the groups, the largest first."""
    reader = request.app.state.reader
    view, catalog = reader.view(), reader.workspace().catalog
    heads = sorted(
        (sha256 for sha256 in view.duplicates_of if sha256 in view.pictures),
        key=lambda each: (-len(view.duplicates_of[each]), each),
    )
    chosen = heads[start : start + GROUPS_PAGE]
    shown = [(view.pictures[each], view.duplicates_of[each]) for each in chosen]
    verdicts = [
        row
        for row in reversed(catalog.verdicts())
        if row.sha256 in view.pictures and row.other in view.pictures
    ]
    ids = [each.sha256 for kept, others in shown for each in (kept, *others[:SHOWN_OF_A_GROUP])]
    said_about = [each for row in verdicts[:SHOWN_VERDICTS] for each in (row.sha256, row.other)]
    request.app.state.shelf.preload_thumbnails([*ids, *said_about])
    prints = {each.sha256: each for each in catalog.fingerprints(ids)} if ids else {}
    context = {
        "groups": [_group(kept, others, prints) for kept, others in shown],
        "total": len(heads),
        "duplicates": sum(map(len, view.duplicates_of.values())),
        "start": start,
        "size": GROUPS_PAGE,
        "verdicts": verdicts[:SHOWN_VERDICTS],
        "pictures": view.pictures,
    }
    return render(request, "duplicates.html", context)


@api.post("/split")
def split_group(request: Request, sent: Split) -> Parted:
    """Take a picture out of its group, for good; it is durable when this answers."""
    reader = request.app.state.reader
    who = request.app.state.access.reviewer
    with _refusing():
        parted = take_out(reader.workspace().catalog, sent.sha256, who=who)
    reader.changed()
    return Parted(parted=parted)


@api.post("/merge")
def merge_groups(request: Request, sent: Merge) -> Merged:
    """Say that pictures are one, for good; it is durable when this answers."""
    reader = request.app.state.reader
    who = request.app.state.access.reviewer
    with _refusing():
        merge(reader.workspace().catalog, sent.sha256s, who=who)
    reader.changed()
    return Merged(merged=len(set(sent.sha256s)))


@contextmanager
def _refusing() -> Iterator[None]:
    """Answer 409 with the sentence when what was asked for cannot be."""
    try:
        yield
    except NoSuchGroup as error:
        raise HTTPException(409, str(error)) from None


def _group(kept: Picture, others: Sequence[Picture], prints: dict[str, Fingerprint]) -> Group:
    of = prints[kept.sha256]
    shown = others[:SHOWN_OF_A_GROUP]
    return Group(
        kept=kept,
        members=tuple(
            Member(
                picture=each,
                phash_bits=(of.phash ^ prints[each.sha256].phash).bit_count(),
                dhash_bits=(of.dhash ^ prints[each.sha256].dhash).bit_count(),
            )
            for each in shown
            if each.sha256 in prints
        ),
        more=len(others) - len(shown),
    )
