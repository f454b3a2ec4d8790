"""The dataset as one table, for whatever reads CSV or Parquet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows.errors import Permanent
from flows.predictions import published
from flows.registry import Registry
from flows.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written where."""

    path: str
    pictures: int

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        return f"exported {self.pictures} pictures to {self.path}"


def export(workspace: Workspace, path: Path) -> ExportResult:
    """Write one row a distinct picture to a `.csv` or `.parquet` file, all of it or nothing.

    Columns: sha256, url, page_url, width, height, shard, offset, size; and for each label
    `<label>_decision` (yes, no, unsure or empty), `<label>_prelabel` (score) and, once a model is
    in production, `<label>_score` and `<label>_answer`.
    """
    if path.suffix not in {".csv", ".parquet"}:
        raise Permanent(f"cannot export to {path.name}: give a name ending in .csv or .parquet")
    catalog, labels = workspace.catalog, workspace.project.taxonomy().names
    marked = catalog.duplicates()
    decisions = catalog.latest_decisions()
    prelabels = {(row.sha256, row.label): row.score for row in catalog.prelabels()}
    predictions = _predictions(workspace)
    rows = []
    for image in catalog.images():
        if image.sha256 in marked:
            continue
        first = image.provenance[0]
        row: dict[str, object] = {
            "sha256": image.sha256,
            "url": first.url,
            "page_url": first.page_url,
            "width": image.width,
            "height": image.height,
            "shard": image.shard,
            "offset": image.offset,
            "size": image.size,
        }
        for label in labels:
            subject = (image.sha256, label)
            decision, prediction = decisions.get(subject), predictions.get(subject)
            row[f"{label}_decision"] = decision.answer if decision else None
            row[f"{label}_prelabel"] = prelabels.get(subject)
            row[f"{label}_score"] = prediction[0] if prediction else None
            row[f"{label}_answer"] = prediction[1] if prediction else None
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=_schema(labels))
    unfinished = path.with_name(f".{path.name}.unfinished")
    if path.suffix == ".csv":
        pa.csv.write_csv(table, unfinished)
    else:
        pa.parquet.write_table(table, unfinished)
    unfinished.replace(path)
    return ExportResult(path=str(path), pictures=len(rows))


def _schema(labels: tuple[str, ...]) -> pa.Schema:
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
            (f"{label}_prelabel", pa.float32()),
            (f"{label}_score", pa.float32()),
            (f"{label}_answer", pa.bool_()),
        ]
    return pa.schema(fields)


def _predictions(workspace: Workspace) -> dict[tuple[str, str], tuple[float, bool]]:
    """Return (score, answer) by (sha256, label), of the model in production."""
    version = Registry(workspace.store, workspace.project.name).production()
    if version is None:
        return {}
    return {
        (row["sha256"], row["label"]): (row["score"], row["answer"])
        for table in published(workspace.store, version)
        for row in table.to_pylist()
    }
