"""What the first page says: a count at every stage, and what waits for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from urllib.parse import urlencode

from flows.studio.view import LabelCount, View

NEEDED_ANSWERS = 3
"""Training needs this many yes and this many no of every label."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the line."""

    name: str
    count: int | str
    note: str = ""
    href: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """Something that only a person can do, and where."""

    said: str
    action: str = ""
    href: str = ""


def stages(view: View, *, version: str | None, predictions: int) -> tuple[Stage, ...]:
    """Return the line, from links to predictions."""
    duplicates = len(view.pictures) - len(view.kept)
    waiting = len(view.kept) - view.reviewed
    return (
        Stage(name="links seen", count=len(view.links)),
        Stage(name="rejected", count=len(view.rejected), href="/rejected"),
        Stage(name="kept pictures", count=len(view.kept), href="/images"),
        Stage(name="duplicates", count=duplicates, href="/images?show=duplicates"),
        Stage(name="embedded", count=view.embedded),
        Stage(name="pre-labelled", count=view.prelabelled, href="/images?sort=highest"),
        Stage(
            name="reviewed",
            count=view.reviewed,
            note=f"{waiting:,} not yet" if waiting else "",
            href="/label",
        ),
        Stage(name="in production", count=version[:8] if version else "none", href="/model"),
        Stage(name="predictions", count=predictions),
    )


def todo(view: View, labels: Sequence[LabelCount], *, version: str | None) -> tuple[Todo, ...]:
    """Return what needs a person now, the most pressing first."""
    if not view.pictures:
        return (Todo(said="There are no pictures yet: run `cratedig crawl` or `cratedig import`."),)
    found = []
    for each in labels:
        short = [
            f"{NEEDED_ANSWERS - count} more {answer}"
            for answer, count in (("yes", each.yes), ("no", each.no))
            if count < NEEDED_ANSWERS
        ]
        href = f"/label?{urlencode({'label': each.label})}"
        if short and each.waiting:
            said = f"{each.label} needs {' and '.join(short)} before a model can learn it."
            found.append(Todo(said=said, action="Label", href=href))
        elif each.waiting:
            are = "picture waits" if each.waiting == 1 else "pictures wait"
            said = f"{each.waiting:,} {are} for a decision about {each.label}"
            said += f", {each.uncertain:,} of them uncertain." if each.uncertain else "."
            found.append(Todo(said=said, action="Label", href=href))
    if not view.prelabelled:
        found.append(Todo(said="No picture is pre-labelled yet: run `cratedig label`."))
    elif version is None and all(min(each.yes, each.no) >= NEEDED_ANSWERS for each in labels):
        found.append(Todo(said="There is enough to learn from: run `cratedig train`."))
    return tuple(found)
