"""Label Studio: a task a picture, and the annotations that people complete there back.

    tasks.json    tasks with predictions, to be imported into a project
    config.xml    the labelling interface of that project: yes, no or unsure for every label

Tasks follow labelstud.io/guide/task_format, predictions labelstud.io/guide/predictions: one each for
the pre-labels, the model in production and the decisions so far. Decisions are no annotations there:
Label Studio refuses those of people whom it has no account for, and would else call them the
importer's. They travel in the task's data, which comes back as it was.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from flows.errors import Permanent
from flows.exchange.dataset import Dataset
from flows.exchange.json_stream import Entry, ListWriter, entries
from flows.exchange.pictures import Picture
from flows.exchange.sayings import answer_of, names_of, read_sayings, sayings, time_of
from flows.review import Answered
from flows.rows import Answer

TASKS, CONFIG = "tasks.json", "config.xml"

_PICTURE = "_picture"
"""The name of the picture's tag: no label has an underscore in its name."""


def write(folder: Path, pictures: Iterable[Picture], dataset: Dataset) -> None:
    """Write tasks and configuration. Raises Permanent where Label Studio would not find the pictures."""
    if dataset.pictures_at is None:
        raise Permanent(
            "Label Studio opens pictures by address alone: give --pictures-at, such as "
            "s3://bucket/prefix (with --pictures they are put there)"
        )
    (folder / CONFIG).write_text(_configuration(dataset.labels), encoding="utf-8")
    with (folder / TASKS).open("w", encoding="utf-8") as file, ListWriter(file) as tasks:
        for picture in pictures:
            tasks.add(
                {
                    "data": {
                        "image": dataset.address(picture),
                        "sha256": picture.sha256,
                        "url": picture.found.url,
                        "page_url": picture.found.page_url,
                        "decisions": sayings(picture),
                    },
                    "predictions": list(_predictions(picture, dataset.version)),
                }
            )


def _configuration(labels: Sequence[str]) -> str:
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=_PICTURE, value="$image", zoom="true")
    for label in labels:
        ET.SubElement(view, "Header", value=label, size="5")
        choices = ET.SubElement(
            view, "Choices", name=label, toName=_PICTURE, choice="single", showInline="true"
        )
        for answer in get_args(Answer):
            ET.SubElement(choices, "Choice", value=answer)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _predictions(picture: Picture, version: str | None) -> Iterator[dict[str, object]]:
    if picture.decisions:
        yield _prediction("decisions", {label: (a, None) for label, a in picture.answers.items()})
    if picture.predictions:
        said: dict[str, tuple[Answer, float | None]] = {
            label: ("yes" if answer else "no", score)
            for label, (score, answer) in picture.predictions.items()
        }
        yield _prediction(version or "", said)
    if picture.prelabels:
        said = {
            label: ("yes" if score >= 0.5 else "no", score)
            for label, score in picture.prelabels.items()
        }
        yield _prediction("pre-labels", said)


def _prediction(
    model_version: str, said: dict[str, tuple[Answer, float | None]]
) -> dict[str, object]:
    """Return a prediction; its score is that of the label that is least sure, from 0.5 to 1."""
    result = [
        {
            "from_name": label,
            "to_name": _PICTURE,
            "type": "choices",
            "value": {"choices": [answer]},
            **({} if score is None else {"score": score}),
        }
        for label, (answer, score) in said.items()
    ]
    sure = [max(score, 1 - score) for _, score in said.values() if score is not None]
    return {
        "model_version": model_version,
        "result": result,
        **({"score": min(sure)} if sure else {}),
    }


def read(path: Path, labels: Sequence[str], *, complete: bool = False) -> Iterator[Answered]:
    """Yield what the tasks of a JSON export say: the decisions that they left with, and annotations.

    Annotations by `config.xml` answer label by label. Those of a configuration of one's own name
    labels in their choices, which are a yes; with `complete` the labels not chosen are a no.
    Cancelled (skipped) annotations say nothing.
    """
    for entry in entries(path):
        if entry.section:
            raise Permanent(f"{path.name} is no list of tasks: export from Label Studio as JSON")
        task = entry.object()
        data = task.get("data")
        if not isinstance(data, dict):
            raise entry.wrong("it has no data: export from Label Studio as JSON, not as JSON-MIN")
        images = names_of(entry, data, ("image", "url"))
        yield from read_sayings(entry, data.get("decisions") or [], images)
        annotations = task.get("annotations") or []
        if not isinstance(annotations, list):
            raise entry.wrong("annotations is not a list")
        for annotation in annotations:
            if not isinstance(annotation, dict):
                raise entry.wrong(f"an annotation is {annotation!r} instead of an object")
            if annotation.get("was_cancelled"):
                continue
            who = _annotator(annotation.get("completed_by"))
            at = time_of(entry, annotation.get("updated_at") or annotation.get("created_at"))
            for label, answer in _chosen(entry, annotation, labels, complete):
                yield Answered(
                    image=images[0], also=images[1:], label=label, answer=answer, who=who, at=at
                )


def _annotator(completed_by: object) -> str:
    """Return who completed an annotation: an e-mail address, or an account's number."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if isinstance(completed_by, str):
        return completed_by
    return "label-studio" if completed_by is None else f"label-studio-{completed_by}"


def _chosen(
    entry: Entry, annotation: dict[str, Any], labels: Sequence[str], complete: bool
) -> Iterator[tuple[str, Answer]]:
    named: list[str] = []
    by_label = False
    for item in annotation.get("result") or []:
        value = item.get("value") if isinstance(item, dict) else None
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list):
            continue  # a box or a text, of somebody else's configuration
        if item.get("from_name") in labels:
            by_label = True
            for choice in choices:
                yield item["from_name"], answer_of(entry, choice)
        else:
            named += map(str, choices)
    yield from ((label, "yes") for label in named)
    if complete and not by_label:
        yield from ((label, "no") for label in labels if label not in named)
