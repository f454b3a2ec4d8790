"""A small web site on loopback: what it answers is a test's own, and it remembers what it was asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

JPEG = b"\xff\xd8\xff\xe0" + bytes(300)
"""Enough of a picture for those that do not decode it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; the type follows from the body unless a header says otherwise."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterable[bytes] | None = None
    """Sent as it comes instead of all else, status line and headers included; then hung up."""


RESET = Reply(status=0)
"""Hang up without an answer, as a server that breaks down does."""

Answer = Reply | str | bytes | Callable[[str], "Reply | str | bytes"]


@dataclass(slots=True)
class Site:
    """Where it answers, and the requests it had, in order."""

    address: str
    answers: dict[str, Answer]
    """By path, the query aside; a function is given the whole path. Anything else is 404."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers, names in lower case."""
    times: list[float] = field(default_factory=list)
    """When each of `requests` came, on the monotonic clock."""

    def asked(self, path: str) -> int:
        """Return how often `path` was asked for, any query."""
        return sum(urlsplit(asked).path == path for asked, _ in self.requests)

    def url(self, path: str) -> str:
        """Return the address of `path` here."""
        return self.address + path


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[Site]:
    """Serve `answers` until the block ends."""
    site = Site(address="", answers=dict(answers))
    noting = threading.Lock()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            with noting:
                site.requests.append((self.path, headers))
                site.times.append(time.monotonic())
            answer = site.answers.get(urlsplit(self.path).path, Reply(status=404))
            reply = _reply(answer(self.path) if callable(answer) else answer)
            if reply.stream is not None:
                self.close_connection = True
                self._drip(reply.stream)
                return
            if reply.status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def _drip(self, chunks: Iterable[bytes]) -> None:
            """Send bytes as they come until they end, or the client has had enough."""
            try:
                for chunk in chunks:
                    if over.is_set():
                        return
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Say nothing: `requests` is the log."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed, or that hangs up, is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _reply(answer: Reply | str | bytes) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, str):
        return Reply(answer.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
    return Reply(answer, headers={"Content-Type": "image/jpeg"})
