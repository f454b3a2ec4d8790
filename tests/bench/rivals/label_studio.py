"""Label Studio (Apache-2.0): its server with SQLite, as `label-studio start` runs it, and its pages.

Pictures are local files; a task has one prediction with a score. A page is what its Data Manager
asks for; accepting 200 is its action "Create Annotations From Predictions" on a selection, the
nearest that it has. One by one is its label stream: a key chooses, Ctrl+Enter submits.
No telemetry, no look for a newer version, no Sentry.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Browser, Page, expect

from tests.bench.labelling.catalogue import PRECISION
from tests.bench.labelling.keystrokes import KEY_S, SEE_ONE_S, seconds_to_paint, watch_paints
from tests.bench.labelling.serving import free_port, held_mb, server
from tests.bench.report import rival_python
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

PACKAGE = "label-studio==1.23.2"
KEYS = 30

_TITLE = "bench"
_MAIL, _PASSWORD = "bench@localhost.localdomain", "for-loopback-alone"
_TOKEN = "0123456789abcdef0123456789abcdef01234567"
_AT_ONCE = 5000
_CONFIGURATION = (
    '<View><Image name="picture" value="$image"/>'
    '<Choices name="label" toName="picture" choice="single">'
    '<Choice value="yes" hotkey="y"/><Choice value="no" hotkey="n"/></Choices></View>'
)


def measure(count: int, browser: Browser) -> Measured:
    """Return what Label Studio takes with `count` pictures.

    Raises `RivalUnavailable` if it cannot be installed.
    """
    python = rival_python("label-studio", PACKAGE)
    kept = KEPT / f"{PACKAGE.replace('==', '-')}-{count}"
    import_s = _import(python, kept, count)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        shutil.copytree(kept, data)
        with _serving(python, data) as (client, _):
            cookies = _sign_in(client.base_url)
        with _serving(python, data) as (client, process):
            queue = _queue(client)
            page, open_s = _open(browser, client, cookies, queue)
            paint_s, decision_s = _one_by_one(page)
            page.context.close()
            asked = _ask(client, queue)
            memory_mb = held_mb(process)
    return Measured(
        tool=PACKAGE.replace("==", " "),
        import_s=import_s,
        open_s=open_s,
        paint=Times.of(paint_s),
        decisions_an_hour=3600 / decision_s,
        memory_mb=memory_mb,
        **asked,
    )


@contextmanager
def _serving(python: Path, data: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    port = free_port()
    environment = {
        "HOME": str(data),  # it keeps some files there, besides those of its data folder
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(KEPT),
    }
    command: list[str | Path] = [
        *(python.with_name("label-studio"), "start", "--no-browser", "--data-dir", data),
        *("--internal-host", "127.0.0.1", "--port", str(port)),
        *("--username", _MAIL, "--password", _PASSWORD),
        *("--user-token", _TOKEN, "--enable-legacy-api-token"),
    ]
    with (
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Token {_TOKEN}"},
            timeout=600,
            follow_redirects=True,
        ) as client,
        server(
            command,
            ready=lambda: client.get("/health").is_success,
            environment=environment,
            log=data / "server.log",
        ) as process,
    ):
        yield client, process


def _import(python: Path, kept: Path, count: int) -> float:
    """Make `kept`, the data folder of a Label Studio with `count` tasks, if there is none yet.

    Returns the seconds that the import took, then or now.
    """
    took = kept / "import_s"
    if took.exists():
        return float(took.read_text())
    files = pictures(count)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    with _serving(python, kept) as (client, _):
        made = client.post(
            "/api/projects/", json={"title": _TITLE, "label_config": _CONFIGURATION}
        ).raise_for_status()
        project = made.json()["id"]
        client.post(
            "/api/storages/localfiles/",
            json={"project": project, "path": str(files), "use_blob_urls": True},
        ).raise_for_status()
        tasks = [_task(files, sha256, score) for sha256, score in scored(count)]
        began = time.perf_counter()
        for start in range(0, count, _AT_ONCE):
            client.post(
                f"/api/projects/{project}/import", json=tasks[start : start + _AT_ONCE]
            ).raise_for_status()
        import_s = time.perf_counter() - began
        client.post(
            "/api/dm/views/",
            json={"project": project, "data": {"title": "queue", "type": "grid", **_ORDERED}},
        ).raise_for_status()
    took.write_text(str(import_s))
    return import_s


_ORDERED = {
    "ordering": ["-tasks:predictions_score"],
    "filters": {"conjunction": "and", "items": []},
}


def _task(files: Path, sha256: str, score: float) -> dict[str, Any]:
    return {
        "data": {"image": f"/data/local-files/?d={files.name}/{sha256}.jpg"},
        "predictions": [
            {"score": score, "model_version": "m", "result": _answer(yes=score >= 0.5)}
        ],
    }


def _answer(*, yes: bool) -> list[dict[str, Any]]:
    return [
        {
            "from_name": "label",
            "to_name": "picture",
            "type": "choices",
            "value": {"choices": ["yes" if yes else "no"]},
        }
    ]


def _sign_in(address: httpx.URL) -> dict[str, str]:
    """Return the cookies of a browser that is signed in; they outlive the server."""
    client = httpx.Client(base_url=address, follow_redirects=True)
    form = client.get("/user/login/").raise_for_status()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
    if token is None:
        raise RuntimeError("Label Studio's page for signing in has no form")
    client.post(
        "/user/login/",
        data={"csrfmiddlewaretoken": token[1], "email": _MAIL, "password": _PASSWORD},
        headers={"Referer": str(form.url)},
    ).raise_for_status()
    return {each.name: each.value or "" for each in client.cookies.jar}


def _queue(client: httpx.Client) -> dict[str, int]:
    """Return the parameters by which the Data Manager asks for the queue."""
    (view,) = client.get("/api/dm/views/").raise_for_status().json()
    return {"project": view["project"], "view": view["id"]}


def _open(
    browser: Browser, client: httpx.Client, cookies: dict[str, str], queue: dict[str, int]
) -> tuple[Page, float]:
    """Return the page of the label stream, and the seconds until the grid first showed a picture."""
    address = str(client.base_url).rstrip("/")
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_cookies(
        [{"name": name, "value": value, "url": address} for name, value in cookies.items()]
    )
    page = context.new_page()
    data = f"{address}/projects/{queue['project']}/data?tab={queue['view']}"
    began = time.perf_counter()
    page.goto(data, wait_until="commit")
    page.wait_for_function(
        "() => [...document.images].some("
        "each => each.src.includes('local-files') && each.complete && each.naturalWidth > 0)",
        timeout=120_000,
    )
    open_s = time.perf_counter() - began
    page.goto(f"{data}&labeling=1", wait_until="commit")
    page.wait_for_function(_SHOWN, arg="", timeout=120_000)
    return page, open_s


_SHOWN = """
before => [...document.images].some(
  each => each.src.startsWith("blob:") && each.src !== before && each.complete && each.naturalWidth > 0)
"""
_SOURCE = "() => [...document.images].find(each => each.src.startsWith('blob:')).src"


def _one_by_one(page: Page) -> tuple[list[float], float]:
    """Submit `KEYS` tasks; return seconds from key to paint, and the seconds a decision takes.

    The prediction is chosen already, so that only a wrong one costs a key besides Ctrl+Enter. Both
    keys that choose are pressed on every picture for the paint alone.
    """
    watch_paints(page)
    waited: list[float] = []
    paint_s: list[float] = []
    for _ in range(KEYS):
        for key in ("n", "y"):
            page.keyboard.press(key)
            expect(page.locator(f"input[name={'yes' if key == 'y' else 'no'}]")).to_be_checked()
        paint_s = seconds_to_paint(page)
        shown = page.evaluate(_SOURCE)
        began = time.perf_counter()
        page.keyboard.press("Control+Enter")
        page.wait_for_function(_SHOWN, arg=shown, timeout=60_000)
        waited.append(time.perf_counter() - began)
    keys = 1 + (1 - PRECISION)
    return paint_s, keys * KEY_S + SEE_ONE_S + statistics.mean(waited)


def _ask(client: httpx.Client, queue: dict[str, int]) -> dict[str, Times]:
    """Ask for pages and their pictures, and answer; return the figures of `Measured` by name."""
    page_s, whole_s, one_s, accept_s = [], [], [], []
    for number in range(1, PAGES + 1):
        began = time.perf_counter()
        shown = client.get(
            "/api/tasks", params={**queue, "page": number, "page_size": PAGE}
        ).raise_for_status()
        page_s.append(time.perf_counter() - began)
        tasks = shown.json()["tasks"]
        if number <= PAGES_WITH_PICTURES:
            for task in tasks:
                client.get(task["data"]["image"]).raise_for_status()
            whole_s.append(time.perf_counter() - began)
        one, *others = [task["id"] for task in tasks if not task["is_labeled"]]
        one_s.append(
            _timed(client, f"/api/tasks/{one}/annotations/", {"result": _answer(yes=True)})
        )
        accept_s.append(
            _timed(
                client,
                f"/api/dm/actions/?id=predictions_to_annotations&project={queue['project']}",
                {
                    **_ORDERED,
                    "project": queue["project"],
                    "model_version": "m",
                    "selectedItems": {"all": False, "included": others},
                },
            )
        )
    return {
        "page": Times.of(page_s),
        "page_with_pictures": Times.of(whole_s),
        "one_answer": Times.of(one_s),
        "accept": Times.of(accept_s),
    }


def _timed(client: httpx.Client, path: str, body: dict[str, Any]) -> float:
    began = time.perf_counter()
    client.post(path, json=body).raise_for_status()
    return time.perf_counter() - began
