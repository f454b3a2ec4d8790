"""Changes to the labels of project.toml that leave everything else, comments too, as it is.

The text is changed line by line, and the result is read: if it does not say exactly what was meant,
nothing is written, and the user is asked to make the change by hand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.errors import ProjectInvalid
from flows.project import FILE_NAME, LabelConfig, Project

_HEADER = re.compile(r"\s*\[{1,2}\s*[A-Za-z0-9_-]")
_LABELS = re.compile(r"\s*\[\[\s*labels\s*\]\]")
_WRITING = threading.Lock()

Value = str | Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Block:
    """A [[labels]] table: lines `start` to `end`, comments for what follows left out."""

    name: str
    start: int
    end: int


def add_label(root: Path, label: LabelConfig) -> None:
    """Add a label behind the last one. Raises ProjectInvalid, and writes nothing, if it may not be."""
    values = label.model_dump(exclude_defaults=True)
    lines = ["", "[[labels]]", *(f"{key} = {_written(value)}" for key, value in values.items())]

    def change(text: str) -> str:
        old = text.split("\n")
        end = max(block.end for block in _blocks(old))
        return "\n".join([*old[:end], *lines, *old[end:]])

    _rewrite(root, change, lambda labels: [*labels, label])


def change_label(root: Path, name: str, changes: Mapping[str, Value]) -> None:
    """Set fields of a label, an empty value leaving the field out. Raises as `add_label` does."""

    def change(text: str) -> str:
        lines = text.split("\n")
        block = _block(lines, name)
        inside = lines[block.start : block.end]
        for key, value in changes.items():
            inside = _with_field(inside, key, value)
        return "\n".join([*lines[: block.start], *inside, *lines[block.end :]])

    def expected(labels: list[LabelConfig]) -> list[LabelConfig]:
        return [_changed(each, changes) if each.name == name else each for each in labels]

    _rewrite(root, change, expected)


def remove_label(root: Path, name: str) -> None:
    """Remove a label's table. Raises as `add_label` does."""

    def change(text: str) -> str:
        lines = text.split("\n")
        block = _block(lines, name)
        before = lines[: block.start]
        while before and not before[-1].strip():
            before.pop()
        return "\n".join([*before, *lines[block.end :]])

    _rewrite(root, change, lambda labels: [each for each in labels if each.name != name])


def _rewrite(
    root: Path,
    change: Callable[[str], str],
    expected: Callable[[list[LabelConfig]], list[LabelConfig]],
) -> None:
    path = root / FILE_NAME
    with _WRITING:
        project = Project.load(root)
        before = path.read_text(encoding="utf-8")
        after = change(before)
        meant = project.model_copy(update={"labels": expected(project.labels)})
        if Project.parse(after, root) != meant:
            raise ProjectInvalid(
                f"{FILE_NAME} is written in a way that cannot be changed here: change it by hand"
            )
        _write_whole(path, after)


def _write_whole(path: Path, text: str) -> None:
    """Put `text` in the file's place, whole or not at all, with the file's own permissions."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(path.stat().st_mode)
    Path(file.name).replace(path)


def _changed(label: LabelConfig, changes: Mapping[str, Value]) -> LabelConfig:
    fields = label.model_dump(exclude_unset=True) | dict(changes)
    return LabelConfig.model_validate({key: value for key, value in fields.items() if value})


def _blocks(lines: Sequence[str]) -> list[_Block]:
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    found = []
    for start, following in zip(headers, [*headers[1:], len(lines)], strict=True):
        if not _LABELS.match(lines[start]):
            continue
        end = following
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
        table = tomllib.loads("\n".join(lines[start:end]))
        found.append(_Block(name=table["labels"][0]["name"], start=start, end=end))
    if not found:
        raise ProjectInvalid(f"{FILE_NAME} has no [[labels]] tables to change: change it by hand")
    return found


def _block(lines: Sequence[str], name: str) -> _Block:
    for block in _blocks(lines):
        if block.name == name:
            return block
    raise ProjectInvalid(f"{FILE_NAME} has no label {name!r}")


def _with_field(lines: list[str], key: str, value: Value) -> list[str]:
    """Return a table's lines with the field set, in its place or behind the name; or left out."""
    written = [f"{key} = {_written(value)}"] if value else []
    span = _field(lines, key)
    if span is None:
        name = _field(lines, "name")
        at = name[1] if name is not None else 1
        return [*lines[:at], *written, *lines[at:]]
    start, end = span
    comment = _comment(lines[start]) if end == start + 1 else ""
    return [*lines[:start], *(f"{each}{comment}" for each in written), *lines[end:]]


def _field(lines: Sequence[str], key: str) -> tuple[int, int] | None:
    """Return the lines from `start` to `end` on which the field stands."""
    for start, line in enumerate(lines):
        if not re.match(rf"\s*{key}\s*=", line):
            continue
        for end in range(start + 1, len(lines) + 1):
            if _reads("\n".join(lines[start:end])):
                return start, end
    return None


def _comment(line: str) -> str:
    """Return the comment behind the value, with the space before it; "" if there is none."""
    for at in (number for number, character in enumerate(line) if character == "#"):
        if _reads(line[:at]):
            return line[len(line[:at].rstrip()) :]
    return ""


def _reads(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _written(value: Value) -> str:
    # Of JSON's escapes TOML's basic strings know all that json writes; DEL alone it lets pass.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
