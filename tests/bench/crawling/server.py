"""A server on loopback for `tests.bench.crawl`: many hosts, real photographs of about 31 KB each.

    python -m tests.bench.crawling.server HOSTS

It prints its port when it listens on 127.0.0.1 to 127.0.0.HOSTS, and ends when stdin does. Every
address `/<n>.jpg` is another picture, by a comment in the JPEG: no two have the same sha256.
"""

from __future__ import annotations

import asyncio
import sys

from tests.bench.report import shared_folder

_FOLDERS = ("clothing_small", "grocery", "hymenoptera", "playing_cards_multilabel")
_SIZES = range(26_000, 36_000)
_OF_EACH = 40
_ROBOTS = b"User-agent: *\nDisallow: /private/\n"


def photographs() -> list[bytes]:
    """Return real photographs of 26 to 36 KB, as they are, half of them phone pictures."""
    found: list[bytes] = []
    for folder in _FOLDERS:
        paths = sorted((shared_folder() / "data" / folder).rglob("*.jp*g"))
        fitting = [path for path in paths if path.stat().st_size in _SIZES]
        found += [path.read_bytes() for path in fitting[:_OF_EACH]]
    if not found:
        raise SystemExit(f"no photographs below {shared_folder()}: it does not hold the test data")
    return found


class _Answers(asyncio.Protocol):
    """As little HTTP as the clients need, so that the server is not what is measured."""

    def __init__(self, photos: list[bytes]) -> None:
        self._photos = photos
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            close = b"connection: close" in head.lower()
            self._transport.write(self._answer(path, close=close))
            if close:
                self._transport.close()

    def _answer(self, path: bytes, *, close: bool) -> bytes:
        if path == b"/robots.txt":
            status, kind, body = b"200 OK", b"text/plain", _ROBOTS
        elif path == b"/.well-known/tdmrep.json":
            status, kind, body = b"404 Not Found", b"text/plain", b"none"
        else:
            status, kind, body = b"200 OK", b"image/jpeg", self._photo(path)
        return (
            b'HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nETag: "%b"\r\n'
            b"Last-Modified: Mon, 02 Mar 2026 10:00:00 GMT\r\nCache-Control: max-age=3600\r\n"
            b"Date: Mon, 02 Mar 2026 10:00:00 GMT\r\nServer: bench\r\nConnection: %b\r\n\r\n%b"
        ) % (status, kind, len(body), path[1:], b"close" if close else b"keep-alive", body)

    def _photo(self, path: bytes) -> bytes:
        number = path[1:].split(b".")[0]
        photo = self._photos[int(number) % len(self._photos)]
        # FF FE is a comment; it may stand right behind the start of image.
        return photo[:2] + b"\xff\xfe" + (2 + len(number)).to_bytes(2, "big") + number + photo[2:]


async def _serve(hosts: int) -> None:
    photos = photographs()
    loop = asyncio.get_running_loop()
    port = 0
    for number in range(1, hosts + 1):
        server = await loop.create_server(
            lambda: _Answers(photos), f"127.0.0.{number}", port, backlog=512
        )
        port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
