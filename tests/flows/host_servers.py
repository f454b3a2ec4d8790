"""Many hosts on loopback, each a real server at an address of its own, and what they were asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, from its arrival to its answer; times in seconds on the monotonic clock."""

    path: str
    who: str
    """The User-Agent."""
    start: float
    end: float
    status: int


@dataclass(slots=True, kw_only=True)
class Host:
    """One host: its pages by path, and the requests that it had, in the order of their ends."""

    name: str
    """Its address, an IP of the loopback network."""
    port: int = 0
    files: Mapping[str, bytes]
    retry_after: dict[str, int] = field(default_factory=dict)
    """Paths that are answered once by 503 and this Retry-After, in seconds, and then as usual."""
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str) -> str:
        """Return the address of `path` here."""
        return f"http://{self.name}:{self.port}{path}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for `path`."""
        pause_s = self.retry_after.pop(path, None)
        if pause_s is not None:
            return 503, {"Retry-After": str(pause_s)}, b""
        body = self.files.get(path)
        if body is None:
            return 404, {}, b""
        kind = "text/plain" if path.endswith(".txt") else "image/jpeg"
        return 200, {"Content-Type": kind}, body


@contextmanager
def serving_hosts(hosts: list[Host]) -> Iterator[list[Host]]:
    """Serve each of `hosts` at its address and a free port."""
    with ExitStack() as stack:
        for host in hosts:
            server = ThreadingHTTPServer((host.name, 0), _handler(host))
            server.daemon_threads = True
            host.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield hosts


def _handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            start = time.monotonic()
            status, headers, body = host.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            host.asked.append(
                Asked(
                    path=self.path,
                    who=self.headers["User-Agent"],
                    start=start,
                    end=time.monotonic(),
                    status=status,
                )
            )

        def log_message(self, *_: object) -> None:
            """Say nothing: `asked` says it."""

    return Handler
