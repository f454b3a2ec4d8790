"""Real processes that are killed with -9 at a request to the store that a test chooses."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

from tests.flows.store_proxy import StoreProxy
from tests.waiting import until

Point = Callable[[str, str], bool]
"""Says of a method and a path whether a process is to be killed at that request."""

_PRELOADED = ["tests.flows.nights", "tests.flows.archives"]


FORKS = multiprocessing.get_context("forkserver")
"""From which everything comes that such processes share: their gates and queues."""


def start(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Run a function in a process of its own.

    Forked from a server that has imported what it needs, and done nothing else: of dozens of
    processes each takes seconds less.
    """
    FORKS.set_forkserver_preload(_PRELOADED)
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    return process


def put(*parts: str) -> Point:
    """Return the point at which something is written whose key has all those parts."""
    return lambda method, path: method == "PUT" and all(part in path for part in parts)


def after(count: int) -> Point:
    """Return the point at which so many requests have been sent."""
    numbers = itertools.count()
    return lambda method, path: next(numbers) >= count


def killed_at(
    proxy: StoreProxy,
    point: Point,
    target: Callable[..., object],
    *arguments: object,
    answered: bool,
) -> bool:
    """Kill a process at a point; False if it ended, and well, before it came there.

    `answered`: the store has done what was asked, and nobody has heard of it.
    """
    with proxy.halting(point, answered=answered) as reached:
        process = start(target, *arguments)
        until(lambda: reached.is_set() or not process.is_alive(), timeout_s=240)
        if not reached.is_set():
            assert process.exitcode == 0
            return False
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    return True
