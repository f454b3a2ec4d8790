"""Benchmark of duplicates: `make bench-dedupe`. Speed of hashing, the index, and quality with peers.

Pictures are real photographs of ../shared/data and what scripts make of them; imagehash, which is a
dependency for tests, hashes the same pictures in the same run, in turn with ours.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# One core is measured, and BLAS starts its threads when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from crawler.decode import Examined, examine, fingerprint
from crawler.dedupe import group_duplicates
from crawler.hamming import HammingIndex
from tests.bench.report import Row, in_turn, write

RUNS = 3
SHARED = Path(os.environ.get("CRATEDIG_SHARED", Path(__file__).parents[3] / "shared"))
FOLDERS = ("turntable_vinyl", "hymenoptera", "fruit_multilabel", "grocery")
IMAGEHASH_DISTANCE = 8  # as ours; the usual one

Change = Callable[[Image.Image], Image.Image]


def photographs(each: int) -> list[Image.Image]:
    """Return `each` photographs of every folder."""
    found = []
    for folder in FOLDERS:
        for file in sorted((SHARED / "data" / folder / "images").iterdir())[:each]:
            with Image.open(file) as opened:
                found.append(opened.convert("RGB"))
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


def quality() -> list[Row]:
    """Return recall of each change, ours and imagehash's, and precision over all."""
    originals = photographs(35)
    examined = [examine(jpeg(image)) for image in originals]
    hashes = [imagehash.phash(image) for image in originals]
    rows = []
    right = wrong = rival_wrong = rival_right = 0
    for name, (target, changes) in CHANGES.items():
        found = rival_found = 0
        for change in changes:
            copies = [change(image).convert("RGB") for image in originals]
            pairs = _pairs(examined, [examine(jpeg(copy)) for copy in copies])
            found += sum(first == second for first, second in pairs)
            wrong += sum(first != second for first, second in pairs)
            of_copies = [imagehash.phash(copy) for copy in copies]
            near = [
                (first, second)
                for first, one in enumerate(hashes)
                for second, other in enumerate(of_copies)
                if one - other <= IMAGEHASH_DISTANCE
            ]
            rival_found += sum(first == second for first, second in near)
            rival_wrong += sum(first != second for first, second in near)
        total = len(originals) * len(changes)
        right, rival_right = right + found, rival_right + rival_found
        rows.append(
            Row(
                name=f"recall: {name}",
                unit="share",
                value=found / total,
                rival=rival_found / total,
                target=target,
            )
        )
    rows.append(
        Row(
            name="precision over all of these",
            unit="share",
            value=right / (right + wrong),
            rival=rival_right / (rival_right + rival_wrong),
            target=0.99,
        )
    )
    return rows


def _pairs(first: Sequence[Examined], second: Sequence[Examined]) -> list[tuple[int, int]]:
    """Return (position, position) of the pictures of both that were put into one group."""
    both = [*first, *second]
    position = {each.fingerprint.sha256: at % len(first) for at, each in enumerate(both)}
    thumbnails = {each.fingerprint.sha256: each.thumbnail for each in both}
    groups = group_duplicates(
        [each.fingerprint for each in both], thumbnails=lambda ids: thumbnails
    )
    return [
        (position[group.kept], position[duplicate.sha256])
        for group in groups
        for duplicate in group.duplicates
    ]


def merged_of_the_empty() -> Row:
    """Return how many of 1,000 flat, transparent and low-entropy pictures were merged."""
    rng = np.random.default_rng(0)
    pictures = []
    for at in range(1000):
        sheet = Image.new("RGBA", (120, 90), (*rng.integers(0, 256, 3).tolist(), 255))
        if at % 3 == 1:
            sheet.putalpha(0)
            sheet.putpixel((at % 120, at // 12 % 90), (at % 251, 7, 9, 200))
        elif at % 3 == 2:
            left, top = rng.integers(0, 80, 2).tolist()
            ImageDraw.Draw(sheet).rectangle((left, top, left + 3, top + 3), fill=(0, 0, 0))
        file = io.BytesIO()
        sheet.save(file, "PNG")
        pictures.append(examine(file.getvalue()))
    by_id = {each.fingerprint.sha256: each for each in pictures}
    groups = group_duplicates(
        [each.fingerprint for each in by_id.values()],
        thumbnails=lambda ids: {each: by_id[each].thumbnail for each in ids},
    )
    merged = sum(
        duplicate.how != "same pixels" for group in groups for duplicate in group.duplicates
    )
    return Row(
        name="empty ones merged by hash", unit="of 1,000", value=merged, target=0, at_least=False
    )


def hashing() -> list[Row]:
    """Return pictures a CPU second at two sizes, hashed and examined, with imagehash in turn."""
    rows = []
    for size, target in (((640, 480), 800), ((1920, 1440), 250)):
        bodies = [jpeg(image.resize(size)) for image in photographs(10)]
        ours, rival = in_turn(
            lambda bodies=bodies: _rate(fingerprint, bodies),  # type: ignore[misc]  # bound now
            lambda bodies=bodies: _rate(_imagehash, bodies),  # type: ignore[misc]
            RUNS,
        )
        name = f"{size[0]} x {size[1]}"
        rows.append(
            Row(
                name=f"hashing {name}",
                unit="pictures/CPU s",
                value=statistics.median(ours),
                rival=statistics.median(rival),
                ratio=statistics.median(a / b for a, b in zip(ours, rival, strict=True)),
                target=target,
            )
        )
        rate = statistics.median(_rate(examine, bodies) for _ in range(RUNS))
        rows.append(Row(name=f"examine {name}", unit="pictures/CPU s", value=rate))
    return rows


def _imagehash(data: bytes) -> imagehash.ImageHash:
    with Image.open(io.BytesIO(data)) as opened:
        return imagehash.phash(opened)


def _rate(work: Callable[[bytes], object], bodies: Sequence[bytes]) -> float:
    started = time.process_time()
    for body in bodies:
        work(body)
    return len(bodies) / (time.process_time() - started)


def index() -> list[Row]:
    """Return the CPU seconds of self-joins of a million, and queries a second."""
    rng = np.random.default_rng(0)
    uniform = rng.integers(0, 2**64, 1_000_000, dtype=np.uint64)
    skewed = uniform & (rng.integers(0, 2**64, len(uniform), dtype=np.uint64) | _HALF)
    rows = []
    for name, held in (("uniform", uniform), ("skewed", skewed)):
        for distance, target in ((7, 10), (10, 60)):
            joined = HammingIndex()
            joined.add(held)
            started = time.process_time()
            joined.self_join(distance)
            rows.append(
                Row(
                    name=f"self-join of 1,000,000 {name}, distance {distance}",
                    unit="CPU s",
                    value=time.process_time() - started,
                    target=target,
                    at_least=False,
                )
            )
    growing = HammingIndex()
    started = time.process_time()
    for part in np.array_split(uniform[:200_000], 200):
        growing.query(part, 7)
        growing.add(part)
    rate = 200_000 / (time.process_time() - started)
    rows.append(
        Row(
            name="query and add, to 200,000, distance 7",
            unit="hashes/CPU s",
            value=rate,
            target=20_000,
        )
    )
    return rows


_HALF: NDArray[np.uint64] | np.uint64 = np.uint64(0x5555_5555_5555_5555)


def main() -> None:
    """Measure all, and write `.bench/dedupe.json`."""
    write(
        "dedupe",
        [*hashing(), *quality(), merged_of_the_empty(), *index()],
        runs=RUNS,
        notes="Rival: imagehash.phash within 8 bits. OPENBLAS_NUM_THREADS=1 for one core.",
    )


if __name__ == "__main__":
    main()
