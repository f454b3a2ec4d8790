"""Await a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Return as soon as `condition()` holds; fail after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout_s} s: {condition}")
        time.sleep(0.02)
