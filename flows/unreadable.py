"""Pictures that were collected and cannot be embedded now, each with the reason.

    tables/unreadable.lance    one row an image: the last reason

They are tried again in every run, so that a store that was mended is noticed; a picture that has a
vector by now is unreadable no longer, whatever is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa

from flows.objects import ObjectStore
from flows.rows import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from flows.tables import Table

_SCHEMA = pa.schema(
    [
        pa.field(
            "sha256",
            pa.string(),
            nullable=False,
            metadata={b"lance-schema:unenforced-primary-key": b"true"},
        ),
        ("encoder_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
    ],
    metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRow:
    """One picture, the encoder that was to embed it, and why there are no pixels to embed."""

    sha256: str
    encoder_id: str
    reason: str
    """A `crawler.rejections.Reason`, "missing" (no bytes) or "damaged" (other bytes)."""
    detail: str
    at: datetime


def record_unreadable(store: ObjectStore, rows: Iterable[UnreadableRow]) -> None:
    """Write those rows over what was known of the same pictures."""
    records = [dataclasses.asdict(row) for row in rows]
    if records:
        table = Table(store, "unreadable", _SCHEMA)
        table.upsert(["sha256"], pa.Table.from_pylist(records, schema=_SCHEMA))


def unreadable(store: ObjectStore) -> Iterator[UnreadableRow]:
    """Yield every row; of pictures that can be read by now, too."""
    for record in Table(store, "unreadable", _SCHEMA).records(_SCHEMA.names):
        yield UnreadableRow(**record)
