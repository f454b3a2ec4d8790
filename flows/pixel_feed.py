"""Pictures read, decoded and resized ahead of the encoder, in other processes, in order.

Threads of this process read from the store, so that decoders, which untrusted bytes may take over,
never hold its keys; worker processes decode. An encoder that takes from here waits only when all of
them together are slower than it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crawler.rejections import Reason
from flows.errors import Corrupt, NotFound, Permanent
from flows.pixel_worker import PIXELS, receive, send
from model.preprocess import Preprocessing

DECODE_CPU_S = 60.0
"""Processor time that one picture may take."""

LOOK_AHEAD = 128
"""How many pictures may be under way or waiting to be taken, in small batches; bounds memory."""

# A worker decodes while another thread waits for the store.
_READERS_PER_WORKER = 2
_STARTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a picture has no pixels: `reason` for counting, `detail` for people."""

    reason: str
    detail: str
    transient: bool = False
    """Whether it may be readable at another time."""


class PixelFeed:
    """A few decoding processes for one encoder's preprocessing; use it as a context manager.

    They start when they are first needed, and end with this process however it ends.
    """

    def __init__(
        self, preprocessing: Preprocessing, *, max_pixels: int, workers: int | None = None
    ) -> None:
        self._shape = (*preprocessing.size, 3)
        self._arguments = [
            str(max_pixels),
            str(DECODE_CPU_S),
            json.dumps(dataclasses.asdict(preprocessing)),
        ]
        self.workers = workers or len(os.sched_getaffinity(0))
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(self.workers):
            self._idle.put(None)  # a place for a process that has not been started yet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _ in range(self.workers):
            worker = self._idle.get()
            if worker is not None:
                _end(worker)

    def pixels(
        self,
        sha256s: Iterable[str],
        read: Callable[[str], bytes | Unreadable],
        *,
        batch_size: int = 1,
    ) -> Iterator[tuple[str, NDArray[np.uint8] | Unreadable]]:
        """Yield for each id, in order, uint8 (H, W, C) of the picture that `read` gives, or why not.

        LOOK_AHEAD of them, or two of the batches in which they are taken where that is more, may be
        under way or wait to be taken: one is decoded while the other is encoded. `read` may say
        itself why there are none. What it raises comes out here, but for NotFound and
        Corrupt, which are about one picture.
        """
        look_ahead = max(LOOK_AHEAD, 2 * batch_size)
        pending: deque[tuple[str, Future[NDArray[np.uint8] | Unreadable]]] = deque()
        with ThreadPoolExecutor(self.workers * _READERS_PER_WORKER) as readers:
            try:
                for sha256 in sha256s:
                    pending.append((sha256, readers.submit(self._one, sha256, read)))
                    if len(pending) == look_ahead:
                        first, future = pending.popleft()
                        yield first, future.result()
                while pending:
                    first, future = pending.popleft()
                    yield first, future.result()
            finally:
                readers.shutdown(wait=True, cancel_futures=True)

    def _one(
        self, sha256: str, read: Callable[[str], bytes | Unreadable]
    ) -> NDArray[np.uint8] | Unreadable:
        try:
            body = read(sha256)
        except NotFound as error:
            return Unreadable("missing", str(error))
        except Corrupt as error:
            return Unreadable("damaged", str(error))
        if isinstance(body, Unreadable):
            return body
        worker = self._idle.get()
        try:
            # Twice, because a worker may also die of something else: memory that ran out, an
            # administrator. What kills two of them is the picture.
            for _ in range(2):
                worker = worker or self._start()
                reply = _ask(worker, body)
                if reply is not None:
                    return self._understood(reply)
                _end(worker)
                worker = None
        finally:
            self._idle.put(worker)
        return Unreadable(
            Reason.DECODER_CRASHED, f"the decoder dies of, or hangs on, these {len(body)} bytes"
        )

    def _understood(self, reply: bytes) -> NDArray[np.uint8] | Unreadable:
        if reply[:1] == PIXELS:
            return np.frombuffer(reply, np.uint8, offset=1).reshape(self._shape)
        reason, detail = json.loads(reply[1:])
        return Unreadable(str(reason), str(detail))

    def _start(self) -> subprocess.Popen[bytes]:
        # More than once: a process may be killed while it is still importing, too.
        for _ in range(_STARTS):
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.pixel_worker", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            assert worker.stdout is not None  # noqa: S101 - for the type checker: it is a PIPE
            if receive(worker.stdout) is not None:
                return worker
            _end(worker)
        raise Permanent(
            f"the decoding process does not start (exit code {worker.returncode}); "
            "`python -m flows.pixel_worker` shows why"
        )


def _ask(worker: subprocess.Popen[bytes], body: bytes) -> bytes | None:
    """Return what a worker answers, None when it dies of the question."""
    assert worker.stdin is not None  # noqa: S101 - for the type checker: it is a PIPE
    assert worker.stdout is not None  # noqa: S101 - as above
    try:
        send(worker.stdin, body)
    except BrokenPipeError:
        return None
    return receive(worker.stdout)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            # What was left in its buffer has nobody to go to.
            try:
                pipe.close()
            except BrokenPipeError:
                continue
