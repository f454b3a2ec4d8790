"""The README shows only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cyclopts import App

from flows.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = sorted(set(re.findall(r"\bcratedig ([a-z]+)\b", README)) - {"turns", "needs", "crawls"})
COMMANDS = {name for name in app if not name.startswith("-")}


def _options(command: App) -> set[str]:
    """Return the options of a command and of those below it."""
    below = {
        option for name in command if not name.startswith("-") for option in _options(command[name])
    }
    if command.default_command is None:
        return below
    arguments = command.assemble_argument_collection()
    return below | {each for argument in arguments for each in argument.names if each[:2] == "--"}


def test_every_command_is_shown() -> None:
    """And nothing is shown that is none."""
    assert set(SHOWN) == COMMANDS


def test_every_option_that_is_shown_exists() -> None:
    """Options stand in the README beside the commands that take them."""
    known = {option for command in COMMANDS for option in _options(app[command])} | {"--help"}
    assert set(re.findall(r"(?<!\w)--[a-z][a-z0-9-]+", README)) <= known


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_every_make_target_that_is_shown_exists(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
