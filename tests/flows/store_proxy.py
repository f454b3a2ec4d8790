"""A real HTTP server between a client and the store, that does what networks and poor stores do."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conftest import RunningStore

Fault = Literal["503", "reset", "lose the answer", "cut the body", "hang"]

_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


class StoreProxy(http.server.ThreadingHTTPServer):
    """Forwards every request to the store, but for the next faults; each strikes one request.

    Headers named in `ignores` are taken off requests, which are signed anew: that is a store that
    knows nothing of them.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, store: RunningStore, *, ignores: frozenset[str] = frozenset()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self.ignores = ignores
        self.faults: deque[Fault] = deque()
        self.released = threading.Event()

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StoreProxy

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault == "hang":
            self.server.released.wait(60)
        elif fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        elif fault != "reset":
            status, headers, body = self._forward(data)
            if fault != "lose the answer":
                self._send(status, headers, body, cut=fault == "cut the body")
                return
        self._reset()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def _forward(self, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        url = self.server.store.endpoint + self.path
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _HOP_BY_HOP | self.server.ignores
        }
        if self.server.ignores:
            kept = {
                name: value
                for name, value in headers.items()
                if name.lower() not in {"authorization", "host", "content-length", "x-amz-date"}
            }
            request = AWSRequest(method=self.command, url=url, headers=kept, data=data)
            keys = Credentials(self.server.store.access_key, self.server.store.secret_key)
            S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
            headers = {**request.headers, "Content-Length": str(len(data))}
        with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
            # With the Host that the client signed.
            connection.request(self.command, self.path, body=data, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        # Linger of zero seconds: closing sends RST, not FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the tests look at what the client makes of it."""


@contextlib.contextmanager
def run_proxy(
    store: RunningStore, *, ignores: frozenset[str] = frozenset()
) -> Iterator[StoreProxy]:
    """Serve in a thread for as long as the block runs."""
    with StoreProxy(store, ignores=ignores) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.released.set()
            proxy.shutdown()
            thread.join()
