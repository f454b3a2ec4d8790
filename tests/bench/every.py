"""Run every benchmark, one after the other, and write BENCHMARKS.md: `make bench`.

One that fails, or takes longer than half an hour, does not keep the others from being reported: the
table says which it was, and `.bench/<name>.log` holds what it said. The exit status is then 1.

    python -m tests.bench.every                 all of them, about an hour on two cores
    python -m tests.bench.every crawl dedupe    these alone
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.bench import report

LONGEST_S = 1800
_TO_CLEAN_UP_S = 60
_NO_BENCHMARKS = {"__init__", "every", "report"}


def benchmarks() -> list[str]:
    """Return the names of all benchmarks, in the order of the alphabet."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NO_BENCHMARKS
    )


def run(name: str, *, longest_s: float = LONGEST_S) -> str | None:
    """Run one benchmark to its end; return why it failed, a sentence without a full stop, or None."""
    log = report.FOLDER / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said:
        running = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{name}"], cwd=report.ROOT, stderr=said
        )
        try:
            status = running.wait(longest_s)
        except subprocess.TimeoutExpired:
            _stop(running)
            return f"it had not ended after {longest_s / 60:.0f} minutes"
        except KeyboardInterrupt:
            _stop(running)
            raise
    return (
        f"it ended with status {status}; what it said is in .bench/{name}.log" if status else None
    )


def _stop(running: subprocess.Popen[bytes]) -> None:
    """Let it stop the servers that it started, as Ctrl-C does."""
    running.send_signal(signal.SIGINT)
    try:
        running.wait(_TO_CLEAN_UP_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def main() -> None:
    """Run those that are named, or all, and write the table; exit 1 if any failed."""
    progress = Console(stderr=True)
    failed = []
    for name in sys.argv[1:] or benchmarks():
        began = time.monotonic()
        why = run(name)
        if why is not None:
            failed.append(name)
            report.write_failure(name, f"{why}.")
        progress.print(f"{name}: {why or 'done'}, {time.monotonic() - began:.0f} s")
    report.main()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
