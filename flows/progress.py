"""How far a stage has come, told to whoever is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from flows import logs

LINE_EVERY_S = 10.0
"""Between two lines of a log, at least."""


class Progress(Protocol):
    """What a stage calls as it goes."""

    def __call__(self, done: int, total: int | None, said: object = "") -> None:
        """Say that `done` of `total` are done; `total` is None while it is unknown.

        `said` is what else there is to say; it becomes text when it is shown.
        """


Watch = Callable[[str], AbstractContextManager[Progress]]
"""Begins watching a step by its title, for as long as the context lasts."""


def silent(done: int, total: int | None, said: object = "") -> None:
    """Watch nothing."""


@contextmanager
def unwatched(title: str) -> Iterator[Progress]:
    """Watch no step."""
    yield silent


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar with rate and time left on stderr; plain lines where stderr is no terminal."""
    if logs.is_json() or not sys.stderr.isatty():
        yield _Lines(title)
        return
    # rich takes 0.2 s to import: not for a command that shows no bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "", style="cyan")

    class SaidColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(str(task.fields["said"]), style="dim")

    bar = RichProgress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        SaidColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None, said="")

        def update(done: int, total: int | None, said: object = "") -> None:
            bar.update(task, completed=done, total=total, said=said)

        yield update


class _Lines:
    """A line now and then: a log, not a screen, is being written."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = self._said = time.monotonic()

    def __call__(self, done: int, total: int | None, said: object = "") -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        rate = done / (now - self._started)
        left = f", {(total - done) / rate:.0f} s left" if total and rate > 0 else ""
        of = f" of {total}" if total else ""
        more = f": {text}" if (text := str(said)) else ""
        logs.tell(
            f"{self._title}: {done}{of} ({rate:.1f}/s{left}){more}",
            step=self._title,
            done=done,
            total=total,
            per_s=round(rate, 3),
        )
