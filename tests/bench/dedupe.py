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

# One core is measured, and BLAS starts its threads when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import imagehash
from PIL import Image

from crawler.decode import examine, fingerprint
from tests.bench.alike.joins import index
from tests.bench.alike.quality import merged_of_the_empty, quality
from tests.bench.alike.renditions import jpeg, photographs
from tests.bench.report import Row, in_turn, write

RUNS = 3


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
