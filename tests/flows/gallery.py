"""A gallery on loopback with tiny pictures, all different, and a log of what it was asked for.

Also what a crawl in a process of its own does, so that it can be killed.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flows.catalog import Catalog
from flows.collect import collect
from flows.objects import ObjectStore
from flows.project import Project
from flows.settings import Settings
from flows.sink import CommitLimits
from flows.workspace import Workspace

PROJECT = """
name = "gallery"

[encoder]
checkpoint = "unused"

[[labels]]
name = "record"

[[sources]]
name = "gallery"
start = ["{base}/"]
allow_private = true

[[sources]]
name = "table"
kind = "urls"
table = "table.csv"
allow_private = true

[limits]
delay_s = 0.0
min_side = 8
concurrency_per_host = 16
"""


def png(number: int, side: int = 16) -> bytes:
    """Return an RGB picture of `side` x `side` pixels of noise, a different one for every number."""
    row_bytes = 3 * side
    noise = hashlib.shake_128(str(number).encode()).digest(row_bytes * side)
    rows = (noise[at : at + row_bytes] for at in range(0, len(noise), row_bytes))
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HANGS_UP = 0
"""In the place of a status: the connection is closed without an answer."""


class Gallery:
    """Pages and pictures by path, changed by a test as it likes."""

    def __init__(self) -> None:
        self.base = ""
        self.pages: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        """Paths that are answered with a status and nothing else."""
        self.headers: dict[str, dict[str, str]] = {}
        self.asked: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        """Pictures that were sent, which a 304 does not."""

    def picture_url(self, number: int) -> str:
        """Return the address of a picture: any number has one."""
        return f"{self.base}/{number}.png"

    def show(self, path: str, numbers: Iterator[int] | range | list[int]) -> None:
        """Let the page at `path` show those pictures."""
        images = "".join(f'<img src="/{number}.png" alt="no {number}">' for number in numbers)
        self.pages[path] = f"<title>Gallery</title><body>{images}</body>"

    def answer(self, path: str, etag: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body; a picture whose etag is known is not sent."""
        self.asked[path] += 1
        if path in self.statuses:
            return self.statuses[path], {}, b""
        if path in self.pages:
            return 200, {"Content-Type": "text/html"}, self.pages[path].encode()
        name, _, kind = path.lstrip("/").partition(".")
        if kind != "png" or not name.isdecimal():
            return 404, {}, b""
        headers = {"ETag": f'"{name}"', **self.headers.get(path, {})}
        if etag == headers["ETag"]:
            return 304, headers, b""
        self.bodies[path] += 1
        return 200, {**headers, "Content-Type": "image/png"}, png(int(name))


@contextmanager
def gallery() -> Iterator[Gallery]:
    """Serve a gallery on a free port."""
    there = Gallery()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = there.answer(self.path, self.headers.get("If-None-Match", ""))
            if status == HANGS_UP:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True  # a crawl was killed

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
            """Say nothing: the log is `asked`."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed is nothing to tell."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed's are sockets

    with Server(("127.0.0.1", 0), Handler) as server:
        there.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join()


def workspace_at(root: Path, settings: Settings, base: str) -> Workspace:
    """Write a project for the gallery at `base` into `root`, and open it on that bucket."""
    root.mkdir(exist_ok=True)
    (root / "project.toml").write_text(PROJECT.format(base=base))
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def main() -> None:
    """Collect a source of the project in a folder, committing often: `python -m ... ROOT SOURCE`."""
    root = Path(sys.argv[1])
    settings = Settings.load(root)
    store = ObjectStore(settings)
    workspace = Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )
    limits = CommitLimits(images=int(sys.argv[3]), links=int(sys.argv[3]))
    collect(workspace, sys.argv[2], limits=limits)


if __name__ == "__main__":
    main()
