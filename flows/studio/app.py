"""The studio's application: one FastAPI app on one project's folder."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from flows.errors import Corrupt, CratedigError, NotFound
from flows.studio import api, pages, pictures
from flows.studio.access import Access
from flows.studio.desk import Desk
from flows.studio.production import Production
from flows.studio.reader import Reader
from flows.studio.security import Guard

RETRY_AFTER_S = 2


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
    )
    reader = Reader(root)
    app.state.access = access
    app.state.reader = reader
    app.state.production = Production()
    app.state.shelf = pictures.PictureShelf(reader)
    app.state.desk = Desk(reader=reader, reviewer=access.reviewer)
    app.state.templates = pages.make_templates()
    app.include_router(pages.router)
    app.include_router(pictures.router)
    app.include_router(api.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(CratedigError, _told)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_middleware(Guard, access=access)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """Answer with the sentence that every error of the product is."""
    if isinstance(error, NotFound):
        return _trouble(request, HTTPStatus.NOT_FOUND, "Not here", str(error))
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
    context = {"title": title, "said": said, "recovers": recovers}
    return templates.TemplateResponse(request, "trouble.html", context, status, headers)
