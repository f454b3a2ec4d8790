"""A real HTTP server between a client and the store, that does what networks and poor stores do."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import itertools
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conftest import RunningStore

Fault = Literal["503", "reset", "lose the answer", "cut the body", "hang", "slow", "expired"]
"""`slow`: the body comes in pieces, with pauses; `expired`: the keys were good until now."""

Strikes = Callable[[str, str], Fault | None]
"""Says of a method and a path which fault strikes that request; asked by many threads."""

FAULTS: tuple[Fault, ...] = ("503", "reset", "lose the answer", "cut the body", "slow")
"""What a client is to survive when it happens now and then."""

_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


_SLOW_PIECES = 5
_SLOW_PAUSE_S = 0.1

_EXPIRED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"""


@dataclasses.dataclass(slots=True, kw_only=True)
class Halt:
    """A request that goes no further, so that whoever sent it can be killed right there."""

    at: Callable[[str, str], bool]
    """Says of a method and a path whether it is the one."""
    answered: bool
    """Whether the store has done it, and only the answer is held back."""
    reached: threading.Event = dataclasses.field(default_factory=threading.Event)
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)


class StoreProxy(http.server.ThreadingHTTPServer):
    """Forwards every request to the store, but for the next faults; each strikes one request.

    Headers named in `ignores` are taken off requests, which are signed anew: that is a store that
    knows nothing of them; `ignores_below` is where the paths of those requests begin.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        store: RunningStore,
        *,
        ignores: frozenset[str] = frozenset(),
        ignores_below: str = "/",
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self.ignores = ignores
        self.ignores_below = ignores_below
        self.faults: deque[Fault] = deque()
        self.released = threading.Event()
        self.asked: list[tuple[str, str]] = []
        """Methods and paths, in order."""
        self.strikes: Strikes = lambda method, path: None
        """Which fault strikes a request for which `faults` has none."""
        self._halt: Halt | None = None
        self._halting = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextlib.contextmanager
    def halting(
        self, at: Callable[[str, str], bool], *, answered: bool = False
    ) -> Iterator[threading.Event]:
        """Hold the first request that `at` names while the block runs; gives what says that it has come.

        Then its connection is reset: one that was held before it reached the store never does.
        """
        halt = Halt(at=at, answered=answered)
        self._halt = halt
        try:
            yield halt.reached
        finally:
            self._halt = None
            halt.ended.set()

    def halt_for(self, method: str, path: str) -> Halt | None:
        """Return what holds this request; the next one like it goes on."""
        with self._halting:
            halt = self._halt
            if halt is None or halt.reached.is_set() or not halt.at(method, path):
                return None
            halt.reached.set()
            return halt


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StoreProxy

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path))
        halt = self.server.halt_for(self.command, self.path)
        if halt is not None:
            if halt.answered:
                self._forward(data)
            halt.ended.wait()
            self._reset()
            return
        fault = (
            self.server.faults.popleft()
            if self.server.faults
            else self.server.strikes(self.command, self.path)
        )
        if fault == "hang":
            self.server.released.wait(60)
        elif fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        elif fault == "expired":
            body = b"" if self.command == "HEAD" else _EXPIRED
            self._send(400, [("Content-Type", "application/xml")], body)
            return
        elif fault != "reset":
            status, headers, body = self._forward(data)
            if fault != "lose the answer":
                self._send(status, headers, body, fault)
                return
        self._reset()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def _forward(self, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        url = self.server.store.endpoint + self.path
        below = self.path.startswith(self.server.ignores_below)
        ignores = self.server.ignores if below else frozenset()
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _HOP_BY_HOP | ignores
        }
        if ignores:
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

    def _send(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        fault: Fault | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "slow":
            piece = -(-len(body) // _SLOW_PIECES) or 1
            for at in range(0, len(body), piece):
                time.sleep(_SLOW_PAUSE_S)
                self.wfile.write(body[at : at + piece])
            return
        cut = fault == "cut the body"
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def handle_one_request(self) -> None:
        """Do what the base does; a client that was killed in the middle is nothing to tell."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _reset(self) -> None:
        # Linger of zero seconds: closing sends RST, not FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the tests look at what the client makes of it."""


def now_and_then(fault: Fault) -> Strikes:
    """Let a fault strike one request in eight: the same ones in every run, but for the order."""
    numbers = random.Random(fault)
    return lambda method, path: fault if numbers.random() < 1 / 8 else None


def expired_after(count: int) -> Strikes:
    """Let the keys expire after so many requests, for good."""
    numbers = itertools.count()
    return lambda method, path: "expired" if next(numbers) >= count else None


@contextlib.contextmanager
def run_proxy(
    store: RunningStore,
    *,
    ignores: frozenset[str] = frozenset(),
    ignores_below: str = "/",
) -> Iterator[StoreProxy]:
    """Serve in a thread for as long as the block runs."""
    with StoreProxy(store, ignores=ignores, ignores_below=ignores_below) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.released.set()
            proxy.shutdown()
            thread.join()
