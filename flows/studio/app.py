"""The studio's application: one FastAPI app on one project's folder."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from crawler.rejections import CrawlerError
from flows.errors import Corrupt, CratedigError, NotFound
from flows.studio import (
    api,
    clusters,
    duplicates,
    evaluate,
    images,
    label_pages,
    pages,
    picture_page,
    pictures,
    predict,
    sources,
    train_page,
)
from flows.studio.access import Access
from flows.studio.desk import Desk
from flows.studio.encoders import EncoderShelf
from flows.studio.finding import Finder
from flows.studio.gallery import Gallery
from flows.studio.production import Production
from flows.studio.queues import Queues
from flows.studio.reader import Reader, StillReading
from flows.studio.security import Guard
from flows.studio.train_page import Training
from flows.studio.tray import Pace
from flows.studio.trial import Trial
from model.errors import ModelError

RETRY_AFTER_S = 2

REFUSALS: dict[int | str, str] = {
    400: "The body is not what its type says",
    401: "Sign in first",
    403: "A change that comes from elsewhere",
    404: "Not here",
    409: "Not as things stand",
    411: "The body does not say how long it is",
    413: "The body is too large",
    415: "Not what this takes",
    422: "Not understood, or not allowed",
    429: "Too many: wait",
    502: "Damaged in the store",
    503: "The project cannot be read just now",
}
"""What any operation may answer instead of what it is for."""


class Refused(BaseModel):
    """Why not: a sentence, or what is the matter with each field."""

    detail: str | list[Any]


_READING = "One moment"


def create_app(root: Path, *, access: Access | None = None) -> FastAPI:
    """Return the studio of the project in the folder `root`.

    Neither the project nor its store need be there: a page says what is missing, with status 503,
    and works as soon as it is. `access` says who may use it; loopback without a token if None.
    """
    access = access or Access()
    app = FastAPI(
        title="cratedig studio",
        # FastAPI's own documentation pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={
            status: {"model": Refused, "description": said} for status, said in REFUSALS.items()
        },
    )
    reader = Reader(root)
    app.state.access = access
    app.state.sign_ins = Pace()
    app.state.reader = reader
    app.state.production = Production()
    app.state.encoders = EncoderShelf(reader)
    app.state.trial = Trial(
        reader=reader, production=app.state.production, encoders=app.state.encoders
    )
    app.state.training = Training(reader, root)
    app.state.shelf = pictures.PictureShelf(reader)
    app.state.desk = Desk(reader=reader, reviewer=access.reviewer)
    app.state.gallery = Gallery()
    app.state.yields = sources.LastYields()
    app.state.finder = Finder(app.state.encoders)
    app.state.templates = pages.make_templates()
    app.state.queues = Queues(reader)
    app.include_router(pages.router)
    app.include_router(label_pages.router)
    app.include_router(label_pages.api)
    app.include_router(clusters.router)
    app.include_router(clusters.api)
    app.include_router(pictures.router)
    app.include_router(api.router)
    app.include_router(predict.router)
    app.include_router(evaluate.router)
    app.include_router(train_page.router)
    app.include_router(images.pages)
    app.include_router(images.api)
    app.include_router(picture_page.pages)
    app.include_router(picture_page.api)
    app.include_router(duplicates.pages)
    app.include_router(duplicates.api)
    app.include_router(sources.pages)
    app.include_router(sources.api)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    for kind in (CratedigError, CrawlerError, ModelError):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_middleware(Guard, access=access)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """Answer with the sentence that every error of the product and its rooms is."""
    if isinstance(error, NotFound):
        return _trouble(request, HTTPStatus.NOT_FOUND, "Not here", str(error))
    if isinstance(error, StillReading):
        return _trouble(request, HTTPStatus.SERVICE_UNAVAILABLE, _READING, str(error))
    if isinstance(error, Corrupt):
        return _trouble(request, HTTPStatus.BAD_GATEWAY, "Damaged in the store", str(error))
    # Whatever else is the matter (no store, no project, keys refused) can be mended from outside.
    said = str(error)
    return _trouble(
        request, HTTPStatus.SERVICE_UNAVAILABLE, "The project cannot be read just now", said
    )


async def _http_error(request: Request, error: Exception) -> Response:
    error = cast("HTTPException", error)
    if not _wants_page(request):
        return await http_exception_handler(request, error)
    title = HTTPStatus(error.status_code).phrase
    return _trouble(request, error.status_code, title, f"{request.url.path}: {error.detail}.")


async def _not_understood(request: Request, error: Exception) -> Response:
    error = cast("RequestValidationError", error)
    if not _wants_page(request):
        return await request_validation_exception_handler(request, error)
    said = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return _trouble(request, 422, "Not understood", f"{said}.")


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith(("/api/", "/pictures/", "/static/"))


def _trouble(request: Request, status: int, title: str, said: str) -> Response:
    recovers = status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"retry-after": str(RETRY_AFTER_S)} if recovers else None
    if not _wants_page(request):
        return JSONResponse({"detail": said}, status_code=status, headers=headers)
    templates: Jinja2Templates = request.app.state.templates
    context = {
        "title": title,
        "said": said,
        "recovers": recovers,
        "progresses": title == _READING,
    }
    return templates.TemplateResponse(request, "trouble.html", context, status, headers)
