"""Decoding in processes of its own: what a picture does to its decoder stays there.

Not a ProcessPoolExecutor: when one of its workers dies it breaks every task in hand and does not
say whose fault it was, and its workers import the main program again, which here takes seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from types import TracebackType
from typing import Self

from crawler.consent import UNSAID
from crawler.decode_worker import Reply, reply_from_json
from crawler.rejections import CrawlerError, Reason
from crawler.settings import CrawlPolicy

DECODE_CPU_S = 60.0
"""Processor time that one picture may take; 100 million pixels need a few seconds."""


class DecodePool:
    """Worker processes, each with one picture at a time, one for each core unless told otherwise.

    Use it as a context manager.

    Workers start when they are first needed, and end with this process however it ends.
    """

    def __init__(
        self, workers: int | None, policy: CrawlPolicy, *, cpu_s: float = DECODE_CPU_S
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._policy = policy
        self._cpu_s = cpu_s
        self._slots = asyncio.Semaphore(self.workers)
        self._idle: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._idle:
            await _end(self._idle.pop())

    async def examine(self, data: bytes) -> Reply:
        """Return what `crawler.decode.examine` makes of `data`, and what `data` says of its own use.

        DECODER_CRASHED when workers die of it, or need more processor time than allowed. Raises
        `CrawlerError` when no worker can be started.
        """
        async with self._slots:
            # Twice, because a worker may also die of something else: memory that ran out, an
            # administrator. What kills two of them is the picture.
            for _ in range(2):
                worker = self._idle.pop() if self._idle else await self._start()
                try:
                    reply = await _ask(worker, data)
                except (asyncio.IncompleteReadError, ConnectionError):
                    await _end(worker)
                except BaseException:
                    await _end(worker)  # cancelled in mid-sentence: it can be asked nothing more
                    raise
                else:
                    self._idle.append(worker)
                    return reply_from_json(reply)
        detail = f"the decoder dies of, or hangs on, these {len(data)} bytes"
        return Reply(seen=(Reason.DECODER_CRASHED, detail), consent=UNSAID)

    async def _start(self) -> Process:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "crawler.decode_worker",
            str(self._policy.max_pixels),
            str(self._policy.min_side),
            str(self._cpu_s),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            # One thread: there is a worker for each core.
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        try:
            await _hear(worker)  # it says that it is ready
        except asyncio.IncompleteReadError:
            await _end(worker)
            raise CrawlerError(
                f"the decoding process does not start (exit code {worker.returncode}); "
                "`python -m crawler.decode_worker 1 1 1` shows why"
            ) from None
        except BaseException:
            await _end(worker)
            raise
        return worker


async def _ask(worker: Process, data: bytes) -> bytes:
    assert worker.stdin is not None  # noqa: S101 - for the type checker: it is a PIPE
    worker.stdin.write(len(data).to_bytes(4, "big"))
    worker.stdin.write(data)
    await worker.stdin.drain()
    return await _hear(worker)


async def _hear(worker: Process) -> bytes:
    assert worker.stdout is not None  # noqa: S101 - for the type checker: it is a PIPE
    size = int.from_bytes(await worker.stdout.readexactly(4), "big")
    return await worker.stdout.readexactly(size)


async def _end(worker: Process) -> None:
    if worker.returncode is None:
        worker.kill()
    await worker.wait()
