"""A table's rows written anew under another schema, as one commit on the version that was read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import lance
import pyarrow as pa

from flows.progress import Progress

BATCH_ROWS = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """How a table changes its schema."""

    schema: pa.Schema
    """The new one, with its metadata."""
    rows: Callable[[pa.RecordBatch], pa.RecordBatch] | None
    """Makes rows of the new schema out of rows of the old; None where only metadata changes."""


def apply(
    dataset: lance.LanceDataset,
    change: SchemaChange,
    *,
    storage_options: Mapping[str, str],
    progress: Progress,
) -> None:
    """Commit `change` to the dataset; Lance refuses it when anybody has committed since it was opened.

    Where rows change, memory stays flat, and the dataset's indices are gone.
    """
    if change.rows is None:
        texts = {key.decode(): value.decode() for key, value in change.schema.metadata.items()}
        dataset.update_schema_metadata(texts)
        return
    total = dataset.count_rows()
    fragments = []
    if total:
        fragments = lance.fragment.write_fragments(
            pa.RecordBatchReader.from_batches(change.schema, _changed(dataset, change, progress)),
            dataset.uri,
            schema=change.schema,
            mode="overwrite",
            storage_options=dict(storage_options),
        )
    lance.LanceDataset.commit(
        dataset.uri,
        lance.LanceOperation.Overwrite(change.schema, fragments),
        read_version=dataset.version,
        storage_options=dict(storage_options),
        # With retries it would take away what others have added since.
        max_retries=0,
    )


def _changed(
    dataset: lance.LanceDataset, change: SchemaChange, progress: Progress
) -> Iterator[pa.RecordBatch]:
    total, done = dataset.count_rows(), 0
    for batch in dataset.to_batches(batch_size=BATCH_ROWS):
        changed = batch if change.rows is None else change.rows(batch)
        columns = [changed.column(name) for name in change.schema.names]
        yield pa.RecordBatch.from_arrays(columns, schema=change.schema)
        done += batch.num_rows
        progress(done, total)
