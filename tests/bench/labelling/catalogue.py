"""A catalogue as large as one wants, made in a minute: drawn thumbnails, random scores, decisions.

Rows are written to the tables directly, a thousand to a commit, as a crawl would leave them.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.rows import (
    DECISIONS,
    IMAGES,
    PRELABELS,
    DecisionRow,
    ImageRow,
    PreLabelRow,
    Provenance,
    embeddings_schema,
    to_table,
)
from flows.settings import Settings
from flows.tables import Table

LABELS = ("turntable", "vinyl", "sleeve")
ENCODER = "synthetic"
DIM = 512
PRECISION = 0.95
"""Of the pre-labels from 0.5 up, by the truth that `truth_of` gives."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_COMMIT_ROWS = 2000
FACES = 64

PROJECT = (
    'name = "bench"\n'
    + "".join(f'[[labels]]\nname = "{label}"\n' for label in LABELS)
    + '[encoder]\nmodel = "ViT-B-32"\npretrained = "none"\n'
)


def truth_of(number: int) -> bool:
    """Say whether picture `number` shows the first label; half of them do."""
    return number % 2 == 0


def an_id(number: int) -> str:
    """Return the id of picture `number`; ids are in no order of anything else."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:048x}"


def number_of(sha256: str) -> int:
    """Return the number of the picture with that id."""
    return int(sha256[16:], 16)


def write_project(root: Path, settings: Settings) -> None:
    """Write project.toml and the store's address, keys and bucket into `root`."""
    assert settings.access_key is not None
    assert settings.secret_key is not None
    environment = {
        "CRATEDIG_ENDPOINT": settings.endpoint,
        "CRATEDIG_ACCESS_KEY": settings.access_key.get_secret_value(),
        "CRATEDIG_SECRET_KEY": settings.secret_key.get_secret_value(),
        "CRATEDIG_BUCKET": settings.bucket,
    }
    (root / ".cratedig").mkdir(parents=True, exist_ok=True)
    (root / "project.toml").write_text(PROJECT)
    (root / ".cratedig" / "local.env").write_text(
        "".join(f"{name}={value}\n" for name, value in environment.items())
    )


def fill(store: ObjectStore, count: int, *, decided: int, embedded: bool) -> None:
    """Write `count` pictures, scores of every label, and `decided` answers to the last label.

    A score of the first label says what the truth is, but for one in twenty.
    """
    random = np.random.default_rng(0)
    faces = [face(number) for number in range(FACES)]
    images = Table(store, "images", IMAGES)
    scores = Table(store, "prelabels", PRELABELS)
    for start in range(0, count, _COMMIT_ROWS):
        numbers = range(start, min(count, start + _COMMIT_ROWS))
        images.append(to_table([_image(each, faces) for each in numbers], IMAGES))
        rows = [
            PreLabelRow(
                sha256=an_id(each),
                label=label,
                score=score_of(each, label, random),
                taxonomy_id="t",
                encoder_id=ENCODER,
            )
            for each in numbers
            for label in LABELS
        ]
        scores.append(to_table(rows, PRELABELS))
        if embedded:
            _embed(store, numbers, random)
    answers = [
        DecisionRow(
            sha256=an_id(number),
            label=LABELS[-1],
            answer="yes" if random.random() < 0.5 else "no",
            who=f"reviewer-{number % 3}",
            at=_START + timedelta(days=1, seconds=number),
            score=0.5,
        )
        for number in range(min(decided, count))
    ]
    decisions = Table(store, "decisions", DECISIONS)
    for start in range(0, len(answers), 500):
        decisions.append(to_table(answers[start : start + 500], DECISIONS))
    Catalog(store)


def _embed(store: ObjectStore, numbers: range, random: np.random.Generator) -> None:
    schema = embeddings_schema(DIM)
    centres = np.random.default_rng(1).normal(size=(500, DIM))
    vectors = centres[[each % 500 for each in numbers]] + 0.7 * random.normal(
        size=(len(numbers), DIM)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), DIM)
    ids = pa.array([an_id(each) for each in numbers])
    table = Table(store, f"embeddings/{ENCODER}", schema)
    table.append(pa.Table.from_arrays([ids, flat], schema=schema))


def score_of(number: int, label: str, random: np.random.Generator) -> float:
    says_yes = truth_of(number) == (random.random() < PRECISION)
    if label != LABELS[0]:
        return float(random.random())
    return float(random.uniform(0.5, 1.0) if says_yes else random.uniform(0.0, 0.5))


def face(number: int) -> bytes:
    """Draw a thumbnail of the size in bytes that a photograph's has."""
    noise = np.random.default_rng(number).integers(0, 90, (192, 256, 3), np.uint8)
    image = Image.fromarray(noise + np.uint8(number))
    ImageDraw.Draw(image).circle((128, 96), 40 + number % 40, fill=(20 + number, 20, 24))
    buffer = io.BytesIO()
    image.resize((256, 192)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def _image(number: int, faces: list[bytes]) -> ImageRow:
    host = number % 40
    return ImageRow(
        sha256=an_id(number),
        shard=f"shards/bench/{number // 1000}.tar",
        offset=512,
        size=80_000 + number % 1000,
        format="jpeg",
        width=1024,
        height=768,
        pixel_sha256=an_id(number),
        phash=number,
        dhash=number,
        hashable=True,
        tiny=bytes(64),
        views=bytes(128),
        thumbnail=faces[number % len(faces)],
        provenance=(
            Provenance(
                source=f"shop-{host}",
                url=f"https://shop-{host}.example/records/{number}/large.jpg",
                page_url=f"https://shop-{host}.example/records/{number}.html",
                found_by="img[src]",
                alt=f"Record no. {number}, a picture of it",
                page_title="The record shop",
                about='{"figure_caption": "A record in its sleeve, as the shop shows it"}',
                fetched_at=_START + timedelta(seconds=number),
                run_id="bench",
            ),
        ),
        consent_allowed=True,
        consent='{"allowed": true, "signals": []}',
        added_at=_START + timedelta(seconds=number),
    )
