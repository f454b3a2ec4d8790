"""Does memory stay flat when a large dataset goes to another tool and back: `python -m tests.bench.exchange`.

    python -m tests.bench.exchange [PICTURES]      100,000 by default; 1,000,000 takes half an hour

A catalogue of that many pictures, three labels and a decision on every other picture is written to
a real store, first a quarter of it, then all. At either size each format is exported and applied by
the commands, each in a process of its own. Memory is the most that the process held.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.labelling.catalogue import fill, write_project
from tests.bench.report import Row, write
from tests.bench.stored import loopback_store

FORMATS = ("decisions", "label-studio", "coco", "fiftyone")
"""Of the formats those that can be written without the pictures, which the catalogue does not have."""

AT = "s3://elsewhere"
MOST_MIB = 500.0
MOST_GROWTH = 1.15
"""Four times as many pictures may take so much more memory: caches of the store's libraries fill."""


def main() -> None:
    """Run it and write `.bench/exchange.json`."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    small, large = (_measured(each) for each in (count // 4, count))
    rows = []
    for name, (seconds, mib) in large.items():
        growth = mib / small[name][1]
        rows += [
            Row(name=f"{name}: memory", unit="MiB", value=mib, target=MOST_MIB, at_least=False),
            Row(
                name=f"{name}: memory against a quarter",
                unit="x",
                value=growth,
                target=MOST_GROWTH,
                at_least=False,
            ),
            Row(name=f"{name}: CPU", unit="us/picture", value=seconds / count * 1e6),
        ]
    write("exchange", rows, runs=1, notes=f"{count} pictures, 3 labels, half of them decided")


def _measured(count: int) -> dict[str, tuple[float, float]]:
    """Return CPU seconds and MiB of every command, by its name."""
    with loopback_store() as (folder, settings, store):
        fill(store, count, decided=count // 2, embedded=False)
        write_project(folder / "project", settings)
        found = {}
        for each in FORMATS:
            out = folder / (f"{each}.csv" if each == "decisions" else each)
            at = ["--pictures-at", AT] if each == "label-studio" else []
            project = ["--format", each, "--project", str(folder / "project")]
            found[f"export {each}"] = _run("export", str(out), *at, *project)
            found[f"apply {each}"] = _run("review", "--apply", str(out), *project)
    return found


def _run(*arguments: str) -> tuple[float, float]:
    """Run a command; return its CPU seconds and the most memory that it held, in MiB."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CRATEDIG_")}
    code = "from flows.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=clean, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
