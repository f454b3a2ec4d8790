"""Start, find and end the processes of a stack, and never those of anyone else."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "CRATEDIG_STACK_PART"
"""Environment variable that tells which part of which stack a process, or its child, belongs to."""

_CLOCK_SLACK_S = 1.5
"""psutil counts creation times from the boot time, which the kernel reports in whole seconds."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this interpreter started, by pid: the parts outlive it, but while it lives it must reap
those that end, and a Popen that is let go of warns that its process still runs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process beyond doubt: its pid may be given to another one, but not with that birth time."""

    pid: int
    created: float


def start(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, mark: str
) -> ProcessId:
    """Start `command` in a session of its own, without input, its output appended to `log`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**environment, MARK: mark},
            # Ctrl-C in the terminal is for the command that started it, not for the part.
            start_new_session=True,
        )
    _children[child.pid] = child
    return ProcessId(pid=child.pid, created=psutil.Process(child.pid).create_time())


def find(process_id: ProcessId) -> psutil.Process | None:
    """Return the process if it still runs; None if it ended, even if its pid is in use again."""
    try:
        process = psutil.Process(process_id.pid)
        if abs(process.create_time() - process_id.created) > _CLOCK_SLACK_S:
            return None
    except psutil.NoSuchProcess:
        return None
    return process if _runs(process) else None


def marked(beginning: str) -> list[psutil.Process]:
    """Return the running processes, but this one, whose mark, own or inherited, begins so.

    It finds what a killed `up` or a killed part left behind.
    """
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get(MARK, "").startswith(beginning) and _runs(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # it ended meanwhile, or it is another user's and so not ours
    return found


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return `process` and everything that it started and that still hangs on it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(
    leaders: Iterable[psutil.Process], others: Iterable[psutil.Process], *, grace_s: float
) -> None:
    """End `leaders`, which get `grace_s` seconds to end their own children, then whatever is left.

    First SIGTERM to the leaders, then SIGTERM to `others` that still run, then SIGKILL to all.
    """
    leaders, others = list(leaders), list(others)
    _signal(leaders, kill=False)
    _await_end(leaders, grace_s)
    remaining = [each for each in others if _runs(each)]
    _signal(remaining, kill=False)
    _await_end(remaining, min(grace_s, 2.0))
    stubborn = [each for each in (*leaders, *others) if _runs(each)]
    _signal(stubborn, kill=True)
    _await_end(stubborn, 10.0)


def _runs(process: psutil.Process) -> bool:
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        del _children[process.pid]
    try:
        # A zombie has ended; only its parent has not noticed yet.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            # psutil compares the birth time first: a pid that was given away is left alone.
            process.kill() if kill else process.terminate()
        except psutil.NoSuchProcess:
            continue


def _await_end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(_runs(each) for each in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def inherited_environment(*, without: Sequence[str] = ()) -> dict[str, str]:
    """Return this process's environment for a part: less all names that start as `without` says.

    Parts talk to one another on loopback, past any proxy that the environment names.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(tuple(without))
    }
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1", "localhost"]))
    return kept
