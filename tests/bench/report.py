"""The common part of the benchmarks: rows, rivals in environments of their own, and pairs in turn.

Each benchmark writes `.bench/<name>.json`; `python -m tests.bench.report` puts all of them into
BENCHMARKS.md. A figure is the median of its runs. A ratio is that of ours to the rival's, pair by
pair, because the machine that is slow for one is slow for the other: so it is always above 1 where
ours is the better.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
TABLE = ROOT / "BENCHMARKS.md"
_VERSIONS_OF = ("aiohttp", "pillow", "numpy", "torch", "onnxruntime", "pyarrow", "pylance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure, and what it should be."""

    name: str
    unit: str
    value: float
    """The median of our runs."""
    rival: float | None = None
    """The median of the rival's runs; None where there is none, or where it could not be run."""
    ratio: float | None = None
    """The median of the pairs' ratios, above 1 where ours is the better."""
    target: float | None = None
    """For `value`."""
    at_least: bool = True
    """Whether `value` should be at least the target, or at most."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def write(name: str, rows: Sequence[Row], *, runs: int, notes: str = "") -> None:
    """Print the table of one benchmark and write it to `.bench/<name>.json`, whole or not at all."""
    result = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": runs,
        "notes": notes,
        "machine": _machine(),
        "versions": _versions(),
        "rows": [{**dataclasses.asdict(row), "met": row.met} for row in rows],
    }
    _write_whole(FOLDER / f"{name}.json", json.dumps(result, indent=2) + "\n")
    table = Table(title=f"{name}: median of {runs} runs", caption=notes or None)
    for heading in _HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*_cells(row))
    Console(width=140).print(table)


def rival_python(name: str, *packages: str) -> Path:
    """Return the python of the environment `.bench/envs/<name>`, made once, with `packages` in it.

    Raises `subprocess.CalledProcessError` when they cannot be installed: say so in the notes, and
    give our figures alone.
    """
    folder = FOLDER / "envs" / name
    python = folder / "bin" / "python"
    made_for = folder / "packages.json"
    wanted = json.dumps(packages)
    if not made_for.exists() or made_for.read_text() != wanted:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
        )
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
        made_for.write_text(wanted)
    return python


def cpu_seconds() -> float:
    """Return the CPU seconds, user and system, of this process and the children it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def in_turn(
    ours: Callable[[], float], rival: Callable[[], float], pairs: int
) -> tuple[list[float], list[float]]:
    """Run both `pairs` times in turn, each pair in the other order than the last; return the figures."""
    ours_found: list[float] = []
    rival_found: list[float] = []
    for pair in range(pairs):
        if pair % 2 == 0:
            ours_found.append(ours())
            rival_found.append(rival())
        else:
            rival_found.append(rival())
            ours_found.append(ours())
    return ours_found, rival_found


def main() -> None:
    """Write BENCHMARKS.md from what the benchmarks have written."""
    lines = ["# Benchmarks", "", "Written by `make bench`; not edited by hand.", ""]
    for path in sorted(FOLDER.glob("*.json")):
        lines += _section(json.loads(path.read_text()))
    _write_whole(TABLE, "\n".join(lines))


_HEADINGS = ("figure", "unit", "ours", "rival", "ratio", "target", "met")


def _cells(row: Row) -> tuple[str, ...]:
    sign = ">=" if row.at_least else "<="
    return (
        row.name,
        row.unit,
        _number(row.value),
        _number(row.rival),
        _number(row.ratio),
        f"{sign} {_number(row.target)}" if row.target is not None else "",
        {True: "yes", False: "no", None: ""}[row.met],
    )


def _section(result: dict[str, object]) -> list[str]:
    machine, rows = result["machine"], result["rows"]
    assert isinstance(machine, dict)
    assert isinstance(rows, list)
    lines = [
        f"## {result['name']}",
        "",
        f"{result['at']}, median of {result['runs']} runs, {machine['cpus']} x {machine['cpu']}.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|{'---|' * len(_HEADINGS)}",
    ]
    for fields in rows:
        fields.pop("met")
        lines.append(f"| {' | '.join(_cells(Row(**fields)))} |")
    if result["notes"]:
        lines += ["", str(result["notes"])]
    return [*lines, ""]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _machine() -> dict[str, object]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        found[name] = importlib.metadata.version(name)
    git = shutil.which("git")
    if git is not None:
        said = subprocess.run(
            [git, "describe", "--always", "--dirty"],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        found["cratedig"] = said.stdout.strip()
    return found


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


if __name__ == "__main__":
    main()
