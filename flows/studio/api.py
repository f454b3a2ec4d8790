"""What the pages' scripts ask for, as JSON."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import JSONResponse

from flows.studio.agreement import last_words
from flows.studio.desk import REVIEWER, NewDecisions, Receipt
from flows.studio.queues import OF_UNDECIDED, Order
from flows.studio.security import COOKIE

router = APIRouter(prefix="/api", tags=["studio"])

MAX_QUEUE = 200

Holder = Annotated[str, Query(pattern=r"^[0-9a-z-]{0,40}$")]
Reviewer = Annotated[str, Query(max_length=60, pattern=REVIEWER)]

SIGN_INS_A_MINUTE = 10
"""Of one client, right or wrong: a token cannot be found by trying."""


class Health(BaseModel):
    """That the project is open and its store answers."""

    ok: bool = True


class Said(BaseModel):
    """An answer that somebody gave before."""

    who: str
    answer: str
    again: bool


class QueuePicture(BaseModel):
    """A picture to ask about."""

    sha256: str
    width: int
    height: int
    title: str
    page_url: str
    score: float | None = Field(ge=0, le=1)
    again: bool = False
    """It is decided already, and asked about again, blind."""
    said: list[Said] = []
    """What was said before, where the question is whether that was right."""


class Queue(BaseModel):
    """A page of the queue; `next` is what `after` must be for the page that follows."""

    pictures: list[QueuePicture]
    total: int
    next: str | None
    held: int = 0
    """So many more are on the screens of others."""
    holders: list[str] = []
    """Who they are; the names may be empty."""


class Tab(BaseModel):
    """A browser tab that labels."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200)
    holder: str = Field(pattern=r"^[0-9a-z-]{1,40}$")


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
    order: Order = "teaching",
    holder: Holder = "",
    reviewer: Reviewer = "",
) -> Queue:
    """Return pictures of `label` to ask about, in that order; `holder` is the tab that asks."""
    queues, reader = request.app.state.queues, request.app.state.reader
    who = reviewer or request.app.state.access.reviewer
    page = queues.page(label, order, after=after, limit=limit, holder=holder, who=who)
    request.app.state.shelf.preload_thumbnails(each.picture.sha256 for each in page.asked)
    view = reader.recent()
    return Queue(
        pictures=[
            QueuePicture(
                sha256=each.picture.sha256,
                width=each.picture.width,
                height=each.picture.height,
                title=each.picture.title,
                page_url=each.picture.page_url,
                # Asked again, it is to be decided by the picture alone.
                score=None if each.again else view.score(each.picture.sha256, label),
                again=each.again,
                said=[]
                if order in OF_UNDECIDED
                else [
                    Said(who=who, answer=answer, again=again)
                    for (who, again), answer in last_words(
                        view.decisions.on(each.picture.sha256, label)
                    ).items()
                ],
            )
            for each in page.asked
        ],
        total=page.total,
        next=page.next,
        held=page.held,
        holders=list(page.holders),
    )


@router.post("/queue/release", status_code=204)
def release(request: Request, tab: Tab) -> None:
    """Give back what the tab has on its screen: it is being closed."""
    request.app.state.queues.release(tab.label, tab.holder)


@router.post("/queue/claim", status_code=204)
def claim(request: Request, tab: Tab) -> None:
    """Have the tab be given what others have on their screens, when it asks next."""
    request.app.state.queues.claim(tab.label, tab.holder)


@router.post("/decisions")
def decisions(request: Request, sent: NewDecisions) -> Receipt:
    """Save decisions; those in `saved` are in the bucket when this answers."""
    receipt: Receipt = request.app.state.desk.hand_in(sent.decisions, reviewer=sent.reviewer)
    return receipt


@router.post("/session", include_in_schema=False)
def sign_in(request: Request, sent: SignIn) -> Response:
    """Give a session cookie for the token."""
    access = request.app.state.access
    client = request.client.host if request.client else ""
    if wait_s := request.app.state.sign_ins.wait_s(client, 1, a_minute=SIGN_INS_A_MINUTE):
        return JSONResponse(
            {"detail": f"Too many tries: wait {math.ceil(wait_s)} s."},
            status_code=429,
            headers={"retry-after": str(math.ceil(wait_s))},
        )
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
