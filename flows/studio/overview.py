"""What the first page says: a count at every stage, and what waits for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

import numpy as np

from flows.prefect_api import FlowRun, PrefectAway, PrefectServer
from flows.studio.view import LabelCount, View

NEEDED_ANSWERS = 3
"""Training needs this many yes and this many no of every label."""

GROWTH_STEPS = 60


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How many kept pictures there were, from the first to the last that came."""

    first: datetime
    last: datetime
    total: int
    points: str
    """Of an SVG polyline in a box of 100 x 32, its y downwards."""


def growth(view: View) -> Growth | None:
    """Return the curve of the kept pictures over time, or None while there is none to draw."""
    times_us = np.sort(view.pictures.added_us[view.pictures.is_kept])
    if len(times_us) < 2 or times_us[0] == times_us[-1]:
        return None
    steps_us = np.linspace(times_us[0], times_us[-1], GROWTH_STEPS + 1)
    shares = np.searchsorted(times_us, steps_us, side="right") / len(times_us)
    points = (
        f"{100 * step / GROWTH_STEPS:.1f},{31 - 30 * share:.2f}"
        for step, share in enumerate(shares)
    )
    return Growth(
        first=view.kept[-1].added_at,
        last=view.kept[0].added_at,
        total=len(times_us),
        points=" ".join(points),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LastRuns:
    """What ran last, by Prefect's word, and what is the matter when there is no such word."""

    runs: Sequence[FlowRun] = ()
    server: PrefectServer | None = None
    trouble: str = ""


def last_runs(project: str, server: PrefectServer | None) -> LastRuns:
    """Ask the Prefect server, if there is one, for the project's last runs."""
    if server is None:
        return LastRuns()
    try:
        return LastRuns(runs=server.latest_runs(project), server=server)
    except PrefectAway as error:
        return LastRuns(server=server, trouble=str(error))


def stages(view: View, *, version: str | None, predictions: int) -> tuple[Stage, ...]:
    """Return the line, from links to predictions."""
    duplicates = len(view.pictures) - len(view.kept)
    waiting = len(view.kept) - view.reviewed
    return (
        Stage(name="links seen", count=len(view.links)),
        Stage(name="rejected", count=len(view.rejected), href="/rejected"),
        Stage(name="kept pictures", count=len(view.kept), href="/images"),
        Stage(name="duplicates", count=duplicates, href="/duplicates"),
        Stage(name="embedded", count=view.embedded),
        Stage(name="pre-labelled", count=view.prelabelled, href="/images?order=highest"),
        Stage(
            name="reviewed",
            count=view.reviewed,
            note=f"{waiting:,} not yet" if waiting else "",
            href="/label",
        ),
        Stage(name="in production", count=version[:8] if version else "none", href="/model"),
        Stage(name="predictions", count=predictions),
    )


def todo(
    view: View,
    labels: Sequence[LabelCount],
    *,
    version: str | None,
    runs: LastRuns,
    drifted: Mapping[str, int],
    suspects: Mapping[str, int],
) -> tuple[Todo, ...]:
    """Return what needs a person now, the most pressing first.

    `drifted` and `suspects` are how many pictures those two queues still have, a label.
    """
    found = []
    for run in runs.runs:
        if run.state == "failed":
            said = f"The run {run.name} failed."
            found.append(Todo(said=said, action="See why", href=run.address))
    if not view.pictures:
        said = "There are no pictures yet: run `cratedig crawl` or `cratedig import`."
        return (*found, Todo(said=said))
    found += _after_training(drifted, suspects)
    for each in labels:
        short = [
            f"{NEEDED_ANSWERS - count} more {answer}"
            for answer, count in (("yes", each.yes), ("no", each.no))
            if count < NEEDED_ANSWERS
        ]
        href = _queue(each.label)
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


def _after_training(drifted: Mapping[str, int], suspects: Mapping[str, int]) -> Iterator[Todo]:
    """Yield what a model has brought up: what it does not know, and answers that it doubts."""
    # The same pictures wait for every label: they are told of once, and begin where most are left.
    label = max(drifted, key=drifted.__getitem__, default="")
    if count := drifted.get(label, 0):
        are = "picture that came lately is" if count == 1 else "pictures that came lately are"
        said = f"{count:,} {are} unlike what the model was trained on (drift)."
        yield Todo(said=said, action="Decide", href=_queue(label, "drift"))
    for label, count in suspects.items():
        if count:
            look = "answer about {} looks" if count == 1 else "answers about {} look"
            said = f"{count:,} {look.format(label)} wrong."
            yield Todo(said=said, action="Look again", href=_queue(label, "suspects"))


def _queue(label: str, order: str = "") -> str:
    query = {"label": label, "order": order} if order else {"label": label}
    return f"/label?{urlencode(query)}"
