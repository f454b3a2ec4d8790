"""Benchmark of duplicates: `make bench-dedupe`. Speed of hashing, the index, and quality with peers.

Pictures are real photographs of ../shared/data and what scripts make of them; imagehash, which is a
dependency for tests, hashes the same pictures in the same run, in turn with ours.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from tests.bench.report import Row, in_turn, rival_python, write

RUNS = 3
SHARED = Path(os.environ.get("CRATEDIG_SHARED", Path(__file__).parents[3] / "shared"))
FOLDERS = ("clothing_small", "hymenoptera", "grocery")
# Thresholds were chosen with the first 40 photographs of some folders: none of those is used here.
SEEN = 40
PHOTOGRAPHS = 50  # of each folder
IMAGEHASH_DISTANCE = 8  # as ours; the usual one

Change = Callable[[Image.Image], Image.Image]


def photographs(each: int) -> list[Image.Image]:
    """Return `each` photographs of every folder, spread over it, at most 1024 pixels wide or high."""
    found = []
    for folder in FOLDERS:
        files = sorted((SHARED / "data" / folder / "images").iterdir())[SEEN:]
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


@dataclass(slots=True)
class Counts:
    """Pairs that were found, right and wrong, of a number of true ones."""

    right: int = 0
    wrong: int = 0
    true: int = 0

    def add(self, pairs: Sequence[tuple[int, int]], true: int) -> None:
        """Add pairs of positions, (original, picture that the copy was made of)."""
        self.right += sum(first == second for first, second in pairs)
        self.wrong += sum(first != second for first, second in pairs)
        self.true += true

    @property
    def recall(self) -> float:
        """Share of the true pairs that were found."""
        return self.right / self.true

    @property
    def precision(self) -> float:
        """Share of the pairs found that are true."""
        return self.right / max(1, self.right + self.wrong)


def quality() -> tuple[list[Row], str]:
    """Return recall of each change and precision over all, and a line about all peers.

    Rival in the table: imagehash. Every original is compared with every copy made by one change.
    """
    originals = photographs(PHOTOGRAPHS)
    examined = [examine(jpeg(image)) for image in originals]
    ours = {name: Counts() for name in CHANGES}
    peers: dict[str, dict[str, Counts]] = {}
    kept = decided = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(folder / "originals", [jpeg(image) for image in originals])
        for name, (_, changes) in CHANGES.items():
            for at, change in enumerate(changes):
                bodies = [jpeg(change(image).convert("RGB")) for image in originals]
                groups = _pairs(examined, [examine(body) for body in bodies])
                ours[name].add([(first, second) for first, second, _ in groups], len(originals))
                if name in FRAMING:
                    decided += len(groups)
                    kept += sum(of_originals for _, _, of_originals in groups)
                _write(folder / f"{name} {at}", bodies)
        for peer, script in PEERS.items():
            found = _peer(peer, script, folder)
            if found is not None:
                peers[peer] = {name: Counts() for name in CHANGES}
                for name, (_, changes) in CHANGES.items():
                    for at in range(len(changes)):
                        pairs = [(a, b) for a, b in found[f"{name} {at}"]]
                        peers[peer][name].add(pairs, len(originals))
    rival = peers.get("imagehash")
    rows = [
        Row(
            name=f"recall: {name}",
            unit="share",
            value=ours[name].recall,
            rival=rival[name].recall if rival else None,
            target=target,
        )
        for name, (target, _) in CHANGES.items()
    ]
    rows.append(
        Row(
            name="precision over all of these",
            unit="share",
            value=_all(ours).precision,
            rival=_all(rival).precision if rival else None,
            target=0.99,
        )
    )
    rows.append(
        Row(name="the original stays, of framed and cropped", unit="share", value=kept / decided)
    )
    lines = [
        f"{peer}: precision {_all(counts).precision:.3f}, recall "
        + ", ".join(f"{each.recall:.2f} {name}" for name, each in counts.items())
        for peer, counts in {"ours": ours, **peers}.items()
    ]
    missing = sorted(PEERS.keys() - peers.keys())
    if missing:
        lines.append(f"could not be installed: {', '.join(missing)}")
    return rows, "\n".join(lines)


FRAMING = ("border", "12.5 % crop", "watermark", "caption bar", "screenshot frame")

_HASHED_BY = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
root = Path(sys.argv[1])
{hasher}
hashes = {{
    folder.name: np.stack([bits(str(file)) for file in sorted(folder.iterdir())])
    for folder in root.iterdir()
}}
first = hashes.pop("originals")
pairs = {{
    name: np.argwhere((first[:, None] != second).sum(axis=2) <= {distance}).tolist()
    for name, second in hashes.items()
}}
print("PAIRS", json.dumps(pairs))
"""

_IMAGEDEDUP = """
from imagededup.methods import {method}
hasher = {method}(verbose=False)
def bits(file):
    return np.array([int(each, 16) >> at & 1 for each in hasher.encode_image(file) for at in range(4)])
"""

PEERS: dict[str, tuple[tuple[str, ...], str]] = {
    "imagehash": (
        ("imagehash",),
        _HASHED_BY.format(
            hasher="import imagehash\n"
            "def bits(file):\n    return imagehash.phash(Image.open(file)).hash.ravel()\n",
            distance=IMAGEHASH_DISTANCE,
        ),
    ),
    "imagededup phash": (
        ("imagededup", "setuptools<81"),
        _HASHED_BY.format(hasher=_IMAGEDEDUP.format(method="PHash"), distance=10),  # its default
    ),
    "imagededup dhash": (
        ("imagededup", "setuptools<81"),
        _HASHED_BY.format(hasher=_IMAGEDEDUP.format(method="DHash"), distance=10),
    ),
    "pdqhash": (
        ("pdqhash", "numpy", "pillow"),
        _HASHED_BY.format(
            hasher="import pdqhash\n"
            "def bits(file):\n    return pdqhash.compute(np.array(Image.open(file)))[0]\n",
            distance=31,  # of 256: its makers' own
        ),
    ),
    "cleanvision": (
        ("cleanvision",),
        """
import contextlib, io, json, sys
from pathlib import Path
from cleanvision import Imagelab
root = Path(sys.argv[1])
originals = sorted(map(str, (root / "originals").iterdir()))
pairs = {}
for folder in sorted(root.iterdir()):
    if folder.name == "originals":
        continue
    copies = sorted(map(str, folder.iterdir()))
    position = {Path(each).resolve(): (0, at) for at, each in enumerate(originals)}
    position |= {Path(each).resolve(): (1, at) for at, each in enumerate(copies)}
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(filepaths=originals + copies)
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1)
    pairs[folder.name] = [
        [one[1], other[1]]
        for kind in ("exact_duplicates", "near_duplicates")
        for group in lab.info[kind]["sets"]
        for one in (position[Path(each).resolve()] for each in group)
        for other in (position[Path(each).resolve()] for each in group)
        if one[0] == 0 and other[0] == 1
    ]
print("PAIRS", json.dumps(pairs))
""",
    ),
}
"""What has to be installed, and a script that prints the pairs of each folder."""


def _write(folder: Path, bodies: Sequence[bytes]) -> None:
    folder.mkdir()
    for at, body in enumerate(bodies):
        (folder / f"{at:05}.jpg").write_bytes(body)


def _all(counts: dict[str, Counts]) -> Counts:
    return Counts(
        right=sum(each.right for each in counts.values()),
        wrong=sum(each.wrong for each in counts.values()),
        true=sum(each.true for each in counts.values()),
    )


def _peer(
    name: str, peer: tuple[tuple[str, ...], str], folder: Path
) -> dict[str, list[list[int]]] | None:
    """Return the pairs that a peer finds, by the name of the change; None if it does not run here."""
    packages, script = peer
    try:
        python = rival_python(f"dedupe-{packages[0]}", *packages)
        ran = subprocess.run(
            [python, "-c", script, folder], check=True, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as error:
        print(f"{name} does not run: {(error.stderr or str(error))[-300:]}")
        return None
    line = next(each for each in ran.stdout.splitlines() if each.startswith("PAIRS "))
    pairs: dict[str, list[list[int]]] = json.loads(line.removeprefix("PAIRS "))
    return pairs


def _pairs(first: Sequence[Examined], second: Sequence[Examined]) -> list[tuple[int, int, bool]]:
    """Return the pairs, one of each, that were put into one group.

    Position of the original, of the copy, and whether the original is what stays.
    """
    both = [*first, *second]
    position = {each.fingerprint.sha256: at for at, each in enumerate(both)}
    thumbnails = {each.fingerprint.sha256: each.thumbnail for each in both}
    groups = group_duplicates(
        [each.fingerprint for each in both], thumbnails=lambda ids: thumbnails
    )
    found = []
    for group in groups:
        kept = position[group.kept]
        members = [kept, *(position[each.sha256] for each in group.duplicates)]
        found += [
            (one, other - len(first), kept == one)
            for one in members
            for other in members
            if one < len(first) <= other
        ]
    return found


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
    # Half of them share 24 bits with one of 100 prototypes: a million pairs within 10 bits.
    prototypes = rng.integers(0, 2**64, 100, dtype=np.uint64)
    masks = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, 24, replace=False)) for _ in prototypes],
        dtype=np.uint64,
    )
    of = rng.integers(0, len(prototypes), len(uniform) // 2)
    clustered = uniform.copy()
    half = clustered[: len(of)]
    half ^= (half ^ prototypes[of]) & masks[of]
    _joined(uniform[:5000], 7)  # compiles, or loads what was compiled
    rows = []
    for name, held in (("uniform", uniform), ("skewed", skewed), ("clustered", clustered)):
        for distance, target in ((7, 10), (10, 60)):
            started = time.process_time()
            _joined(held, distance)
            rows.append(
                Row(
                    name=f"self-join of 1,000,000 {name}, distance {distance}",
                    unit="CPU s",
                    value=time.process_time() - started,
                    target=target,
                    at_least=False,
                )
            )
    large = HammingIndex()
    large.add(uniform)
    large.query(uniform[:1], 7)
    started = time.process_time()
    large.query(rng.integers(0, 2**64, 20_000, dtype=np.uint64), 7)
    rate = 20_000 / (time.process_time() - started)
    rows.append(
        Row(name="query of 1,000,000, distance 7", unit="hashes/CPU s", value=rate, target=20_000)
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


def _joined(hashes: NDArray[np.uint64], distance: int) -> int:
    held = HammingIndex()
    held.add(hashes)
    return sum(len(block) for block in held.self_join_blocks(distance))


_HALF: NDArray[np.uint64] | np.uint64 = np.uint64(0x5555_5555_5555_5555)


def main() -> None:
    """Measure all, and write `.bench/dedupe.json`."""
    rows, peers = quality()
    write(
        "dedupe",
        [*hashing(), *rows, merged_of_the_empty(), *index()],
        runs=RUNS,
        notes=f"Rival: imagehash.phash within 8 bits; one BLAS thread.\n{peers}",
    )


if __name__ == "__main__":
    main()
