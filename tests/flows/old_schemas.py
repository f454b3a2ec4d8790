"""The tables as earlier versions of cratedig made them, and buckets that hold such.

The schemas are written down as they were, not derived from today's: schema 1 of 5ab9fe8, schema 2
of 893936c.
"""

from __future__ import annotations

from typing import Any

import lance
import pyarrow as pa

from flows.objects import ObjectStore
from flows.rows import SCHEMA_VERSION_KEY
from flows.tables import bypass_proxies
from tests.flows.catalog_rows import START, sha

_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
_TIME = pa.timestamp("us", tz="UTC")


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


_PLACE_1 = [
    ("source", pa.string()),
    ("url", pa.string()),
    ("page_url", pa.string()),
    ("found_by", pa.string()),
    ("alt", pa.string()),
    ("page_title", pa.string()),
    ("fetched_at", _TIME),
    ("run_id", pa.string()),
]
_PLACE_2 = [*_PLACE_1[:6], ("about", pa.string()), *_PLACE_1[6:]]


def _images(place: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(
        [
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
            ("thumbnail", pa.binary()),
            ("provenance", pa.list_(pa.struct(place))),
            ("consent_allowed", pa.bool_()),
            ("consent", pa.string()),
            ("duplicate_of", pa.string()),
            ("duplicate_how", pa.string()),
            ("added_at", _TIME),
        ]
    )


LINKS = pa.schema(
    [
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
    ]
)
PRELABELS = pa.schema(
    [
        _key("sha256"),
        _key("label"),
        ("score", pa.float32()),
        ("taxonomy_id", pa.string()),
        ("encoder_id", pa.string()),
    ]
)
DECISIONS = pa.schema(
    [
        ("sha256", pa.string()),
        ("label", pa.string()),
        ("answer", pa.string()),
        ("who", pa.string()),
        ("at", _TIME),
        ("score", pa.float32()),
        ("note", pa.string()),
    ]
)
EMBEDDINGS = pa.schema([_key("sha256"), ("vector", pa.list_(pa.float16(), 4))])

IMAGES = {1: _images(_PLACE_1), 2: _images(_PLACE_2)}


def image_record(version: int, number: int, *, places: int = 1) -> dict[str, Any]:
    """Return the row of one picture as that schema version kept it."""
    about = {"about": f'{{"caption": "{number}"}}'} if version == 2 else {}
    place = {
        "source": "shop",
        "page_url": "https://example.org/",
        "found_by": "img[src]",
        "alt": f"record {number}",
        "page_title": "Records",
        **about,
        "fetched_at": START,
        "run_id": "run",
    }
    return {
        "sha256": sha(number),
        "shard": "shards/run/1.tar",
        "offset": 512 * number,
        "size": 1000,
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "pixel_sha256": sha(-number),
        "phash": 2**64 - 1 - number,
        "dhash": 2**63 + number,
        "hashable": True,
        "tiny": bytes(384),
        "thumbnail": b"\xff\xd8 thumbnail",
        "provenance": [
            {**place, "url": f"https://example.org/{number}/{at}.jpg"} for at in range(places)
        ],
        "consent_allowed": True,
        "consent": "{}",
        "duplicate_of": None,
        "duplicate_how": None,
        "added_at": START,
    }


def make_table(
    store: ObjectStore, name: str, schema: pa.Schema, version: int, rows: list[dict[str, Any]]
) -> None:
    """Make a table as that version of cratedig did: empty first, then a commit of rows."""
    bypass_proxies(store)
    stamped = schema.with_metadata({SCHEMA_VERSION_KEY: str(version).encode()})
    dataset = lance.LanceDataset.commit(
        store.uri(f"tables/{name}.lance"),
        lance.LanceOperation.Overwrite(stamped, []),
        read_version=0,
        storage_options=store.lance_options(),
        max_retries=0,
    )
    if rows:
        dataset.insert(pa.Table.from_pylist(rows, schema=stamped))


def make_bucket(store: ObjectStore, version: int, *, images: int = 5) -> None:
    """Make the tables of a small project of that schema version; picture N was found N times."""
    records = [image_record(version, number, places=number) for number in range(images)]
    make_table(store, "images", IMAGES[version], version, records)
    make_table(
        store,
        "links",
        LINKS,
        version,
        [
            {
                "source": "shop",
                "url": "https://example.org/1/0.jpg",
                "page_url": "https://example.org/",
                "found_by": "img[src]",
                "outcome": "kept",
                "reason": "",
                "detail": "",
                "transient": False,
                "sha256": sha(1),
                "etag": "",
                "last_modified": "",
                "run_id": "run",
                "seen_at": START,
            }
        ],
    )
    decision = {"sha256": sha(1), "label": "record", "answer": "yes", "who": "ada", "at": START}
    make_table(store, "decisions", DECISIONS, version, [{**decision, "score": 0.5, "note": ""}])
    make_table(
        store,
        "prelabels",
        PRELABELS,
        version,
        [
            {
                "sha256": sha(1),
                "label": "record",
                "score": 0.25,
                "taxonomy_id": "t",
                "encoder_id": "tiny",
            }
        ],
    )
    make_table(
        store,
        "embeddings/tiny",
        EMBEDDINGS,
        version,
        [{"sha256": sha(number), "vector": [1, 0, 0, number]} for number in range(images)],
    )
