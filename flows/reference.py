"""Write the reference from the code: `python -m flows.reference > flows/REFERENCE.md`.

Settings, project.toml, commands and reasons for rejection are described where they are defined; a
test holds the committed file to this.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from io import StringIO
from typing import get_args

from cyclopts import App
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console

WIDTH = 100

_WHERE = """\
Each is a variable of the environment, a line of `.env` beside project.toml, or a file of that name in
lower case in the folder that `CRATEDIG_SECRETS_DIR` names; the first that is found counts. A secret may
lie in a Prefect `Secret` block instead: where the variable that ends in `_BLOCK` names one, that block
counts, whatever else is set. `cratedig doctor` says where each secret came from."""


def reference() -> str:
    """Return the whole reference, as Markdown."""
    from crawler.rejections import Reason

    parts = [
        "# Reference",
        "Written by `python -m flows.reference`; do not edit.",
        "## Settings",
        _WHERE,
        _table(("variable", "default", "meaning"), _variables()),
        "## project.toml",
        "`cratedig init` writes an example with comments.",
        *_project(),
        "## Why a link is rejected",
        _table(("reason", "meaning"), _reasons(Reason)),
        "## Commands",
        *_commands(),
    ]
    return "\n\n".join(parts) + "\n"


def _variables() -> Iterator[tuple[str, ...]]:
    from flows.copy import CopySettings
    from flows.logs import LogSettings
    from flows.notify import NotifySettings
    from flows.observe import MetricsSettings
    from flows.settings import SecretBlocks, Settings
    from flows.studio.access import AccessSettings

    for settings in (
        Settings,
        SecretBlocks,
        NotifySettings,
        AccessSettings,
        CopySettings,
        LogSettings,
        MetricsSettings,
    ):
        prefix = settings.model_config.get("env_prefix", "")
        meanings = attribute_docstrings(settings)
        for name, field in settings.model_fields.items():
            yield f"`{prefix}{name.upper()}`", _default(field), meanings.get(name, "")
    yield (
        "`CRATEDIG_PROJECT`",
        "the current folder",
        "The folder of project.toml, for flows that Prefect starts.",
    )
    yield "`CRATEDIG_CHROMIUM`", "", "The browser to use instead of the one that is found."
    yield "`CRATEDIG_SECRETS_DIR`", "", "A folder of files that hold secrets, one each."


def _project() -> Iterator[str]:
    from flows.project import Project

    yield _table(("key", "what", "default", "meaning"), _fields(Project))
    for name, field in Project.model_fields.items():
        section = _model_in(field)
        if section is not None:
            many = section is not field.annotation
            yield f"### `[[{name}]]`" if many else f"### `[{name}]`"
            yield _sentence(section.__doc__)
            yield _table(("key", "what", "default", "meaning"), _fields(section))


def _fields(section: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    meanings = attribute_docstrings(section)
    for name, field in section.model_fields.items():
        if not field.exclude and _model_in(field) is None:
            yield f"`{name}`", field.description or "", _default(field), meanings.get(name, "")


def _model_in(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, by itself or in a list."""
    for each in (field.annotation, *get_args(field.annotation)):
        if inspect.isclass(each) and issubclass(each, BaseModel):
            return each
    return None


def _reasons(reasons: type[Enum]) -> Iterator[tuple[str, ...]]:
    meanings = attribute_docstrings(reasons)
    for each in reasons:
        yield f"`{each.value}`", meanings.get(each.name, "")


def _commands() -> Iterator[str]:
    from flows.cli import app

    commands = list(_below(app, ()))
    yield _table(("command", "what it does"), _summaries(app, commands))
    for names in commands:
        yield from _command(app, names)


def _below(app: App, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return the commands below `names`, each followed by its own."""
    for name in sorted(app):
        if not name.startswith("-"):
            yield (*names, name)
            yield from _below(app[name], (*names, name))


def _summaries(app: App, commands: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Return each command, as a link to its section, and the first line of its help."""
    for names in commands:
        command = app
        for name in names:
            command = command[name]
        called = " ".join(("cratedig", *names))
        said = inspect.cleandoc(command.help or "").split("\n\n")[0]
        yield f"[`{called}`](#{called.replace(' ', '-')})", " ".join(said.split())


def _command(app: App, names: tuple[str, ...]) -> Iterator[str]:
    told = StringIO()
    console = Console(file=told, width=WIDTH, color_system=None, force_terminal=False)
    app.help_print(names, console=console)
    lines = "\n".join(line.rstrip() for line in told.getvalue().strip().splitlines())
    yield f"### {' '.join(('cratedig', *names))}"
    yield f"```text\n{lines}\n```"


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the string that follows each attribute in the source of a class (PEP 257)."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    found = {}
    for node, after in itertools.pairwise(body):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0] if isinstance(node.targets[0], ast.Name) else None
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr):
            said = after.value.value if isinstance(after.value, ast.Constant) else None
            if isinstance(said, str):
                found[target.id] = " ".join(said.split())
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None or default in ("", [], PydanticUndefined) or isinstance(default, BaseModel):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _sentence(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(reference())
