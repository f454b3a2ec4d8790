"""Run a command, and print the CPU seconds of it and of all that it started, reaped or not.

A pool that is torn down may leave its workers to be waited for by nobody, and their time would be
lost: they are adopted here (Linux's child subreaper) and waited for.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the arguments after the first; write the CPU seconds to the file that the first names."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this system has no child subreapers")
    status = subprocess.call(sys.argv[2:])
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(sys.argv[1]).write_text(f"{used.ru_utime + used.ru_stime}")
    return status


if __name__ == "__main__":
    sys.exit(main())
