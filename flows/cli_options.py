"""What the commands have in common: their options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import TypeAdapter

from flows.logs import tell

HERE = Path()

ProjectDir = Annotated[
    Path, Parameter(name="--project", help="The folder that holds project.toml.")
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
RunId = Annotated[
    str | None,
    Parameter(name="--run-id", help="Carry on, or look up, the run of this id."),
]
Report = Annotated[Path | None, Parameter(help="Write a page with the pictures there, too.")]


def say(message: str) -> None:
    """Print to stderr, where results are not."""
    tell(message)


def print_result(result: object, as_json: bool, repeated: bool = False) -> None:
    """Print the line with which a stage ends, or the whole result as JSON."""
    if as_json:
        print(TypeAdapter(type(result)).dump_json(result, indent=2).decode())
        return
    print(result)
    if repeated:
        say("this run had been done before; nothing was done twice")
