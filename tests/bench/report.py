"""The common part of the benchmarks: rows, rivals in environments of their own, and pairs in turn.

Each benchmark writes `.bench/<name>.json`; `python -m tests.bench.report` puts all of them into
BENCHMARKS.md, those that failed with the word that they did, and leaves the sections of others as
they are. A figure is the median of its runs. A ratio is that of ours to the rival's, pair by pair,
because the machine that is slow for one is slow for the other: so it is always above 1 where ours is
the better.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
TABLE = ROOT / "BENCHMARKS.md"
_VERSIONS_OF = ("aiohttp", "pillow", "numpy", "torch", "onnxruntime", "pyarrow", "pylance")


class RivalUnavailable(Exception):
    """A rival cannot be installed here, or does not run: our figures stand alone, and notes say so."""


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
    _write_result(
        name,
        runs=runs,
        notes=notes,
        rows=[{**dataclasses.asdict(row), "met": row.met} for row in rows],
    )
    shown = Table(title=f"{name}: median of {runs} runs", caption=notes or None)
    for heading in _HEADINGS:
        shown.add_column(heading)
    for row in rows:
        shown.add_row(*_cells(row))
    Console(width=140).print(shown)


def write_failure(name: str, why: str) -> None:
    """Write to `.bench/<name>.json` that the benchmark gave no figures; `why` is a sentence."""
    _write_result(name, runs=0, notes=why, rows=[])


def _write_result(name: str, **result: object) -> None:
    told = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        **result,
    }
    _write_whole(FOLDER / f"{name}.json", json.dumps(told, indent=2) + "\n")


def shared_folder() -> Path:
    """Return the real photographs and stand-in weights, or end with what to do where they are not."""
    folder = Path(os.environ.get("CRATEDIG_SHARED", ROOT.parent / "shared"))
    if not folder.exists():
        sys.exit(f"{folder} does not exist: set CRATEDIG_SHARED to the real photographs")
    return folder


def rival_python(name: str, *packages: str, without: Sequence[str] = ()) -> Path:
    """Return the python of the environment `.bench/envs/<name>`, made once, with `packages` in it.

    `without` names packages that they depend on and that are not to be installed.
    Raises `RivalUnavailable` when they cannot be installed.
    """
    folder = FOLDER / "envs" / name
    python = folder / "bin" / "python"
    made_for = folder / "packages.json"
    wanted = json.dumps([*packages, *(f"not {each}" for each in without)])
    if not made_for.exists() or made_for.read_text() != wanted:
        uv = Path(sys.executable).with_name("uv")
        steps: tuple[list[str | Path], ...] = (
            ["venv", "--quiet", "--clear", "--python", sys.executable, folder],
            ["pip", "install", "--quiet", "--python", python, *packages],
        )
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
            # A condition that never holds: uv has no other word for leaving out.
            overrides.writelines(f"{each} ; python_version < '0'\n" for each in without)
            overrides.flush()
            for step in steps:
                done = subprocess.run(
                    [uv, *step],
                    env={**os.environ, "UV_OVERRIDE": overrides.name},
                    check=False,
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    raise RivalUnavailable(f"{', '.join(packages)} cannot be installed here")
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
    """Write BENCHMARKS.md from what the benchmarks have written here, and what it says of others."""
    results = [json.loads(each.read_text()) for each in sorted(FOLDER.glob("*.json"))]
    _write_whole(TABLE, table(results, before=TABLE.read_text() if TABLE.exists() else ""))


def table(results: Sequence[Mapping[str, Any]], *, before: str = "") -> str:
    """Return the text of BENCHMARKS.md; `results` are what `.bench/*.json` hold.

    The sections of `before`, an earlier text, stay where there is no newer result.
    """
    sections = {name: text.strip() for text, name in _SECTION.findall(before)}
    sections |= {result["name"]: "\n".join(_section(result)).strip() for result in results}
    lines = ["# Benchmarks", "Written by `make bench`; not edited by hand."]
    failed = [name for name in sorted(sections) if _FAILED in sections[name]]
    if failed:
        lines.append(f"Failed, and without figures: {', '.join(failed)}.")
    return "\n\n".join([*lines, *(sections[name] for name in sorted(sections))]) + "\n"


_FAILED = "**Failed**"
_SECTION = re.compile(r"^(## (\S+)\n.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
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


def _section(result: Mapping[str, Any]) -> list[str]:
    machine, versions = result["machine"], result["versions"]
    where = (
        f"{result['at']}, commit {versions.get('cratedig') or 'unknown'}, "
        f"{machine['cpus']} x {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {versions['python']}"
    )
    lines = [f"## {result['name']}", ""]
    if not result["rows"]:
        return [*lines, f"{_FAILED}: {result['notes']}", "", f"{where}.", ""]
    lines += [
        f"{where}; median of {result['runs']} runs.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|{'---|' * len(_HEADINGS)}",
    ]
    for fields in result["rows"]:
        row = Row(**{name: value for name, value in fields.items() if name != "met"})
        lines.append(f"| {' | '.join(_cells(row))} |")
    if result["notes"]:
        lines += ["", result["notes"]]
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
