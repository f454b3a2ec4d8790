"""The pictures that the demo's site is built from, and what is made of them: smaller, re-encoded."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPicture:
    """A picture for the site: a name (unique, letters, digits, - and _), its labels, its JPEG bytes.

    The bytes are served as they are, so their sha256 is the picture's in the catalogue.
    """

    name: str
    labels: tuple[str, ...]
    jpeg: bytes


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Return width and height in pixels."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.size


def scaled(jpeg: bytes, scale: float) -> Image.Image:
    """Return the picture at `scale` (at most 1: never enlarged) of its sides, as RGB."""
    with Image.open(io.BytesIO(jpeg)) as image:
        rgb = image.convert("RGB")
    sides = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
    return rgb if sides == rgb.size else rgb.resize(sides, Image.Resampling.LANCZOS)


def encode(image: Image.Image, *, quality: int) -> bytes:
    """Return `image` as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def poster(rng: random.Random, side: int) -> Image.Image:
    """Return a square of coloured blocks, `side` pixels wide: a picture of nothing with a label."""
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    step = max(1, side // 6)
    for left in range(0, side, step):
        for top in range(0, side, step):
            colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
            draw.rectangle((left, top, left + step, top + step), fill=colour)
    return image
