"""Find what a test has started, among all that its process has started."""

from __future__ import annotations

import psutil


def children_running(module: str) -> list[psutil.Process]:
    """Return this process's children that run `python -m module`; ended ones are left out."""
    found = []
    for child in psutil.Process().children():
        try:
            if module in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # a server of an earlier test, which has ended
    return found
