"""What a process has let go of goes back to the system, which allocators by themselves put off."""

from __future__ import annotations

import ctypes

import pyarrow as pa


def give_memory_back() -> None:
    """Return to the system what was freed: after large tables have been read, 100 MB of 440."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; others need it less
    if trim is not None:
        trim(0)
