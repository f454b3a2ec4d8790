"""Find the browser that scripted pages are read with, and install one where there is none.

`python -m infra.chromium` is the step of the set-up that does it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "CRATEDIG_CHROMIUM"

_SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome")

ADVICE = (
    f"install one (Debian: `apt-get install chromium`; else `playwright install --with-deps "
    f"chromium`), or set {VARIABLE} to the program of one that you have"
)


def find_chromium() -> Path | None:
    """Return the first browser that runs: `CRATEDIG_CHROMIUM`, Playwright's own, the system's.

    A program that is there but does not answer `--version` does not count: Ubuntu's
    `chromium-browser` without its snap is one. None if `CRATEDIG_CHROMIUM` is set to such a one:
    whoever sets it wants that browser and no other.
    """
    return next((path for path in _candidates() if _runs(path)), None)


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get(VARIABLE)
    if chosen:
        yield Path(chosen)
        return
    # 2 s to import and to ask: only Playwright itself knows where this version of it looks.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield Path(playwright.chromium.executable_path)
    for name in _SYSTEM_NAMES:
        found = shutil.which(name)
        if found:
            yield Path(found)


def _runs(program: Path) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def as_root() -> list[str] | None:
    """Return what to put before a command to run it as root; None where that takes a password."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        allowed = subprocess.run(
            ["sudo", "-n", "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True
        )
        if allowed.returncode == 0:
            return ["sudo", "-n"]
    return None


def install_commands() -> Iterator[list[str]]:
    """Yield ways to install a browser, best first; each is a command, run until one has worked."""
    root = as_root()
    if root is not None and shutil.which("apt-get"):
        apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        apt += ["-q", "-o", "DPkg::Lock::Timeout=120"]
        yield [*apt, "update"]
        yield [*apt, "install", "--yes", "--no-install-recommends", "chromium"]
    dependencies = ["--with-deps"] if root is not None else []
    yield [sys.executable, "-m", "playwright", "install", *dependencies, "chromium"]


def main() -> int:
    """Make sure that there is a browser; return 1, with a sentence on stderr, if there cannot be."""
    found = find_chromium()
    if found is None and os.environ.get(VARIABLE):
        print(
            f"{VARIABLE}={os.environ[VARIABLE]} does not run: correct or unset it", file=sys.stderr
        )
        return 1
    for command in () if found else install_commands():
        print(f"no browser yet: {' '.join(command)}", file=sys.stderr)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        found = find_chromium()
        if found:
            break
    if found is None:
        print(f"no Chromium was found and none could be installed: {ADVICE}", file=sys.stderr)
        return 1
    print(f"browser: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
