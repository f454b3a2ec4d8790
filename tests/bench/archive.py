"""Archives labelled from the object store: against the model alone, twice as much, and in memory.

    python -m tests.bench.archive                      about five minutes on two cores
    python -m tests.bench.archive --pictures 20000     the issue's size

The encoder is ViT-B-32 with seeded weights on ONNX Runtime (speed does not depend on weights); the
pictures are JPEGs of 400 x 300 in a SeaweedFS on loopback, an object each. "Model alone" is the
encoder on pixels that are in memory. A run's time is less that for one picture, which is what
starting takes.

Memory: the peak of a process that answers a new question about 10,000 and 1,000,000 rows from kept
embeddings (the vectors are written by the benchmark; no picture is read), and of one that plans as
many pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from flows.archive.entries import Entry
from flows.archive.job import Wanted, prepare
from flows.archive.label import label_archive
from flows.archive.listing import stored_archive
from flows.archive.places import FolderOutput
from flows.archive.plan import Planner
from flows.archive.rows import Embedded, Facts, embedded_to_parquet
from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.project import Project
from flows.settings import Settings
from flows.workspace import Workspace
from model.encoder import load_encoder
from tests.bench.report import ROOT, Row, cpu_seconds, write
from tests.bench.stored import loopback_store

WEIGHTS = ROOT / "infra" / "demo" / "weights"
FEW, MANY = 10_000, 1_000_000
_LABELS = '[[labels]]\nname = "vinyl"\n[[labels]]\nname = "turntable"\n'


def main() -> None:
    """Measure, print the table and write `.bench/archive.json`."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--pictures", type=int, default=600)
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--rows", type=int, default=MANY)
    arguments.add_argument("--measure", choices=("label", "plan", "flow"), help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure is not None:
        _peak_of(given.measure, given.folder, given.rows)
        return
    with loopback_store(prefect=True) as (folder, settings, _):
        rates = _rates(folder, settings, given.pictures, given.pairs)
        assert rates[0].rival is not None
        rows = [
            *rates,
            *_memory(folder, settings, given.rows),
            _overhead(folder, settings, 1000 / rates[0].rival),
        ]
    write("archive", rows, runs=given.pairs, notes=f"{given.pictures} and twice as many pictures")


def _workspace(root: Path, settings: Settings, encoder: str) -> Workspace:
    root.mkdir(exist_ok=True)
    (root / "project.toml").write_text(f'name = "bench"\n[encoder]\n{encoder}\n{_LABELS}')
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def _rates(folder: Path, settings: Settings, pictures: int, pairs: int) -> list[Row]:
    # Not for the processes whose memory is measured: it imports torch.
    from tests.bench.encode import _seeded

    config = dataclasses.replace(_seeded("ViT-B-32"), backend="onnx", threads=None)
    workspace = _workspace(
        folder / "rates",
        settings,
        f'model = "ViT-B-32"\ncheckpoint = {json.dumps(str(config.checkpoint))}\nbackend = "onnx"',
    )
    for number, data in enumerate(itertools.islice(_jpegs(), 2 * pictures)):
        workspace.store.put(f"photos/{number // pictures}/{number:06}.jpg", data)
    workspace.store.put("photos/one/0.jpg", next(_jpegs()))
    encoder = load_encoder(config)
    size = encoder.batch_size
    pixels = np.zeros((size, *encoder.preprocessing.size, 3), np.uint8)
    outs = itertools.count()

    def label(below: str) -> float:
        wanted = Wanted(
            location=workspace.store.uri(f"photos/{below}"),
            out=workspace.store.uri(f"labels-{next(outs)}"),
        )
        started = time.perf_counter()
        label_archive(workspace, wanted)
        return time.perf_counter() - started

    def alone() -> float:
        started = time.perf_counter()
        for _ in range(pictures // size):
            encoder.encode_pixels(pixels)
        return (time.perf_counter() - started) * pictures / (pictures // size * size)

    label("one/")
    alone()
    found = []
    for pair in range(pairs):
        # In turn, each pair in the other order than the last.
        order = (alone, lambda: label("one/"), lambda: label("0/"), lambda: label(""))
        times = [each() for each in (order if pair % 2 == 0 else order[::-1])]
        found.append(times if pair % 2 == 0 else times[::-1])
    shares = [model / (once - one) for model, one, once, _ in found]
    doubled = [(twice - one) / (once - one) for _, one, once, twice in found]
    return [
        Row(
            name="labelled from the object store",
            unit="pictures/s",
            value=statistics.median(pictures / (once - one) for _, one, once, _ in found),
            rival=statistics.median(pictures / model for model, *_ in found),
            ratio=statistics.median(shares),
        ),
        Row(name="share of the model alone", unit="", value=statistics.median(shares), target=0.85),
        Row(
            name="time for twice as many pictures",
            unit="times",
            value=statistics.median(doubled),
            target=2.1,
            at_least=False,
        ),
    ]


def _jpegs() -> Iterator[bytes]:
    """Yield JPEGs of smooth noise, no two alike: one picture, rolled."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC))
    for number in itertools.count():
        file = io.BytesIO()
        rolled = np.roll(picture, (number % 300, number // 300), axis=(0, 1))
        Image.fromarray(rolled).save(file, "JPEG", quality=85)
        yield file.getvalue()


def _memory(folder: Path, settings: Settings, many: int) -> list[Row]:
    rows = []
    for measure in ("label", "plan"):
        few_mb, many_mb = (
            _measured(measure, folder, settings, count).peak_mb for count in (FEW, many)
        )
        rows += [
            Row(name=f"{measure}: peak memory at {many:,} rows", unit="MB", value=many_mb),
            Row(
                name=f"{measure}: that to the peak at {FEW:,}",
                unit="times",
                value=many_mb / few_mb,
                target=1.1,
                at_least=False,
            ),
        ]
    return rows


def _overhead(folder: Path, settings: Settings, model_s: float) -> Row:
    """Compare flow and command by what ten times as many shards take more."""
    per_shard = {}
    for measure in ("label", "flow"):
        few, more = (
            _measured(measure, folder / "overhead", settings, count).cpu_s
            for count in (FEW, 10 * FEW)
        )
        per_shard[measure] = (more - few) / (9 * FEW / 1000)
    overhead_s = per_shard["flow"] - per_shard["label"]
    return Row(
        name=f"Prefect: {1000 * overhead_s:.0f} ms a task, of the encoder's time",
        unit="",
        value=overhead_s / model_s,
        target=0.02,
        at_least=False,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Cost:
    peak_mb: float
    cpu_s: float


def _measured(measure: str, folder: Path, settings: Settings, count: int) -> _Cost:
    below = folder / f"{measure}-{count}"
    below.mkdir(parents=True)
    if measure != "plan":
        _write_kept(below, _workspace(below, settings, f"checkpoint = '{WEIGHTS}'"), count)
    assert settings.access_key is not None
    assert settings.secret_key is not None
    said = subprocess.run(
        [
            *(sys.executable, "-m", "tests.bench.archive", "--measure", measure),
            *("--folder", str(below), "--rows", str(count)),
        ],
        check=True,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "CRATEDIG_ENDPOINT": settings.endpoint or "",
            "CRATEDIG_ACCESS_KEY": settings.access_key.get_secret_value(),
            "CRATEDIG_SECRET_KEY": settings.secret_key.get_secret_value(),
            "CRATEDIG_BUCKET": settings.bucket,
            "CRATEDIG_PROJECT": str(below),
            "PREFECT_API_URL": settings.prefect_api_url or "",
        },
    ).stdout
    return _Cost(*map(float, said.splitlines()[-1].split()))


def _peak_of(measure: str, folder: Path, count: int) -> None:
    """Do one thing in this process; print its peak of resident memory in MB, and its CPU seconds."""
    if measure == "plan":
        with Planner(_Listed(count=count), FolderOutput(folder / "out")) as planner:
            for _ in planner:
                pass
    elif measure == "flow":
        # Not for the others: its import takes memory.
        from flows.runs import label_archive_flow

        wanted = _kept(folder)
        label_archive_flow(wanted.location, wanted.out, model=wanted.model)
    else:
        settings = Settings.load(folder)
        store = ObjectStore(settings)
        workspace = Workspace(
            root=folder,
            settings=settings,
            project=Project.load(folder),
            store=store,
            catalog=Catalog(store),
        )
        result = label_archive(workspace, _kept(folder))
        assert result.manifest.pictures == count
    # Not ru_maxrss: what forked this process counts in it.
    status = Path("/proc/self/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak_kb) / 1024, cpu_seconds())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """So many objects, as a listing of a bucket gives them."""

    count: int
    name: str = "listed"

    def entries(self) -> Iterator[Entry]:
        for number in range(self.count):
            yield Entry(
                kind="picture",
                name=f"photos/{number // 5000:05}/{number:09}.jpg",
                etag=f'"{number * 2654435761 % 2**64:032x}"',
                size=100_000,
                last=100_000,
            )


def _kept(folder: Path) -> Wanted:
    return Wanted(location=str(folder / "all.parquet"), out=str(folder / "out"), model="prompts")


def _write_kept(folder: Path, workspace: Workspace, count: int) -> None:
    """Write an archive of tiny pictures, and vectors of them as if they had been kept."""
    with pq.ParquetWriter(folder / "all.parquet", pa.schema([("image", pa.binary())])) as writer:
        group = pa.table({"image": [b"tiny"] * 1000})
        for _ in range(count // 1000):
            writer.write_table(group)
    job, question = prepare(workspace, _kept(folder))
    output = FolderOutput(folder / "out")
    dim = question.weight_LD.shape[1]
    archive = stored_archive(workspace, str(folder / "all.parquet"), out=str(folder / "out"))
    with Planner(archive, output) as planner:
        for shard in planner:
            output.put(job.keys.embeddings(shard.id), _vectors(shard.pictures, dim))


@functools.cache
def _vectors(pictures: int, dim: int) -> bytes:
    """Return what is kept of a shard, the same for all of one size."""
    facts = tuple(
        Facts(
            uri="all.parquet",
            member=str(row),
            offset=None,
            sha256=f"{row:064x}",
            size=4,
            error=None,
            error_detail=None,
        )
        for row in range(pictures)
    )
    vectors_ND = np.random.default_rng(0).normal(size=(pictures, dim)).astype(np.float16)
    return embedded_to_parquet(Embedded(facts=facts, vectors_ND=vectors_ND))


if __name__ == "__main__":
    main()
