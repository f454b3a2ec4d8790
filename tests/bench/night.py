"""A night over stored embeddings: its memory at 10,000 pictures and at a hundred times as many.

    python -m tests.bench.night                    a million pictures: about ten minutes on two cores
    python -m tests.bench.night --rows 200000      a fifth of them

The pictures do not exist, and none is read: the benchmark writes rows and vectors, of the demo's
encoder, into the tables, and a model that was trained on sixty of them answers for all the others,
pre-labels them, looks for drift and renews the queues, as `cratedig predict` does. Measured are
processes of their own: the peak of resident memory, and processor time a picture by what the larger
night takes more than the smaller one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.encoders import EncoderSource
from flows.night import after_night
from flows.predict import predict
from flows.rows import IMAGES, embeddings_schema, to_table
from flows.settings import Settings
from flows.tables import Table
from flows.workspace import Workspace, open_workspace
from tests.bench.report import Row, cpu_seconds, write
from tests.bench.stored import loopback_store
from tests.flows.catalog_rows import image, sha

FEW, MANY = 10_000, 1_000_000
_WRITTEN_AT_ONCE = 50_000


def main() -> None:
    """Measure, print the table and write `.bench/night.json`."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=MANY)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure is not None:
        _measure(given.measure)
        return
    with loopback_store() as (folder, settings, _):
        few, many = (_night(folder, settings, count) for count in (FEW, given.rows))
    rows = []
    for name, peak_few, peak_many in (
        ("predict", few.predict_mb, many.predict_mb),
        ("and drift and queues", few.peak_mb, many.peak_mb),
    ):
        rows += [
            Row(name=f"{name}: peak memory at {given.rows:,} rows", unit="MB", value=peak_many),
            Row(
                name=f"{name}: that to the peak at {FEW:,}",
                unit="times",
                value=peak_many / peak_few,
                target=1.1,
                at_least=False,
            ),
        ]
    rows.append(
        Row(
            name="processor time a picture",
            unit="us",
            value=1e6 * (many.cpu_s - few.cpu_s) / (given.rows - FEW),
        )
    )
    write("night", rows, runs=1)


@dataclass(frozen=True, slots=True)
class _Cost:
    predict_mb: float
    peak_mb: float
    cpu_s: float


def _night(folder: Path, settings: Settings, count: int) -> _Cost:
    """Make a project of so many pictures, and run a night over it in a process of its own."""
    # Not for the processes whose memory is measured: it imports torch.
    from tests.flows.nights import TRAINED_ON, add_pictures, open_project, put_model_into_production

    root = folder / f"night-{count}"
    root.mkdir()
    at = settings.model_copy(update={"prefix": root.name})
    workspace = open_project(root, at)
    add_pictures(workspace, TRAINED_ON)
    put_model_into_production(workspace)
    for first in range(len(TRAINED_ON), count, _WRITTEN_AT_ONCE):
        _add(workspace, range(first, min(first + _WRITTEN_AT_ONCE, count)))
    assert at.access_key is not None
    assert at.secret_key is not None
    said = subprocess.run(
        [sys.executable, "-m", "tests.bench.night", "--measure", str(root)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "CRATEDIG_ENDPOINT": at.endpoint or "",
            "CRATEDIG_ACCESS_KEY": at.access_key.get_secret_value(),
            "CRATEDIG_SECRET_KEY": at.secret_key.get_secret_value(),
            "CRATEDIG_BUCKET": at.bucket,
            "CRATEDIG_PREFIX": at.prefix,
        },
    ).stdout
    predicted, *cost = said.splitlines()[-1].split()
    assert int(predicted) == count
    return _Cost(*map(float, cost))


def _add(workspace: Workspace, numbers: Sequence[int]) -> None:
    """Append rows and vectors to the tables: what a catalogue asks of each row takes hours here."""
    encoder_id = EncoderSource(workspace).id()
    _, vectors_ND = workspace.catalog.embeddings(encoder_id, [sha(0)])
    dim = vectors_ND.shape[1]
    ids = pa.array([sha(number) for number in numbers], pa.string())
    images = to_table([image(numbers[0])], IMAGES).take(pa.array(np.zeros(len(ids), np.int64)))
    at = images.schema.get_field_index("sha256")
    images = images.set_column(at, IMAGES.field("sha256"), ids).cast(IMAGES)
    Table(workspace.store, "images", IMAGES).append(images)
    rng = np.random.default_rng(numbers[0])
    side_N1 = np.where(np.arange(len(ids)) % 2 == 0, 1.0, -1.0)[:, None]
    noisy_ND = side_N1 + 0.5 * rng.normal(size=(len(ids), dim))
    unit_ND = (noisy_ND / np.linalg.norm(noisy_ND, axis=1, keepdims=True)).astype(np.float16)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(unit_ND.ravel()), dim)
    schema = embeddings_schema(dim)
    table = pa.Table.from_arrays([ids, vectors], schema=schema)
    Table(workspace.store, f"embeddings/{encoder_id}", schema).append(table)


def _measure(root: Path) -> None:
    """Run a night in this process; print how many it labelled, its two peaks in MB, and CPU seconds."""
    workspace = open_workspace(root)
    result = predict(workspace)
    predict_mb = _peak_mb()
    after_night(workspace, result)
    assert result.prelabelled == result.predicted
    print(result.predicted, predict_mb, _peak_mb(), cpu_seconds())


def _peak_mb() -> float:
    # Not ru_maxrss: what forked this process counts in it.
    status = Path("/proc/self/status").read_text()
    return int(next(x.split()[1] for x in status.splitlines() if x.startswith("VmHWM"))) / 1024


if __name__ == "__main__":
    main()
