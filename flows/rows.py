"""What the catalogue remembers: one frozen type and one Arrow schema a table.

Times are aware and in UTC, to the microsecond. Hashes of pixels are unsigned 64-bit numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import pyarrow as pa

SCHEMA_VERSION = 3
"""Kept in every table's metadata; a table with a higher one is refused."""

SCHEMA_VERSION_KEY = b"cratedig:schema_version"

Answer = Literal["yes", "no", "unsure"]
Outcome = Literal["kept", "rejected"]


def _require_utc(**times: datetime) -> None:
    for name, time in times.items():
        if time.tzinfo is None or time.utcoffset() != UTC.utcoffset(None):
            raise ValueError(f"{name} must be an aware time in UTC, not {time.isoformat()}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """One place that an image was found at; an image has one per (source, url)."""

    source: str
    url: str
    page_url: str
    found_by: str
    alt: str
    page_title: str
    about: str
    """What else was said about it: `crawler.pages.About` as JSON."""
    fetched_at: datetime
    run_id: str

    def __post_init__(self) -> None:
        _require_utc(fetched_at=self.fetched_at)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image, known by the sha256 of its original bytes.

    `shard`, `offset` and `size` say where the bytes lie (key, and a range of bytes in it).
    `pixel_sha256` to `views` are what duplicates are recognised by (`crawler.decode.Fingerprint`); an
    image without `tiny` is nobody's perceptual duplicate. `thumbnail` is a JPEG of at most 256 pixels a side; it is empty in rows that were read without
    it. `consent` is what the site said about use, as JSON. `duplicate_of` is the sha256 of the
    image that is kept in this one's stead.
    """

    sha256: str
    shard: str
    offset: int
    size: int
    format: str
    width: int
    height: int
    pixel_sha256: str
    phash: int
    dhash: int
    hashable: bool
    tiny: bytes = b""
    views: bytes = b""
    thumbnail: bytes
    provenance: tuple[Provenance, ...]
    consent_allowed: bool
    consent: str
    duplicate_of: str | None = None
    duplicate_how: str | None = None
    added_at: datetime

    def __post_init__(self) -> None:
        _require_utc(added_at=self.added_at)
        if (self.duplicate_of is None) != (self.duplicate_how is None):
            raise ValueError("duplicate_of and duplicate_how are given together or not at all")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """What became of one address of one source, when it was last tried."""

    url: str
    source: str
    page_url: str
    found_by: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    transient: bool = False
    sha256: str | None = None
    etag: str = ""
    last_modified: str = ""
    run_id: str
    seen_at: datetime

    def __post_init__(self) -> None:
        _require_utc(seen_at=self.seen_at)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreLabelRow:
    """What CLIP gives one image for one label: a score in [0, 1]."""

    sha256: str
    label: str
    score: float
    taxonomy_id: str
    encoder_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What a person said about one label of one image; never changed, only followed by another.

    `score` is the score that the person was shown, if any.
    """

    sha256: str
    label: str
    answer: Answer
    who: str
    at: datetime
    score: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _require_utc(at=self.at)
        if self.answer not in ("yes", "no", "unsure"):
            raise ValueError(f"answer must be yes, no or unsure, not {self.answer!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """What a person said about two pictures, in the order of their ids: one picture, or two."""

    sha256: str
    other: str
    same: bool
    who: str
    at: datetime

    def __post_init__(self) -> None:
        _require_utc(at=self.at)
        if self.sha256 >= self.other:
            raise ValueError(f"expected two ids in their order, not {self.sha256} and {self.other}")


def merge_images(first: ImageRow, second: ImageRow) -> ImageRow:
    """Return what is known of one image from both rows.

    Commutative, associative and idempotent, so that it matters neither which process adds an image
    first nor how often: provenance is united by (source, url), where the earliest stands, and comes
    earliest first; the bytes of the row that was added first are pointed at; of consents the
    stricter one holds; a duplicate stays one.
    """
    if first.sha256 != second.sha256:
        raise ValueError(f"rows of two images: {first.sha256} and {second.sha256}")
    rows = sorted((first, second), key=_stored_order)
    found: dict[tuple[str, str], Provenance] = {}
    for place in (*first.provenance, *second.provenance):
        key = (place.source, place.url)
        found[key] = min(found.get(key, place), place, key=_found_order)
    strict = min(rows, key=lambda row: (row.consent_allowed, row.consent))
    duplicates = [
        (row.duplicate_of, row.duplicate_how or "") for row in rows if row.duplicate_of is not None
    ]
    duplicate_of, duplicate_how = min(duplicates, default=(None, None))
    return dataclasses.replace(
        rows[0],
        provenance=tuple(sorted(found.values(), key=_found_order)),
        consent_allowed=strict.consent_allowed,
        consent=strict.consent,
        duplicate_of=duplicate_of,
        duplicate_how=duplicate_how,
    )


def combine_images(rows: Iterable[ImageRow]) -> dict[str, ImageRow]:
    """Return one row for each sha256, merged; provenance without repetition."""
    combined: dict[str, ImageRow] = {}
    for row in rows:
        # A row is merged with itself first: a single one gets its provenance in order, too.
        combined[row.sha256] = merge_images(combined.get(row.sha256, row), row)
    return combined


def latest_link(first: LinkRow, second: LinkRow) -> LinkRow:
    """Return the row that was seen last; of two at the same microsecond always the same one."""
    if (first.source, first.url) != (second.source, second.url):
        raise ValueError(f"rows of two links: {first.url} and {second.url}")
    return max(first, second, key=_seen_order)


def _seen_order(row: LinkRow) -> tuple[Any, ...]:
    kept = dataclasses.replace(row, sha256=row.sha256 or "")
    return (row.seen_at, *dataclasses.astuple(kept))


def _found_order(place: Provenance) -> tuple[Any, ...]:
    return (place.fetched_at, *dataclasses.astuple(place))


def _stored_order(row: ImageRow) -> tuple[Any, ...]:
    """Order by what merging takes from one row alone, so that no tie is left to chance."""
    return (
        row.added_at,
        row.shard,
        row.offset,
        row.size,
        row.format,
        row.width,
        row.height,
        row.pixel_sha256,
        row.phash,
        row.dhash,
        row.hashable,
        row.tiny,
        row.views,
        row.thumbnail,
    )


_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
"""Lance lets two writers insert the same new key unless the key is declared like this."""

_TIME = pa.timestamp("us", tz="UTC")


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=_PRIMARY_KEY)


def _schema(*fields: pa.Field | tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(
        [each if isinstance(each, pa.Field) else pa.field(*each) for each in fields],
        metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )


_PROVENANCE = pa.struct(
    [
        ("source", pa.string()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("found_by", pa.string()),
        ("alt", pa.string()),
        ("page_title", pa.string()),
        ("about", pa.string()),
        ("fetched_at", _TIME),
        ("run_id", pa.string()),
    ]
)

IMAGES = _schema(
    _key("sha256"),
    ("shard", pa.string()),
    ("offset", pa.int64()),
    ("size", pa.int64()),
    ("format", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("pixel_sha256", pa.string()),
    ("phash", pa.uint64()),
    ("dhash", pa.uint64()),
    ("hashable", pa.bool_()),
    ("tiny", pa.binary()),
    ("views", pa.binary()),
    ("thumbnail", pa.binary()),
    ("provenance", pa.list_(_PROVENANCE)),
    ("consent_allowed", pa.bool_()),
    ("consent", pa.string()),
    ("duplicate_of", pa.string()),
    ("duplicate_how", pa.string()),
    ("added_at", _TIME),
)

LINKS = _schema(
    _key("source"),
    _key("url"),
    ("page_url", pa.string()),
    ("found_by", pa.string()),
    ("outcome", pa.string()),
    ("reason", pa.string()),
    ("detail", pa.string()),
    ("transient", pa.bool_()),
    ("sha256", pa.string()),
    ("etag", pa.string()),
    ("last_modified", pa.string()),
    ("run_id", pa.string()),
    ("seen_at", _TIME),
)

PRELABELS = _schema(
    _key("sha256"),
    _key("label"),
    ("score", pa.float32()),
    ("taxonomy_id", pa.string()),
    ("encoder_id", pa.string()),
)

DECISIONS = _schema(
    ("sha256", pa.string()),
    ("label", pa.string()),
    ("answer", pa.string()),
    ("who", pa.string()),
    ("at", _TIME),
    ("score", pa.float32()),
    ("note", pa.string()),
)

VERDICTS = _schema(
    ("sha256", pa.string()),
    ("other", pa.string()),
    ("same", pa.bool_()),
    ("who", pa.string()),
    ("at", _TIME),
)


@functools.cache
def embeddings_schema(dim: int) -> pa.Schema:
    """Return the schema of an encoder's vectors: `dim` numbers of 16 bits an image."""
    return _schema(_key("sha256"), ("vector", pa.list_(pa.float16(), dim)))


Row = TypeVar("Row", ImageRow, LinkRow, PreLabelRow, DecisionRow, VerdictRow)


def to_table(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Return `rows` as an Arrow table with exactly the columns of `schema`."""
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)


def from_record(kind: type[Row], record: Mapping[str, Any]) -> Row:
    """Return the row that a record read from its table holds."""
    if kind is ImageRow:
        places = tuple(Provenance(**place) for place in record["provenance"])
        return kind(**{"thumbnail": b"", **record, "provenance": places})
    return kind(**record)
