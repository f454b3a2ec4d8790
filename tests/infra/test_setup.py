"""The set-up chooses a Python that can run cratedig, and finds a browser that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.chromium import find_chromium

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "infra" / "setup.sh"


def python_chosen(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Ask the set-up which Python it would take, with `folder` first on the search path."""
    return subprocess.run(
        ["sh", SCRIPT, "python"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:/usr/bin:/bin", **variables},
    )


def put_program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_newest_named_python_is_taken(tmp_path: Path) -> None:
    put_program(tmp_path / "python3.13", f'exec {sys.executable} "$@"')

    assert python_chosen(tmp_path).stdout.strip() == str(tmp_path / "python3.13")


def test_a_python_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    """As pyenv's, for versions that are not installed."""
    put_program(
        tmp_path / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127"
    )
    put_program(tmp_path / "python3.12", f'exec {sys.executable} "$@"')

    assert python_chosen(tmp_path).stdout.strip() == str(tmp_path / "python3.12")


def test_no_python_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    put_program(tmp_path / "old", "exit 1")

    done = python_chosen(tmp_path, PYTHON="old")

    assert done.returncode == 1
    assert "apt-get install python3" in done.stderr


def test_the_chosen_browser_runs() -> None:
    found = find_chromium()

    assert found is not None
    assert os.access(found, os.X_OK)


def test_a_browser_that_only_complains_is_no_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ubuntu's `chromium-browser`, when its snap is not installed."""
    put_program(tmp_path / "chromium", "echo 'requires the chromium snap' >&2; exit 1")
    monkeypatch.setenv("CRATEDIG_CHROMIUM", str(tmp_path / "chromium"))

    assert find_chromium() is None


def test_the_lock_names_no_host() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()

    assert "://" not in lock


def test_every_locked_package_has_a_hash() -> None:
    entries = (REPOSITORY / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    unhashed = [each for each in entries if each[:1].isalnum() and "--hash=sha256:" not in each]

    assert unhashed == []
