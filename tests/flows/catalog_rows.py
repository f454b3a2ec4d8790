"""Rows for the catalogue's tests, and what its writing processes do.

Apart from the tests, so that a process that is started for them imports the catalogue and no more.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np

from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.rows import Answer, DecisionRow, ImageRow, LinkRow, Provenance
from flows.settings import Settings

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def sha(number: int) -> str:
    """Return an id made of `number`."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def image(number: int, *, url: str = "https://example.org/1.jpg", minute: int = 0) -> ImageRow:
    """An image found at `url`, `minute` minutes after the start."""
    at = START + timedelta(minutes=minute)
    place = Provenance(
        source="shop",
        url=url,
        page_url="https://example.org/",
        found_by="img[src]",
        alt="a record",
        page_title="Records",
        about="{}",
        fetched_at=at,
        run_id="run",
    )
    return ImageRow(
        sha256=sha(number),
        shard=f"shards/{minute}.tar",
        offset=512,
        size=1000,
        format="jpeg",
        width=640,
        height=480,
        pixel_sha256=sha(-number),
        phash=2**64 - 1 - number,
        dhash=2**63 + number,
        hashable=True,
        tiny=bytes(384),
        thumbnail=b"\xff\xd8 thumbnail",
        provenance=(place,),
        consent_allowed=True,
        consent="{}",
        added_at=at,
    )


def link(url: str, *, source: str = "shop", minute: int = 0, reason: str = "") -> LinkRow:
    """What became of `url`: kept, or rejected if there is a reason."""
    return LinkRow(
        url=url,
        source=source,
        page_url="https://example.org/",
        found_by="img[src]",
        outcome="rejected" if reason else "kept",
        reason=reason,
        sha256=None if reason else sha(0),
        etag="" if reason else '"etag"',
        run_id="run",
        seen_at=START + timedelta(minutes=minute),
    )


def decision(number: int, answer: Answer, *, who: str = "ann", minute: int = 0) -> DecisionRow:
    """What `who` said about `vinyl` on an image."""
    return DecisionRow(
        sha256=sha(number),
        label="vinyl",
        answer=answer,
        who=who,
        at=START + timedelta(minutes=minute),
        score=0.25,
    )


def add_overlapping(settings: Settings, worker: int) -> int:
    """Add 40 images, ten at a time and in an order of its own, all found at an address of its own."""
    catalog = Catalog(ObjectStore(settings))
    numbers = np.random.default_rng(worker).permutation(40).tolist()
    url = f"https://example.org/{worker}"
    return sum(
        catalog.add_images(
            image(number, url=url, minute=worker) for number in numbers[at : at + 10]
        )
        for at in range(0, 40, 10)
    )


def write_everything(settings: Settings, worker: int) -> None:
    """Write to every other table: decisions of its own, the same links, some of the same vectors."""
    catalog = Catalog(ObjectStore(settings))
    for part in range(3):
        number = worker * 100 + part
        catalog.add_decisions([decision(number, "yes")])
        catalog.record_links([link(f"https://example.org/{part}", minute=worker)])
        catalog.add_embeddings("tiny", [sha(part), sha(number + 10)], np.ones((2, 4)))
