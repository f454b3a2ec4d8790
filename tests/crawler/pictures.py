"""Small pictures with structure in them, made on the spot."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageDraw


def picture(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Return an RGB picture of overlapping blots, different for every seed."""
    numbers = random.Random(seed)
    width, height = size
    image = Image.new("RGB", size, _colour(numbers))
    draw = ImageDraw.Draw(image)
    for _ in range(24):
        x, y = numbers.randrange(width), numbers.randrange(height)
        reach = numbers.randrange(10, max(11, width // 3))
        draw.ellipse((x - reach, y - reach // 2, x + reach, y + reach // 2), fill=_colour(numbers))
    return image


def encoded(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    """Return `image` as a file of that format (Pillow's name)."""
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def _colour(numbers: random.Random) -> tuple[int, int, int]:
    return (numbers.randrange(256), numbers.randrange(256), numbers.randrange(256))
