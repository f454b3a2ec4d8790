"""What every request must be and every answer must carry, whatever page it is for."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.studio.access import Access

COOKIE = "cratedig_studio"
CSRF_HEADER = "x-cratedig-studio"
"""A header that no form can send, and that a script of another site may not."""

MAX_BODY_BYTES = 1_000_000
MAX_PICTURES_BYTES = 100_000_000
"""Of a request that brings pictures, all together; they are spooled to disk as they come."""

_BRINGS_PICTURES = frozenset({"/api/predict"})

_READING = frozenset({"GET", "HEAD"})
_OPEN_PATHS = frozenset({"/login", "/api/session"})

SECURITY_HEADERS = {
    # Nothing inline, nothing from elsewhere, nobody's frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware: refuses what `Access` does not allow, and adds the security headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.knows_host(host):
            return _refuse(421, f"this studio does not go by the name {host[:100]!r}")
        if self._access.token is not None and scope["path"] not in _OPEN_PATHS:
            if scope["path"].startswith("/static/"):
                return None  # the sign-in page's own looks; nothing of the project is in them
            if not self._knows(headers):
                if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                    return RedirectResponse("/login", status_code=303)
                return _refuse(401, "sign in with the studio's token")
        if scope["method"] in _READING:
            return None
        limit = MAX_PICTURES_BYTES if scope["path"] in _BRINGS_PICTURES else MAX_BODY_BYTES
        return _refuse_foreign(headers, host) or _refuse_size(headers, limit)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.accepts(bearer.strip()):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and self._access.accepts_cookie(cookies[COOKIE].value)


def _refuse(status: int, said: str) -> Response:
    return JSONResponse({"detail": said}, status_code=status)


def _refuse_foreign(headers: Headers, host: str) -> Response | None:
    """Refuse a change that a page of another site could have sent."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if foreign or site not in {"same-origin", "none"} or CSRF_HEADER not in headers:
        return _refuse(403, f"changes come from the studio's own pages, with {CSRF_HEADER}")
    return None


def _refuse_size(headers: Headers, limit: int) -> Response | None:
    """Refuse a body that is too large, or that does not say how large it is."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return _refuse(411, "say how long the body is")
    if int(length) > limit:
        return _refuse(413, f"the body is larger than {limit} bytes")
    return None
