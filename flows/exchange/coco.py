"""COCO at the level of whole pictures: `labels.json`, with the pictures in `data/`.

The format is cocodataset.org/#format-data. A yes is an annotation whose box is the whole picture. A
no is in the picture's `neg_category_ids`, as in LVIS (lvisdataset.org/dataset): a label that is in
neither was not decided. Pictures carry licence, address and page, and under `decisions` who said
what, when.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.errors import Permanent
from flows.exchange.dataset import Dataset
from flows.exchange.json_stream import Entry, ListWriter, entries
from flows.exchange.pictures import Picture
from flows.exchange.sayings import names_of, read_sayings, sayings, text_at
from flows.private_database import PrivateDatabase
from flows.review import Answered
from flows.rows import Answer

LABELS = "labels.json"

_TABLES = """
CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE images (id INTEGER PRIMARY KEY, entry TEXT, names TEXT, decisions TEXT, negative TEXT);
CREATE TABLE annotations (image INTEGER, category INTEGER, entry TEXT);
"""


def write(folder: Path, pictures: Iterable[Picture], dataset: Dataset) -> None:
    """Write all pictures and their labels as one file; what is known of licences is in `licenses`."""
    category_of = {label: number for number, label in enumerate(dataset.labels, 1)}
    licences: dict[str, int] = {}
    annotated = 0
    with (
        (folder / LABELS).open("w", encoding="utf-8") as file,
        # Pictures and annotations are two lists of one file: the second waits in another.
        tempfile.TemporaryFile("w+", encoding="utf-8") as waiting,
    ):
        file.write('{"info":')
        file.write(json.dumps({"description": dataset.project, "contributor": "cratedig"}))
        file.write(',\n"images":')
        with ListWriter(file) as images, ListWriter(waiting) as annotations:
            for number, picture in enumerate(pictures, 1):
                answers = picture.answers
                licence = picture.about.get("license", "")
                image: dict[str, object] = {
                    "id": number,
                    "file_name": picture.name,
                    "width": picture.width,
                    "height": picture.height,
                    "coco_url": picture.found.url,
                    "page_url": picture.found.page_url,
                    "date_captured": picture.found.fetched_at.isoformat(),
                    "sha256": picture.sha256,
                    "neg_category_ids": [
                        category_of[label] for label, answer in answers.items() if answer == "no"
                    ],
                    "decisions": sayings(picture),
                }
                if licence:
                    image["license"] = licences.setdefault(licence, len(licences) + 1)
                if dataset.pictures_at is not None:
                    image["coco_url"], image["source_url"] = (
                        dataset.address(picture),
                        picture.found.url,
                    )
                images.add(image)
                for label in (label for label, answer in answers.items() if answer == "yes"):
                    annotated += 1
                    annotations.add(
                        {
                            "id": annotated,
                            "image_id": number,
                            "category_id": category_of[label],
                            "bbox": [0, 0, picture.width, picture.height],
                            "area": picture.width * picture.height,
                            "segmentation": [],
                            "iscrowd": 0,
                        }
                    )
        file.write(',\n"annotations":')
        waiting.seek(0)
        while part := waiting.read(2**20):
            file.write(part)
        categories = [{"id": number, "name": label} for label, number in category_of.items()]
        named = [{"id": number, "name": each, "url": each} for each, number in licences.items()]
        file.write(f',\n"categories":{json.dumps(categories, ensure_ascii=False)}')
        file.write(f',\n"licenses":{json.dumps(named, ensure_ascii=False)}}}\n')


def read(path: Path, labels: Sequence[str], *, complete: bool = False) -> Iterator[Answered]:
    """Yield what the file says: the `decisions` of its pictures, and what it says beyond those.

    An annotation is a yes, a `neg_category_ids` a no; with `complete` every category of the file
    that is one of `labels` and that a picture has no annotation of is a no, too. Nothing is said
    where that is what the picture's own `decisions` come to.
    """
    # A private file, so that a million pictures cost no memory.
    with PrivateDatabase() as private:
        database = private.database
        database.executescript(_TABLES)
        database.execute("BEGIN")
        for entry in entries(path):
            if entry.section == "images":
                _put_image(database, entry)
            elif entry.section == "annotations":
                _put_annotation(database, entry)
            elif entry.section == "categories":
                category = entry.object()
                _insert(
                    database,
                    entry,
                    "categories",
                    _id(entry, category, "id"),
                    text_at(entry, category, "name"),
                )
        database.execute("COMMIT")
        name_of = dict(database.execute("SELECT id, name FROM categories"))
        if not name_of:
            raise Permanent(f"{path.name} has no categories: it is no COCO file")
        _check(database, path.name)
        database.execute("CREATE INDEX annotations_of ON annotations (image, category)")
        for number, place, names, decisions, negative in database.execute(
            "SELECT id, entry, names, decisions, negative FROM images ORDER BY id"
        ):
            positive = [
                name_of[category]
                for (category,) in database.execute(
                    "SELECT DISTINCT category FROM annotations WHERE image = ?", (number,)
                )
            ]
            entry = Entry(path.name, "images", place, None)
            images = tuple(json.loads(names))
            said = list(read_sayings(entry, json.loads(decisions), images))
            yield from said
            absent = [_category(entry, name_of, each) for each in json.loads(negative)]
            if complete:
                absent += [label for label in labels if label in name_of.values()]
            answers: dict[str, Answer] = dict.fromkeys(absent, "no")
            answers |= dict.fromkeys(positive, "yes")
            yield from beyond(said, answers, images)


def beyond(
    said: Sequence[Answered], answers: dict[str, Answer], images: tuple[str, ...]
) -> Iterator[Answered]:
    """Yield those answers of a picture that are not what its decisions come to already.

    They were changed in the other tool, which does not say by whom or when.
    """
    stood = {each.label: each.answer for each in said}
    for label, answer in answers.items():
        if stood.get(label) != answer:
            yield Answered(image=images[0], also=images[1:], label=label, answer=answer)


def _put_image(database: sqlite3.Connection, entry: Entry) -> None:
    image = entry.object()
    _insert(
        database,
        entry,
        "images",
        _id(entry, image, "id"),
        entry.key,
        json.dumps(names_of(entry, image, ("file_name", "coco_url"))),
        json.dumps(image.get("decisions") or []),
        json.dumps(image.get("neg_category_ids") or []),
    )


def _put_annotation(database: sqlite3.Connection, entry: Entry) -> None:
    annotation = entry.object()
    image, category = (_id(entry, annotation, key) for key in ("image_id", "category_id"))
    _insert(database, entry, "annotations", image, category, entry.name)


def _insert(database: sqlite3.Connection, entry: Entry, table: str, *values: object) -> None:
    marks = ", ".join("?" * len(values))
    try:
        database.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 - no value in it
    except sqlite3.IntegrityError:
        raise entry.wrong(f"id {values[0]} is there twice") from None


def _id(entry: Entry, value: dict[str, Any], key: str) -> int:
    found = value.get(key)
    if not isinstance(found, int) or not -(2**63) <= found < 2**63:
        raise entry.wrong(f"{key} {found!r} is no whole number")
    return found


def _check(database: sqlite3.Connection, file: str) -> None:
    """Raise Permanent for an annotation of a picture or category that the file does not have."""
    for column, table in (("image", "images"), ("category", "categories")):
        for value, place in database.execute(
            f"SELECT {column}, entry FROM annotations "  # noqa: S608 - no value in it
            f"WHERE {column} NOT IN (SELECT id FROM {table}) LIMIT 1"
        ):
            raise Permanent(f"{place}: {column}_id {value} is not among the {table} of {file}")


def _category(entry: Entry, name_of: dict[int, str], number: object) -> str:
    if not isinstance(number, int) or number not in name_of:
        raise entry.wrong(f"neg_category_ids names {number!r}, which is not among categories")
    return name_of[number]
