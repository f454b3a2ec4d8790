"""Say what is wrong with a file in words of the file: which key, what was expected, what came."""

from __future__ import annotations

import datetime as dt
import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_KINDS: dict[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    dt.datetime: "a time",
    dt.date: "a date",
    dt.time: "a time of day",
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a sentence for each thing that `error` found wrong with a `model`.

    What was expected is taken from the description of the field, or of a list's items.
    """
    said = []
    for each in error.errors(include_url=False):
        where, kind, found = each["loc"], each["type"], each["input"]
        if kind == "extra_forbidden":
            problem = _unknown_key(str(where[-1]), _model_at(model, where[:-1]))
        elif kind == "value_error":
            problem = str(each["ctx"]["error"])
        elif kind == "missing":
            problem = f"missing; expected {_expected(model, where)}"
        else:
            # A value of the wrong kind is named by its kind, one of the right kind is shown.
            got = _kind(found) if kind.endswith("_type") else json.dumps(found, default=str)
            problem = f"expected {_expected(model, where)}, got {got}"
        said.append(f"{_path(where)}: {problem}")
    return said


def _path(where: Sequence[str | int]) -> str:
    """Return `("sources", 0, "start")` as `sources[0].start`."""
    path = ""
    for part in where:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "the file"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _unknown_key(key: str, model: type[BaseModel]) -> str:
    known = [name for name, field in model.model_fields.items() if field.exclude is not True]
    close = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {advice}"


def _model_at(model: type[BaseModel], where: Sequence[str | int]) -> type[BaseModel]:
    found: Any = model
    for part in where:
        found, _ = _step(found, part)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise TypeError(f"{_path(where)} is not a table: {found}")
    return found


def _expected(model: type[BaseModel], where: Sequence[str | int]) -> str:
    found: Any = model
    description: str | None = None
    for part in where:
        found, description = _step(found, part)
    return description or "a table"


def _step(annotation: Any, part: str | int) -> tuple[Any, str | None]:  # noqa: ANN401 - annotations have no common type
    """Return the annotation and the description of one field of a model, or of a list's items."""
    if isinstance(part, str):
        field = annotation.model_fields[part]
        return field.annotation, field.description
    (item,) = get_args(annotation)
    if get_origin(item) is Annotated:
        plain, *notes = get_args(item)
        descriptions = [note.description for note in notes if isinstance(note, FieldInfo)]
        return plain, next((each for each in descriptions if each), None)
    return item, None
