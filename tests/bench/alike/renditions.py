"""Real photographs, and what scripts make of them as people and sites do: cropped, framed, written on."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageOps

from tests.bench.report import shared_folder

FOLDERS = ("clothing_small", "hymenoptera", "grocery")
# Thresholds were chosen with the first 40 photographs of some folders: none of those is used here.
SEEN = 40

Change = Callable[[Image.Image], Image.Image]


def photographs(each: int) -> list[Image.Image]:
    """Return `each` photographs of every folder, spread over it, at most 1024 pixels wide or high."""
    found = []
    for folder in FOLDERS:
        files = sorted((shared_folder() / "data" / folder / "images").iterdir())[SEEN:]
        for file in files[:: max(1, len(files) // each)][:each]:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
            image.thumbnail((1024, 1024))
            found.append(image)
    return found


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Return the picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def crop(share: float, across: float = 0.5, down: float = 0.5) -> Change:
    """Return what keeps `share` of each side, at a place from 0 to 1 across and down."""

    def change(image: Image.Image) -> Image.Image:
        width, height = round(image.width * share), round(image.height * share)
        left, top = (
            round((image.width - width) * across),
            round((image.height - height) * down),
        )
        return image.crop((left, top, left + width, top + height))

    return change


def caption(image: Image.Image) -> Image.Image:
    """Return the picture above a white bar with two lines of words."""
    sheet = Image.new("RGB", (image.width, image.height * 8 // 7), "white")
    sheet.paste(image, (0, 0))
    words = "A caption about the picture, in two lines\nand more words here"
    ImageDraw.Draw(sheet).text(
        (8, image.height + 4), words, fill="black", font_size=max(9, image.height // 20)
    )
    return sheet


def screenshot(image: Image.Image) -> Image.Image:
    """Return the picture in a window with a title bar and three buttons."""
    sheet = Image.new("RGB", (image.width + 16, image.height + 44), (225, 225, 228))
    sheet.paste(image, (8, 36))
    draw = ImageDraw.Draw(sheet)
    draw.text((10, 8), "Photo viewer - img.jpg", fill=(40, 40, 40), font_size=14)
    for at, colour in enumerate(("red", "orange", "green")):
        left = sheet.width - 56 + at * 16
        draw.ellipse((left, 10, left + 10, 20), fill=colour)
    return sheet


def watermark(image: Image.Image) -> Image.Image:
    """Return the picture with half-transparent words across its middle."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).text(
        (image.width // 2, image.height // 2),
        "SAMPLE PHOTO",
        fill=(255, 255, 255, 140),
        anchor="mm",
        font_size=image.width // 8,
    )
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def turned(method: Image.Transpose) -> Change:
    """Return what mirrors or turns a picture."""
    return lambda image: image.transpose(method)


CHANGES: dict[str, tuple[float, list[Change]]] = {
    "recompressed": (0.99, [lambda image: Image.open(io.BytesIO(jpeg(image, 30)))]),
    "half size": (0.99, [lambda image: image.resize((image.width // 2, image.height // 2))]),
    "aspect 5:4": (0.99, [lambda image: image.resize((image.width, image.height * 4 // 5))]),
    "tone": (0.99, [lambda image: image.point(lambda v: min(255, int(268 * (v / 255) ** 0.7)))]),
    "5 % crop": (0.99, [crop(0.95), crop(0.95, 0, 1)]),
    "rotations and mirrorings": (0.95, [turned(method) for method in Image.Transpose]),
    "border": (0.90, [lambda i: ImageOps.expand(i, max(i.size) // 14, "black")]),
    "12.5 % crop": (0.90, [crop(0.875), crop(0.875, 0, 0), crop(0.75)]),
    "watermark": (0.90, [watermark]),
    "caption bar": (0.90, [caption]),
    "screenshot frame": (0.90, [screenshot]),
}
"""The least recall that each kind of change should have, and the changes of that kind."""

FRAMING = ("border", "12.5 % crop", "watermark", "caption bar", "screenshot frame")
"""Those that add or take away what surrounds a picture: which of the two is the original?"""
