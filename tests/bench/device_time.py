"""How much of a stretch of time a device computed: its kernels' times, laid over each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile

_COPIES = ("Memcpy", "Memset")


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of what at least one of the intervals (start, end) covers."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def busy_share(work: Callable[[], object], device: str) -> tuple[float, float]:
    """Do the work; return the share of its time in which the device computed, and that time in s.

    On "cuda" kernels count, whatever stream they are on, and copies do not; on "cpu" torch's own
    operations, whichever thread they are on. Watching costs a little time itself.
    """
    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    # acc_events: else torch 2.13 warns that it will forget events of earlier cycles, of which there are none.
    with profile(activities=[activity], acc_events=True) as watched:
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken_s = time.perf_counter() - started
    times_us = [
        (event.time_range.start, event.time_range.end)
        for event in watched.events() or ()
        if event.device_type.name == device.upper() and not event.name.startswith(_COPIES)
    ]
    return covered(times_us) / 1e6 / taken_s, taken_s
