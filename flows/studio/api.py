"""What the pages' scripts ask for, as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import JSONResponse

from flows.studio.desk import NewDecisions, Receipt
from flows.studio.security import COOKIE
from flows.studio.view import QueueOrder

router = APIRouter(prefix="/api", tags=["studio"])

MAX_QUEUE = 200


class Health(BaseModel):
    """That the project is open and its store answers."""

    ok: bool = True


class QueuePicture(BaseModel):
    """An undecided picture."""

    sha256: str
    width: int
    height: int
    title: str
    page_url: str
    score: float | None = Field(ge=0, le=1)


class Queue(BaseModel):
    """A page of the queue; `next` is what `after` must be for the page that follows."""

    pictures: list[QueuePicture]
    total: int
    next: str | None


class SignIn(BaseModel):
    """The studio's token."""

    token: SecretStr


@router.get("/health")
def health(request: Request) -> Health:
    """Answer 200 when the project can be read, 503 with a sentence when it cannot."""
    request.app.state.reader.view()
    return Health()


@router.get("/queue")
def queue(
    request: Request,
    label: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=MAX_QUEUE)] = 60,
    after: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
    order: QueueOrder = "uncertain",
) -> Queue:
    """Return undecided pictures of `label`, the most uncertain pre-labels or the highest first."""
    view = request.app.state.reader.view()
    page = view.queue(label, after=after, limit=limit, order=order)
    request.app.state.shelf.preload_thumbnails(each.sha256 for each in page.pictures)
    return Queue(
        pictures=[
            QueuePicture(
                sha256=each.sha256,
                width=each.width,
                height=each.height,
                title=each.title,
                page_url=each.page_url,
                score=view.score(each.sha256, label),
            )
            for each in page.pictures
        ],
        total=page.total,
        next=page.next,
    )


@router.post("/decisions")
def decisions(request: Request, sent: NewDecisions) -> Receipt:
    """Save decisions; those in `saved` are in the bucket when this answers."""
    receipt: Receipt = request.app.state.desk.hand_in(sent.decisions)
    return receipt


@router.post("/session", include_in_schema=False)
def sign_in(request: Request, sent: SignIn) -> Response:
    """Give a session cookie for the token."""
    access = request.app.state.access
    if not access.accepts(sent.token.get_secret_value()):
        return JSONResponse({"detail": "That is not this studio's token."}, status_code=403)
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        access.cookie(),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response
