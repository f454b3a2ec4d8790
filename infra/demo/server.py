"""Serves the demo's site as an ordinary web server would: one folder, on loopback alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

HEADERS = "headers.json"
"""In the folder that is served: {path: {header: value}}; not served itself."""


def site_app(www: Path) -> web.Application:
    """Return the application that serves `www`.

    A path that ends in / is the index.html of that folder. Validators (ETag, Last-Modified) and
    the answers to conditional requests are aiohttp's. The folder is read at each request.
    """
    www = www.resolve()
    headers: Mapping[str, Mapping[str, str]] = json.loads((www / HEADERS).read_text("utf-8"))

    async def answer(request: web.Request) -> web.StreamResponse:
        path = (www / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(www) or path == www / HEADERS:
            raise web.HTTPNotFound
        if path.is_dir():
            if not request.path.endswith("/"):
                raise web.HTTPMovedPermanently(f"{request.path}/")
            path /= "index.html"
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers=headers.get(request.path))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


def serve(www: Path, port: int) -> None:
    """Serve `www` on 127.0.0.1:`port` (0: any free one) until stopped; says where on stdout."""
    web.run_app(
        site_app(www),
        host="127.0.0.1",
        port=port,
        print=lambda text: print(text, flush=True),
        access_log_format='"%r" %s %b',
    )
