"""The progress of a run as an artifact in Prefect's pages, with its rate and the time left."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress import Progress, Watch, progress_bar

PROGRESS_EVERY_S = 2.0
"""An update of the progress artifact is a request to the server: not more often than this."""


def watch_by_artifact(stage: str, *, see: str = "") -> Watch:
    """Return what keeps one progress artifact a step up to date, and shows it on stderr.

    `see` is Markdown that stands below what the artifact says.
    A thread of its own sends the updates, so that a slow server never slows the work.
    """

    def described(said: str) -> str:
        return f"{said}\n\n{see}".rstrip()

    @contextmanager
    def watch(title: str) -> Iterator[Progress]:
        # Outside an event loop Prefect answers at once, with no coroutine to await.
        made = create_progress_artifact(0.0, key=f"{stage}-progress", description=described(title))
        artifact = cast("UUID", made)
        started = time.monotonic()
        ended = threading.Event()
        latest: tuple[int, int | None, object] = (0, None, "")

        def update(done: int, total: int | None, said: object = "") -> None:
            nonlocal latest
            latest = (done, total, said)
            show(done, total, said)

        def send() -> None:
            done, total, said = latest
            rate = done / max(time.monotonic() - started, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if total and done else ""
            update_progress_artifact(
                artifact,
                100 * done / total if total else 0.0,
                description=described(
                    f"{title}: {done} of {total or 'unknown'}, {rate:.1f}/s{left}. {said}"
                ),
            )

        def send_until_ended() -> None:
            while not ended.wait(PROGRESS_EVERY_S):
                send()
            send()

        # The copied context carries which server this run talks to.
        sender = threading.Thread(target=contextvars.copy_context().run, args=(send_until_ended,))
        sender.start()
        try:
            with progress_bar(title) as show:
                yield update
        finally:
            ended.set()
            sender.join()

    return watch
