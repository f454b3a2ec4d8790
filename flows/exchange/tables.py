"""Tables: a row a picture as CSV or Parquet, or a row a decision as CSV, which `review` reads back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows.exchange.dataset import Dataset
from flows.exchange.pictures import Picture

_BATCH_ROWS = 10_000
_TIME = pa.timestamp("us", tz="UTC")


def write_pictures(path: Path, pictures: Iterable[Picture], dataset: Dataset) -> None:
    """Write one row a picture to a `.csv` or `.parquet` file.

    Columns: sha256, url, page_url, width, height, shard, offset, size; and for each label
    `<label>_decision` (yes, no, unsure or empty), `<label>_who` and `<label>_at` (whose last word it
    is), `<label>_prelabel` (score) and, once a model is in production, `<label>_score` and
    `<label>_answer`.
    """
    schema = _schema(dataset.labels)
    kind = pa.csv.CSVWriter if path.suffix == ".csv" else pa.parquet.ParquetWriter
    rows = (_row(picture, dataset.labels) for picture in pictures)
    with kind(path, schema) as writer:
        while batch := list(islice(rows, _BATCH_ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _row(picture: Picture, labels: Iterable[str]) -> dict[str, object]:
    row: dict[str, object] = {
        "sha256": picture.sha256,
        "url": picture.found.url,
        "page_url": picture.found.page_url,
        "width": picture.width,
        "height": picture.height,
        "shard": picture.place.shard,
        "offset": picture.place.offset,
        "size": picture.place.size,
    }
    latest = {decision.label: decision for decision in picture.decisions}
    for label in labels:
        decision, prediction = latest.get(label), picture.predictions.get(label)
        if decision is not None:
            row[f"{label}_decision"] = decision.answer
            row[f"{label}_who"] = decision.who
            row[f"{label}_at"] = decision.at
        row[f"{label}_prelabel"] = picture.prelabels.get(label)
        if prediction is not None:
            row[f"{label}_score"], row[f"{label}_answer"] = prediction
    return row


def _schema(labels: Iterable[str]) -> pa.Schema:
    fields = [
        ("sha256", pa.string()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
    for label in labels:
        fields += [
            (f"{label}_decision", pa.string()),
            (f"{label}_who", pa.string()),
            (f"{label}_at", _TIME),
            (f"{label}_prelabel", pa.float32()),
            (f"{label}_score", pa.float32()),
            (f"{label}_answer", pa.bool_()),
        ]
    return pa.schema(fields)


def write_decisions(path: Path, pictures: Iterable[Picture]) -> None:
    """Write one row for each person's last word on a label: who said what, when."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label", "answer", "who", "at", "score", "note", "url"))
        for picture in pictures:
            writer.writerows(_decisions(picture))


def _decisions(picture: Picture) -> Iterator[tuple[object, ...]]:
    for row in picture.decisions:
        yield (
            row.sha256,
            row.label,
            row.answer,
            row.who,
            row.at.isoformat(),
            row.score,
            row.note,
            picture.found.url,
        )
