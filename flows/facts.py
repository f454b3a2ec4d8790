"""What the catalogue knows of pictures besides what they show, as the model's reports need it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from PIL import Image

from flows.catalog import Catalog
from flows.conditions import chunks
from flows.rows import ImageRow
from model.facts import PictureFacts, measure_appearance


def picture_facts(catalog: Catalog, sha256s: Sequence[str]) -> dict[str, PictureFacts]:
    """Return the facts of those pictures, measured on their thumbnails; unknown ids are left out."""
    wanted = set(sha256s)
    rows = {row.sha256: row for row in catalog.images() if row.sha256 in wanted}
    facts = {}
    for chunk in chunks(rows):
        thumbnails = catalog.thumbnails(chunk)
        for sha256 in chunk:
            facts[sha256] = _facts(rows[sha256], thumbnails.get(sha256, b""))
    return facts


def _facts(row: ImageRow, thumbnail: bytes) -> PictureFacts:
    brightness = sharpness = None
    if thumbnail:
        with Image.open(io.BytesIO(thumbnail)) as picture:
            brightness, sharpness = measure_appearance(picture)
    first = row.provenance[0] if row.provenance else None
    return PictureFacts(
        sha256=row.sha256,
        host=(urlsplit(first.page_url or first.url).hostname or first.source) if first else "",
        licence=json.loads(first.about).get("license", "") if first and first.about else "",
        width=row.width,
        height=row.height,
        brightness=brightness,
        sharpness=sharpness,
    )
