"""Training, from stored embeddings to a promoted model with its report: small and large.

Small: 80 photographs, two labels, in an object store of its own on loopback; snapshot, training,
report, page, comparison with the champion and promotion, in a process that has trained before.
Large: 100,000 drawn embeddings of 512 numbers and 50 labels; snapshot in hand, report and page.
`--large 0` leaves the large one out.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import shutil
import time
from pathlib import Path
from statistics import median

from flows.imports import import_pictures
from flows.prelabel import prelabel
from flows.review import Answered, apply_decisions
from flows.settings import Settings
from flows.train import train
from flows.workspace import Workspace
from model.data import kin_groups
from model.facts import PictureFacts
from model.page import card_page
from model.report import held_out_targets, make_report
from model.train import TrainConfig
from model.train import train as train_model
from tests.bench.report import Row, cpu_seconds, shared_folder, write
from tests.bench.stored import loopback_store
from tests.flows.afternoon import open_project
from tests.model.synthetic import draw_pictures, snapshot_of

PHOTOGRAPHS = 80
RUNS = 5
LABELS = 50


def main() -> None:
    """Measure, print the table and write `.bench/train.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=100_000, help="pictures of the large set")
    large = parser.parse_args().large
    with loopback_store() as (folder, settings, _):
        rows = _small(_with_photographs(folder, settings))
    if large:
        rows += _large(large)
    write("train", rows, runs=RUNS, notes=f"the large set once; {os.cpu_count()} cores")


def _with_photographs(folder: Path, settings: Settings) -> Workspace:
    """Open a project on some photographs, embedded and decided as they really are."""
    source = shared_folder() / "data" / "turntable_vinyl"
    workspace = open_project(folder / "project", settings, shared_folder() / "weights" / "standin")
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        # Those with a label first, as somebody collects who wants them.
        rows = sorted(csv.DictReader(file), key=lambda row: row["labels"] == "")[:PHOTOGRAPHS]
    (folder / "photographs").mkdir()
    for row in rows:
        shutil.copy(source / "images" / row["filename"], folder / "photographs")
    import_pictures(workspace, str(folder / "photographs"))
    prelabel(workspace)
    apply_decisions(
        workspace,
        [
            Answered(
                image=f"archive:photographs/{row['filename']}",
                label=label,
                answer="yes" if label in row["labels"].split(";") else "no",
            )
            for row in rows
            for label in ("turntable", "vinyl")
        ],
        who="truth",
    )
    return workspace


def _small(workspace: Workspace) -> list[Row]:
    train(workspace)
    wall_s, cpu_s = [], []
    for seed in range(1, RUNS + 1):  # another seed is another snapshot, and another model
        workspace = _with_seed(workspace, seed)
        started, used = time.perf_counter(), cpu_seconds()
        assert train(workspace).trained
        wall_s.append(time.perf_counter() - started)
        cpu_s.append(cpu_seconds() - used)
    name = f"{PHOTOGRAPHS} photographs, 2 labels: snapshot to verdict, with report and page"
    return [
        Row(name=name, unit="s", value=median(wall_s), target=5, at_least=False),
        Row(name=name, unit="CPU s", value=median(cpu_s)),
    ]


def _with_seed(workspace: Workspace, seed: int) -> Workspace:
    training = workspace.project.train.model_copy(update={"seed": seed})
    project = workspace.project.model_copy(update={"train": training})
    return dataclasses.replace(workspace, project=project)


def _large(number: int) -> list[Row]:
    drawn = draw_pictures(number, LABELS, dim=512)
    snapshot = snapshot_of(drawn.targets)
    facts = {
        sha256: PictureFacts(
            sha256=sha256,
            host=f"site-{row % 20}.example",
            licence="",
            width=640,
            height=480,
            brightness=0.5,
            sharpness=300.0,
        )
        for row, sha256 in enumerate(snapshot.sha256s)
    }
    started, used = time.perf_counter(), cpu_seconds()
    kin_groups(snapshot.sha256s, drawn.embeddings, {})
    kin_s, kin_cpu_s = time.perf_counter() - started, cpu_seconds() - used
    model = train_model(snapshot, drawn.embeddings, config=TrainConfig(), text_LD=drawn.text)
    report = make_report(model, snapshot, drawn.embeddings, facts=facts, text_LD=drawn.text)
    page = card_page(model, held_out_targets(model, snapshot), title="large")
    assert report.slices
    assert "<svg" in page
    name = f"{number:,} pictures, {LABELS} labels: kin, training, report and page"
    return [
        Row(
            name=name,
            unit="s",
            value=time.perf_counter() - started,
            target=180,
            at_least=False,
        ),
        Row(name=name, unit="CPU s", value=cpu_seconds() - used),
        Row(name=f"{number:,} pictures: finding kin alone", unit="s", value=kin_s),
        Row(name=f"{number:,} pictures: finding kin alone", unit="CPU s", value=kin_cpu_s),
    ]


if __name__ == "__main__":
    main()
