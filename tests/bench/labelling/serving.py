"""A labelling tool's server in a process of its own, and what it answers and holds."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from playwright.sync_api import Browser, sync_playwright

STARTS_WITHIN_S = 600
"""Label Studio makes its tables first."""


def free_port() -> int:
    """Return a port of loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listening(port: int) -> bool:
    """Say whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    environment: Mapping[str, str],
    log: Path,
) -> Iterator[psutil.Process]:
    """Run `command` with `environment` beside PATH and HOME; yield its process when it is `ready`.

    `ready` may raise `httpx.TransportError` for as long as nobody listens. Raises RuntimeError if the
    process ends, or is not ready within `STARTS_WITHIN_S`.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with log.open("a") as said:
        running = subprocess.Popen(
            command, env=kept | dict(environment), stdout=said, stderr=said, cwd=log.parent
        )
    try:
        until(ready, alive=lambda: running.poll() is None, within_s=STARTS_WITHIN_S)
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser that reaches nothing but loopback."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CRATEDIG_CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


def until(
    condition: Callable[[], bool],
    *,
    alive: Callable[[], bool] = lambda: True,
    within_s: float = 120,
) -> None:
    """Wait until `condition` holds; that nobody listens yet counts as not."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and alive():
        try:
            if condition():
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.02)
    raise RuntimeError(f"the server did not answer within {within_s:.0f} s, or ended")


def held_mb(*processes: psutil.Process) -> float:
    """Return the resident memory of processes and all of their children, in MB."""
    tree = {each for one in processes for each in (one, *one.children(recursive=True))}
    return sum(float(each.memory_info().rss) for each in tree) / 1e6


def p95_ms(seconds: Sequence[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return 1000 * float(np.percentile(seconds, 95))
