"""A small demo site, served for real, and the line run over it once for the tests of this room."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.catalog import Catalog
from flows.collect import CollectResult, collect
from flows.objects import ObjectStore
from flows.predict import PredictResult, predict
from flows.prelabel import PrelabelResult, prelabel
from flows.project import Project
from flows.review import Answered, apply_decisions
from flows.settings import Settings
from flows.train import TrainResult, train
from flows.workspace import Workspace
from infra.demo.draw import FIRST_DEMO_SEED, KINDS, draw
from infra.demo.pictures import DemoPicture, encode
from infra.demo.site import build_site

WEIGHTS = Path(__file__).parents[2] / "infra" / "demo" / "weights"

LABELS_ASKED = """
[[labels]]
name = "turntable"
prompts = ["a turntable, a record player"]

[[labels]]
name = "vinyl"
prompts = ["a vinyl record, a disc"]
"""
"""The demo's two labels as its encoder is best asked for them."""

PROJECT = f"""
name = "line"

[encoder]
checkpoint = {{checkpoint}}
{LABELS_ASKED}
[[sources]]
name = "shop"
start = ["{{site}}/"]
browser = "auto"
allow_private = true
schedule = "0 2 * * *"

[[sources]]
name = "arrivals"
start = ["{{site}}/arrivals/"]
allow_private = true

[limits]
delay_s = 0.0

[train]
repeats = 1
"""


def drawings(first: int, each: int) -> list[DemoPicture]:
    """Draw `each` pictures of every kind, from seed `first` on."""
    pictures = []
    for number, kind in enumerate(kind for kind in KINDS for _ in range(each)):
        drawing = draw(FIRST_DEMO_SEED + first + number, kind)
        pictures.append(
            DemoPicture(
                name=f"item-{first + number}",
                labels=drawing.labels,
                jpeg=encode(drawing.image, quality=88),
            )
        )
    return pictures


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a built site as the demo does, on a free port; give its address."""
    command = [sys.executable, "-m", "infra.demo.site", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found[0]
                    break
            else:
                raise AssertionError("the demo's site ended before it said where it is")
        finally:
            process.kill()


def workspace_at(root: Path, settings: Settings, site: str) -> Workspace:
    """Write a project for the site into `root`, and open it on the bucket of `settings`."""
    text = PROJECT.format(checkpoint=json.dumps(str(WEIGHTS)), site=site)
    (root / "project.toml").write_text(text)
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def answers(truth: dict[str, Any], site: str, part: str) -> list[Answered]:
    """Answer both labels of every distinct picture of a part of the site, as they really are."""
    return [
        Answered(
            image=site + picture["path"],
            label=label,
            answer="yes" if label in picture["labels"] else "no",
        )
        for picture in truth["pictures"]
        if picture["part"] == part and picture["duplicate_of"] is None
        for label in ("turntable", "vinyl")
    ]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The line after it ran: where, over what, and what each stage said of itself."""

    workspace: Workspace
    site: str
    truth: dict[str, Any]
    collected: CollectResult
    prelabelled: PrelabelResult
    trained: TrainResult
    arrived: CollectResult
    predicted: PredictResult


@contextmanager
def run_line(folder: Path, settings: Settings) -> Iterator[Line]:
    """Build and serve a site of 40 + 12 drawings and run every stage over it."""
    build_site(folder / "site", shop=drawings(0, 10), arrivals=drawings(100, 3), seed=1)
    truth = json.loads((folder / "site" / "truth.json").read_text())
    with served(folder / "site") as site:
        workspace = workspace_at(folder, settings, site)
        collected, _ = collect(workspace, "shop", run_id="first")
        prelabelled, _ = prelabel(workspace, run_id="first")
        apply_decisions(workspace, answers(truth, site, "shop"), who="test")
        trained = train(workspace)
        arrived, _ = collect(workspace, "arrivals", run_id="first")
        predicted = predict(workspace)
        yield Line(
            workspace=workspace,
            site=site,
            truth=truth,
            collected=collected,
            prelabelled=prelabelled,
            trained=trained,
            arrived=arrived,
            predicted=predicted,
        )
