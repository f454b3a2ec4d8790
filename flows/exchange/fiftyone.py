"""FiftyOne: a dataset folder for `fo.types.FiftyOneDataset`, and one of its exports back.

    metadata.json    name, classes, and what is known of the dataset
    samples.json     a sample a picture
    data/            the pictures

Labels are `Classifications`: `ground_truth` holds every yes, `absent` every no, `unsure` the rest that
was decided; `prelabels` and `predictions` carry scores as confidences; `decisions` says who decided
and when. The files are of FiftyOne's form without a version, which every version reads: the one with
a version is a dump of its database. Coming back both are read, and labels.json of
`fo.types.FiftyOneImageClassificationDataset`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flows.exchange.coco import beyond
from flows.exchange.dataset import Dataset
from flows.exchange.json_stream import Entry, ListWriter, entries
from flows.exchange.pictures import Picture
from flows.exchange.sayings import names_of, read_sayings, sayings, text_at
from flows.review import Answered
from flows.rows import Answer

METADATA, SAMPLES, LABELS = "metadata.json", "samples.json", "labels.json"

FIELDS: Mapping[str, Answer] = {"ground_truth": "yes", "absent": "no", "unsure": "unsure"}
"""The field of a sample that holds the labels with an answer."""


def write(folder: Path, pictures: Iterable[Picture], dataset: Dataset) -> None:
    """Write samples and metadata; pictures that are not copied are named as if they were."""
    metadata = {
        "name": dataset.project,
        "media_type": "image",
        "info": {"made_by": "cratedig", "model": dataset.version or ""},
        "default_classes": list(dataset.labels),
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    with (folder / SAMPLES).open("w", encoding="utf-8") as file:
        file.write('{"samples":')
        with ListWriter(file) as samples:
            for picture in pictures:
                samples.add(_sample(picture, dataset))
        file.write("}\n")


def _sample(picture: Picture, dataset: Dataset) -> dict[str, object]:
    answers = picture.answers
    sample: dict[str, object] = {
        "filepath": dataset.address(picture),
        "tags": [],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": picture.place.size,
            "mime_type": f"image/{picture.format}",
            "width": picture.width,
            "height": picture.height,
        },
        "sha256": picture.sha256,
        "url": picture.found.url,
        "page_url": picture.found.page_url,
        "license": picture.about.get("license", ""),
        "decisions": sayings(picture),
    }
    for field, answer in FIELDS.items():
        # None, not an empty list: nothing was decided, which is not the same as nothing to be seen.
        sample[field] = (
            _classifications((label, None) for label, given in answers.items() if given == answer)
            if answers
            else None
        )
    sample["prelabels"] = _classifications(picture.prelabels.items()) if picture.prelabels else None
    predicted = ((label, score) for label, (score, _) in picture.predictions.items())
    sample["predictions"] = _classifications(predicted) if picture.predictions else None
    return sample


def _classifications(labels: Iterable[tuple[str, float | None]]) -> dict[str, object]:
    return {
        "_cls": "Classifications",
        "classifications": [
            {"_cls": "Classification", "label": label, "confidence": confidence}
            for label, confidence in labels
        ],
    }


def read(path: Path, labels: Sequence[str], *, complete: bool = False) -> Iterator[Answered]:
    """Yield what a samples.json or a labels.json says.

    Of a sample first the decisions that it left with, then what its fields say beyond those. In a
    labels.json the labels of a picture are a yes. With `complete` what is not listed is a no.
    """
    if path.name == LABELS:
        yield from _read_labels(path, labels, complete)
        return
    for entry in entries(path):
        if entry.section != "samples":
            continue
        sample = entry.object()
        images = names_of(entry, sample, ("filepath",))
        said = list(read_sayings(entry, sample.get("decisions") or [], images))
        yield from said
        answers: dict[str, Answer] = {}
        if complete and sample.get("ground_truth") is not None:
            answers = dict.fromkeys(labels, "no")
        for field, answer in FIELDS.items():
            answers |= dict.fromkeys(_labels(entry, sample.get(field)), answer)
        yield from beyond(said, answers, images)


def _labels(entry: Entry, value: object) -> list[str]:
    """Return the labels of a Classifications, a Classification, or of nothing."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise entry.wrong(f"expected Classifications, not {json.dumps(value)[:60]}")
    each = value.get("classifications", [value])
    return [text_at(entry, one, "label") for one in each if isinstance(one, dict)]


def _read_labels(path: Path, labels: Sequence[str], complete: bool) -> Iterator[Answered]:
    classes = [
        str(entry.value) for entry in entries(path) if entry.section == "classes" and entry.value
    ]
    for entry in entries(path):
        if entry.section != "labels" or entry.value is None:
            continue
        targets = entry.value if isinstance(entry.value, list) else [entry.value]
        named = [_class(entry, classes, target) for target in targets]
        answers: dict[str, Answer] = dict.fromkeys(labels, "no") if complete else {}
        answers |= dict.fromkeys(named, "yes")
        yield from beyond((), answers, (str(entry.key),))


def _class(entry: Entry, classes: Sequence[str], target: object) -> str:
    """Return the label that a target names, by itself or by its place among the classes."""
    if isinstance(target, dict):
        target = target.get("label")
    if isinstance(target, int) and 0 <= target < len(classes):
        return classes[target]
    if not isinstance(target, str):
        raise entry.wrong(f"{target!r} is no label and not the place of one among classes")
    return target
