"""The whole line in one file: from a small site on this machine to a nightly prediction.

Read it from top to bottom to see what cratedig does. Everything here is what a user would do with
the commands, on a site that the demo serves itself. Each step may be killed at any instant and the
demo run again: what was done is found done.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from flows.collect import CollectResult
from flows.errors import Permanent
from flows.predictions import predicted, published
from flows.project import Project
from flows.records import is_done
from flows.registry import Registry
from flows.review import Answered, apply_decisions
from flows.rows import Answer
from flows.train import TrainResult, report_text
from flows.workspace import Workspace, open_workspace
from infra.demo.draw import FIRST_DEMO_SEED, Kind, draw
from infra.demo.pictures import DemoPicture, encode
from infra.demo.site import build_site
from infra.local import LocalStack, Part
from infra.store import free_ports
from model.encoder import EncoderConfig, encoder_id
from model.metrics import Evaluation, evaluate

RUN_ID = "demo"
"""The demo is one run: a step that has ended under this id is not done again."""

SEED = 0
JPEG_QUALITY = 88
REVIEWER = "demo-reviewer"

SHOP_DRAWINGS: dict[Kind, int] = {"vinyl": 32, "turntable": 28, "both": 26, "neither": 34}
ARRIVAL_DRAWINGS: dict[Kind, int] = {"vinyl": 16, "turntable": 14, "both": 14, "neither": 16}
SHOP_PHOTOS = 100
"""Of a folder of photographs, about as many are trained on; the others arrive afterwards."""

STEPS = 9

WORKER_READY_WITHIN_S = 120.0
NIGHT_WITHIN_S = 300.0

_PROJECT = """\
# Written by `cratedig demo`. Compare `cratedig init`, which writes one with every setting explained.

name = "demo"
contact = "mailto:demo@localhost"

[encoder]
checkpoint = {checkpoint}

[[labels]]
name = "turntable"
prompts = ["a turntable, a record player", "a photo of a record player", "a turntable"]

[[labels]]
name = "vinyl"
prompts = ["a vinyl record, a disc", "a photo of a vinyl record", "a black vinyl record"]

[[sources]]
name = "shop"
start = ["{site}/"]
browser = "auto"
schedule = "0 2 * * *"
allow_private = true  # the demo's site is on this machine

[[sources]]
name = "arrivals"
start = ["{site}/arrivals/"]
schedule = "30 2 * * *"
allow_private = true

[limits]
delay_s = 0.0  # nobody else is on this site

[prelabel]
schedule = "0 3 * * *"

[train]
schedule = "0 4 * * *"

[predict]
schedule = "0 5 * * *"
"""


def demo_root(here: Path, photos: Path | None, clip: Path | None) -> Path:
    """Return the folder that the demo lives in: one for each choice of pictures and CLIP."""
    chosen = [path.resolve().name for path in (photos, clip) if path is not None]
    return here / ".cratedig" / "-".join(["demo", *chosen])


def run_demo(here: Path, *, photos: Path | None = None, clip: Path | None = None) -> None:
    """Run the whole line below `here`, and print what came of it and where it all is."""
    root = demo_root(here, photos, clip)
    checkpoint = (clip or Path(__file__).parents[1] / "infra" / "demo" / "weights").resolve()
    narrator = _Narrator(root)

    # A CLIP that is not there is said now, not when everything else has been done.
    encoder_id(EncoderConfig(checkpoint=checkpoint))

    with narrator.step("draw", "Build the demo's site"):
        shop, arrivals = _photographs(photos) if photos else _drawings()
        build_site(root / "site", shop=shop, arrivals=arrivals, seed=SEED)
        site = _write_project(root, checkpoint)
        narrator.say(f"{len(shop)} pictures to train on, {len(arrivals)} to arrive later")

    with narrator.step("start", "Start the local stack (store, Prefect, worker, studio, site)"):
        addresses = LocalStack(root).up(extra=(_site_part(root, site),), on_progress=narrator.say)
        # Prefect reads its address when it is imported, and the flows find the project by this.
        os.environ["PREFECT_API_URL"] = addresses["prefect"].rstrip("/") + "/api"
        os.environ["CRATEDIG_PROJECT"] = str(root)
        # The demo tells its own story on stderr; Prefect's is in its pages.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
        from flows import runs

    workspace = open_workspace(root)
    truth = _truth(root, site)

    with narrator.step("collect", "Crawl the shop, fetch, reject, drop duplicates"):
        narrator.recall(workspace, "collect-shop")
        collected = runs.collect_flow("shop", run_id=RUN_ID)
        narrator.say(str(collected))

    with narrator.step("prelabel", "Embed with CLIP and pre-label"):
        narrator.recall(workspace, "prelabel")
        prelabelled = runs.prelabel_flow(run_id=RUN_ID)
        narrator.say(str(prelabelled))

    with narrator.step("review", "Apply the reviewer's decisions"):
        decisions = list(_decisions(truth, "shop", workspace.project.taxonomy().names))
        _write_decisions(root / "decisions.csv", decisions)
        narrator.say(str(apply_decisions(workspace, decisions, who=REVIEWER)))

    with narrator.step("train", "Train, judge on unseen pictures, promote"):
        trained = runs.train_flow()
        narrator.say(str(trained))

    with narrator.step("arrivals", "New pictures arrive: crawl them"):
        narrator.recall(workspace, "collect-arrivals")
        arrived = runs.collect_flow("arrivals", run_id=RUN_ID)
        narrator.say(str(arrived))

    with narrator.step("predict", "Nightly prediction, by the worker"):
        narrator.say(_run_nightly(workspace, trained.version))

    with narrator.step("result", "Compare with what is really on the pictures"):
        seconds = {name: took for name, took in narrator.seconds.items() if name != "result"}
        result = _result(workspace, truth, collected, arrived, trained, addresses, seconds)
        _write_json(root / "result.json", result)
    _closing_screen(root, result, trained)


def _drawings() -> tuple[list[DemoPicture], list[DemoPicture]]:
    """Draw the pictures of the shop and of the arrivals; none of them trained the demo's CLIP."""
    kinds: list[tuple[str, Kind]] = [
        (part, kind)
        for part, wanted in (("shop", SHOP_DRAWINGS), ("arrivals", ARRIVAL_DRAWINGS))
        for kind, count in wanted.items()
        for _ in range(count)
    ]
    pictures: dict[str, list[DemoPicture]] = {"shop": [], "arrivals": []}
    for seed, (part, kind) in enumerate(kinds, start=FIRST_DEMO_SEED):
        drawing = draw(seed, kind)
        pictures[part].append(
            DemoPicture(
                name=f"item-{seed}",
                labels=drawing.labels,
                jpeg=encode(drawing.image, quality=JPEG_QUALITY),
            )
        )
    shuffled = random.Random(SEED)
    for each in pictures.values():
        shuffled.shuffle(each)
    return pictures["shop"], pictures["arrivals"]


def _photographs(folder: Path) -> tuple[list[DemoPicture], list[DemoPicture]]:
    """Take `images/` and `labels.csv`: about SHOP_PHOTOS to train on, the rest to arrive later.

    Every combination of labels is divided alike. Two copies of one photograph stay together.
    """
    table = folder / "labels.csv"
    if not table.exists():
        raise Permanent(f"{folder} has no labels.csv: it needs images/ and labels.csv beside it")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_labels: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_labels.setdefault(row["labels"], []).append(row)
    chosen = random.Random(SEED)
    shop_names: set[str] = set()
    for _, group in sorted(by_labels.items()):
        chosen.shuffle(group)
        share = round(len(group) * SHOP_PHOTOS / len(rows))
        shop_names.update(row["filename"] for row in group[:share])
    shop: list[DemoPicture] = []
    arrivals: list[DemoPicture] = []
    for row in rows:
        copy_of = row.get("duplicate_of_source") or row["filename"]
        part = shop if {row["filename"], copy_of} & shop_names else arrivals
        part.append(
            DemoPicture(
                name=Path(row["filename"]).stem,
                labels=tuple(filter(None, row["labels"].split(";"))),
                jpeg=(folder / "images" / row["filename"]).read_bytes(),
            )
        )
    return shop, arrivals


def _write_project(root: Path, checkpoint: Path) -> str:
    """Write project.toml unless it is there; return the address of the demo's site.

    The port is chosen once: an address that changed would make every picture a new one.
    """
    path = root / "project.toml"
    if not path.exists():
        (port,) = free_ports(1)
        text = _PROJECT.format(
            checkpoint=json.dumps(str(checkpoint)), site=f"http://127.0.0.1:{port}"
        )
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return Project.load(root).sources[0].start[0].rstrip("/")


def _site_part(root: Path, site: str) -> Part:
    port = int(site.rpartition(":")[2])
    command = (sys.executable, "-m", "infra.demo.site", "--folder", str(root / "site"))
    return Part(
        name="site", command=(*command, "--port", str(port)), port=port, health_path="/robots.txt"
    )


def _truth(root: Path, site: str) -> dict[str, dict[str, Any]]:
    """Return what is really on each picture, by its address; planted duplicates left out."""
    pictures = json.loads((root / "site" / "truth.json").read_text(encoding="utf-8"))["pictures"]
    return {
        site + picture["path"]: picture for picture in pictures if picture["duplicate_of"] is None
    }


def _decisions(
    truth: Mapping[str, Mapping[str, Any]], part: str, labels: Sequence[str]
) -> Iterator[Answered]:
    """Answer every label of every picture of `part`, as its reviewer would."""
    for address, picture in truth.items():
        if picture["part"] == part:
            for label in labels:
                answer: Answer = "yes" if label in picture["labels"] else "no"
                yield Answered(image=address, label=label, answer=answer)


def _write_decisions(path: Path, decisions: Sequence[Answered]) -> None:
    """Keep the decisions as the file that `cratedig review --apply` takes."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "answer"])
        writer.writerows((each.image, each.label, each.answer) for each in decisions)


def _run_nightly(workspace: Workspace, version: str) -> str:
    """Ask Prefect for a run of `predict/nightly`, as its schedule does, and await its end."""
    waiting = workspace.catalog.permitted() - predicted(workspace.store, version)
    if not waiting:
        return "every picture had been labelled by this model; nothing was done twice"
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import FlowRun
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    deadline = time.monotonic() + WORKER_READY_WITHIN_S
    with get_client(sync_client=True) as client:
        while True:
            try:
                client.read_deployment_by_name("predict/nightly")
                break
            except ObjectNotFound as error:
                if time.monotonic() > deadline:
                    raise Permanent(
                        "the worker has not registered its deployments; see its log, which "
                        "`cratedig status` names"
                    ) from error
                time.sleep(0.5)
    ran = run_deployment(
        "predict/nightly", timeout=NIGHT_WITHIN_S, poll_interval=0.5, as_subflow=False
    )
    # Outside an event loop Prefect answers at once, with no coroutine to await.
    flow_run = cast("FlowRun", ran)
    if flow_run.state is None or not flow_run.state.is_completed():
        raise Permanent(f"the nightly run {flow_run.name} did not complete; see it in Prefect")
    return f"labelled {len(waiting)} pictures in flow run {flow_run.name}"


def _result(
    workspace: Workspace,
    truth: Mapping[str, Mapping[str, Any]],
    collected: CollectResult,
    arrived: CollectResult,
    trained: TrainResult,
    addresses: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return everything that result.json holds and the closing screen shows."""
    both = (collected, arrived)
    rejected = sum((Counter(each.rejected) for each in both), Counter())
    unseen, predictions = _judge_arrivals(workspace, truth, trained)
    return {
        "links": sum(each.links for each in both),
        "fetched": sum(each.fetched for each in both),
        "kept": sum(each.kept for each in both),
        "duplicates": sum(each.duplicates for each in both),
        "rejected": dict(sorted(rejected.items())),
        "sources": {each.source: dataclasses.asdict(each) for each in both},
        "model": {
            "version": trained.version,
            "snapshot": trained.snapshot_id,
            "promoted": trained.verdict.promoted,
            "promotions": Registry(workspace.store, workspace.project.name).promotions(),
            "evaluation": dataclasses.asdict(trained.card.evaluation),
        },
        "zero_shot": dataclasses.asdict(_judge_prelabels(workspace, truth)),
        "unseen": dataclasses.asdict(unseen),
        "predictions": predictions,
        "seconds": dict(seconds),
        "addresses": {**addresses, "bucket": workspace.store.uri("")},
    }


def _judge_prelabels(workspace: Workspace, truth: Mapping[str, Mapping[str, Any]]) -> Evaluation:
    """Judge CLIP's zero-shot scores at 0.5 on the shop's pictures, before any training."""
    scores = {(row.sha256, row.label): row.score for row in workspace.catalog.prelabels()}
    return _judge(workspace, truth, "shop", scores, dict.fromkeys(_labels(workspace), 0.5))


def _judge_arrivals(
    workspace: Workspace, truth: Mapping[str, Mapping[str, Any]], trained: TrainResult
) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Judge the published predictions on pictures that the model had never seen."""
    address_of = {row.sha256: row.url for row in workspace.catalog.links("arrivals")}
    scores: dict[tuple[str, str], float] = {}
    thresholds: dict[str, float] = {}
    predictions: dict[str, dict[str, Any]] = {}
    for table in published(workspace.store, trained.version):
        for row in table.to_pylist():
            scores[row["sha256"], row["label"]] = row["score"]
            thresholds[row["label"]] = row["threshold"]
            address = address_of.get(row["sha256"], "")
            if address not in truth:
                continue
            shown = predictions.setdefault(
                address,
                {"url": address, "labels": [], "really": truth[address]["labels"], "scores": {}},
            )
            shown["scores"][row["label"]] = round(row["score"], 3)
            if row["answer"]:
                shown["labels"].append(row["label"])
    judged = _judge(workspace, truth, "arrivals", scores, thresholds)
    return judged, [predictions[address] for address in sorted(predictions)]


def _judge(
    workspace: Workspace,
    truth: Mapping[str, Mapping[str, Any]],
    part: str,
    scores: Mapping[tuple[str, str], float],
    thresholds: Mapping[str, float],
) -> Evaluation:
    """Compare scores with what is really on the pictures of `part`."""
    labels = _labels(workspace)
    sha256_of = {row.url: row.sha256 for row in workspace.catalog.links(part)}
    rows = [
        (sha256, picture["labels"])
        for address, picture in truth.items()
        if picture["part"] == part
        and (sha256 := sha256_of.get(address)) is not None
        and all((sha256, label) in scores for label in labels)
    ]
    return evaluate(
        np.array([[scores[sha256, label] for label in labels] for sha256, _ in rows], np.float32),
        np.array([[label in really for label in labels] for _, really in rows], np.float32),
        np.array([thresholds[label] for label in labels], np.float32),
        labels=labels,
        groups=[sha256 for sha256, _ in rows],
        seed=SEED,
    )


def _labels(workspace: Workspace) -> tuple[str, ...]:
    return workspace.project.taxonomy().names


def _write_json(path: Path, value: object) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _closing_screen(root: Path, result: Mapping[str, Any], trained: TrainResult) -> None:
    """Print what a person wants to know at the end, made from result.json's content."""
    rejected = ", ".join(f"{reason} {count}" for reason, count in result["rejected"].items())
    unseen, zero_shot = result["unseen"]["macro_f1"], result["zero_shot"]["macro_f1"]
    wrong = sum(each["labels"] != each["really"] for each in result["predictions"])
    addresses = result["addresses"]
    print(
        f"""
links {result["links"]} = kept {result["kept"]} + duplicates {result["duplicates"]} \
+ rejected {sum(result["rejected"].values())} ({rejected})

{report_text(trained.card)}

macro F1 of CLIP's pre-labels, before training  {_interval(zero_shot)}
macro F1 on {len(result["predictions"])} pictures that came later      {_interval(unseen)}
         ({wrong} of them not wholly right)

studio   {addresses["studio"]}
Prefect  {addresses["prefect"]}
bucket   {addresses["bucket"]} at {addresses["store"]} (keys: {root}/.cratedig/local.env)
result   {root}/result.json
stop it  cratedig demo --stop
"""
    )


def _interval(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


class _Narrator:
    """Says which step is being done, and keeps how long each took when it was really done."""

    def __init__(self, root: Path) -> None:
        self._path = root / "seconds.json"
        self._number = 0
        self.seconds: dict[str, float] = {}
        if self._path.exists():
            self.seconds = json.loads(self._path.read_text(encoding="utf-8"))

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Time a step; a step that is done again keeps the time of its first, real doing."""
        self._number += 1
        print(f"[{self._number}/{STEPS}] {title}", file=sys.stderr, flush=True)
        started = time.monotonic()
        yield
        took = round(time.monotonic() - started, 1)
        self.say(f"{took} s")
        self.seconds.setdefault(name, took)
        _write_json(self._path, self.seconds)

    def recall(self, workspace: Workspace, stage: str) -> None:
        """Say so when the run has done this stage before: it will only give its result again."""
        if is_done(workspace.store, RUN_ID, stage):
            self.say("done before; nothing is done twice")

    def say(self, text: str) -> None:
        """Print one line below the step's title."""
        print(f"      {text}", file=sys.stderr, flush=True)
