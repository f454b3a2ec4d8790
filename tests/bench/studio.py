"""The studio at 100,000 pictures: the server's answers and memory, and a reviewer in Chromium.

The catalogue is synthetic (`labelling.catalogue`), in a SeaweedFS of its own; the studio is a process
of its own, as `cratedig studio` starts it. The reviewer is a script, and the rates are a keystroke
model's (Card, Moran and Newell 1980; the same for both ways): what the studio takes is measured,
what a person takes is assumed, K = 0.2 s a key and M seconds to see what a picture is.

Label Studio and FiftyOne, where they can be installed, are measured after it on the same machine, in
the same way (`tests.bench.rivals`): with fewer pictures, as they take minutes to take in 100,000. What
was imported into them is kept in .bench/rivals for the next run.

    make bench-studio                         five minutes; the first time, three more for importing
    RIVAL_PICTURES=100000 make bench-studio   rivals at the full size: ten minutes more the first time
                                              (4,000 at the least: 20 pages)
    PICTURES=20000 make bench-studio          quicker, and not what the targets are about
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Page, expect

from tests.bench.labelling.catalogue import LABELS, fill, number_of, truth_of, write_project
from tests.bench.labelling.keystrokes import (
    KEY_S,
    SEE_ONE_S,
    SEE_TILE_S,
    seconds_to_paint,
    watch_paints,
)
from tests.bench.labelling.serving import chromium, free_port, held_mb, p95_ms, server, until
from tests.bench.report import ROOT, Row, write
from tests.bench.rivals.beside import measured, with_rivals
from tests.bench.stored import loopback_store

PAGE = 200
PAGES = 20
ACCEPTS = 20
KEYS = 60

_HEADERS = {"x-cratedig-studio": "1"}


def main() -> None:
    """Measure, print the table and write `.bench/studio.json`."""
    count = int(os.environ.get("PICTURES", "100000"))
    with loopback_store() as (folder, settings, store):
        fill(store, count, decided=count // 2, embedded=False)
        root = folder / "project"
        write_project(root, settings)
        with _studio(root) as (address, server):
            rows = [_cold_open(address), *_server(address, server)]
        with _studio(root) as (address, server):
            rows += _browser(address)
            rows += _memory(server, "memory of the server, after the browser")
    theirs = int(os.environ.get("RIVAL_PICTURES", "20000"))
    found, missing = measured(theirs)
    lines = [
        f"Rivals with {theirs:,} pictures, the best in the table; p50 / p95:",
        *found,
        *missing,
    ]
    write(
        "studio",
        with_rivals(rows, found),
        runs=1,
        notes=f"{count:,} pictures, {count // 2:,} decisions; decisions an hour are of a keystroke "
        f"model: {KEY_S} s a key, {SEE_ONE_S} s a picture one by one, {SEE_TILE_S} s a tile, "
        "and the tool's measured time; pre-labels of 95 % precision.\n"
        + "\n".join(map(str, lines)),
    )


@contextmanager
def _studio(root: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield a fresh studio's address as soon as it listens, and its process."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with server(
        [sys.executable, "-m", "flows.studio", "--project", str(root), "--port", str(port)],
        ready=lambda: httpx.get(f"{address}/static/icon.svg").is_success,
        environment={"PYTHONPATH": str(ROOT)},
        log=root / "studio.log",
    ) as process:
        yield address, process


def _cold_open(address: str) -> Row:
    """From the first request to a studio that has read nothing to the Label page with its queue."""
    began = time.perf_counter()
    with httpx.Client(base_url=address, timeout=60) as client:
        until(lambda: client.get("/label").is_success)
        client.get("/api/queue", params={"label": LABELS[0], "limit": 60}).raise_for_status()
    took = time.perf_counter() - began
    return Row(name="cold open", unit="s", value=took, target=2.0, at_least=False)


def _server(address: str, server: psutil.Process) -> list[Row]:
    pages: list[float] = []
    whole: list[float] = []
    ones: list[float] = []
    accepts: list[float] = []
    cpu = sum(server.cpu_times()[:2])
    with httpx.Client(base_url=address, timeout=60) as client:
        after: dict[str, str] = {}
        for number in range(PAGES):
            began = time.perf_counter()
            query = {"label": LABELS[0], "order": "highest", "limit": str(PAGE), "holder": "bench"}
            queue = client.get("/api/queue", params={**query, **after}).json()
            pages.append(time.perf_counter() - began)
            for picture in queue["pictures"]:
                client.get(f"/pictures/{picture['sha256']}/thumbnail.jpg").raise_for_status()
            whole.append(time.perf_counter() - began)
            after = {"after": queue["next"]}
            if number < ACCEPTS:
                ones.append(_accept(client, queue["pictures"][:1], number))
                accepts.append(_accept(client, queue["pictures"], number))
    used = (sum(server.cpu_times()[:2]) - cpu) / PAGES
    return [
        _p95("page of 200 from the server, p95", pages, 150),
        _p95("the same with its 200 thumbnails, p95", whole, None),
        _p95("one answer, durable, p95", ones, None),
        _p95("accept 200, durable, p95", accepts, 300),
        Row(name="CPU of the server, a page shown and accepted", unit="ms", value=1000 * used),
        *_memory(server, "memory of the server"),
    ]


def _accept(client: httpx.Client, pictures: list[dict[str, str]], number: int) -> float:
    decisions = [
        {
            "id": f"bench-{number:04d}-{len(pictures)}-{place:04d}",
            "sha256": picture["sha256"],
            "label": LABELS[0],
            "answer": "yes" if truth_of(number_of(picture["sha256"])) else "no",
        }
        for place, picture in enumerate(pictures)
    ]
    began = time.perf_counter()
    answer = client.post("/api/decisions", json={"decisions": decisions}, headers=_HEADERS)
    took = time.perf_counter() - began
    if len(answer.raise_for_status().json()["saved"]) != len(decisions):
        raise RuntimeError("not every decision was saved")
    return took


def _browser(address: str) -> list[Row]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        began = time.perf_counter()
        page.goto(f"{address}/label?label={LABELS[0]}")
        expect(page.locator("#small")).to_be_visible(timeout=60_000)
        opened = time.perf_counter() - began
        paints, one_s = _one_by_one(page)
        grid_paints, burst_paints, grid_s = _in_the_grid(page, address)
    one, grid = 3600 / one_s, 3600 / grid_s
    return [
        Row(
            name="Label page open in Chromium, cold",
            unit="s",
            value=opened,
            target=2.0,
            at_least=False,
        ),
        _p95("key to paint one by one, p95", paints, 50),
        _p95("key to paint in the grid, p95", grid_paints, 50),
        _p95("the same, keys as fast as they can be sent, p95", burst_paints, None),
        Row(name="decisions an hour one by one", unit="", value=one, target=4660),
        Row(
            name="decisions an hour in the grid, times one by one",
            unit="",
            value=grid / one,
            target=3,
        ),
    ]


def _one_by_one(page: Page) -> tuple[list[float], float]:
    """Decide `KEYS` pictures; return seconds from key to paint, and seconds a decision takes."""
    watch_paints(page)
    for _ in range(KEYS):
        shown = page.locator("#small").get_attribute("src") or ""
        page.keyboard.press("y" if _shows(shown) else "n")
        page.wait_for_function(
            "before => document.getElementById('small').getAttribute('src') !== before", arg=shown
        )
        page.wait_for_function("() => document.getElementById('small').complete")
    expect(page.locator("#saving")).to_have_attribute("data-state", "saved", timeout=60_000)
    paints = seconds_to_paint(page)
    return paints, KEY_S + SEE_ONE_S + statistics.mean(paints)


def _in_the_grid(page: Page, address: str) -> tuple[list[float], list[float], float]:
    """Decide six pages; return the seconds from key to paint, and seconds a decision takes.

    From the highest score down nearly all are yes: to the last and "yes down to here", then to each
    exception by arrow keys and a flip, then the page is saved; until the next one is there. On three
    pages a key is pressed every `KEY_S` seconds, as by the person of the model, on three as fast as
    keys can be sent: the first and the second list.
    """
    paints: list[list[float]] = []
    modelled, decided = 0.0, 0
    for burst in (False, True):
        page.goto(f"{address}/label/grid?label={LABELS[0]}")
        expect(page.locator("#sheet .tile").first).to_be_focused(timeout=60_000)
        watch_paints(page)
        for _ in range(3):
            count, took = _decide_page(page, burst=burst)
            decided += count
            modelled += took
        expect(page.locator("#saving")).to_have_attribute("data-state", "saved", timeout=60_000)
        paints.append(seconds_to_paint(page))
    return paints[0], paints[1], modelled / decided


def _decide_page(page: Page, *, burst: bool) -> tuple[int, float]:
    """Return how many pictures the page had, and the seconds that the model and the studio take."""
    ids = page.evaluate(
        "() => [...document.querySelectorAll('#sheet .tile')].map(t => t.dataset.sha256)"
    )
    columns = page.evaluate(
        "() => { const t = [...document.querySelectorAll('#sheet .tile')];"
        " return t.findIndex(e => e.offsetTop !== t[0].offsetTop); }"
    )
    pressed = 0
    for key in _keys_for(ids, columns):
        page.keyboard.press(key)
        pressed += 1
        if not burst:
            time.sleep(KEY_S)
    last = ids[-1]
    began = time.perf_counter()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "last => { const t = document.querySelectorAll('#sheet .tile');"
        " return t.length > 0 && t[t.length - 1].dataset.sha256 !== last; }",
        arg=last,
    )
    waited = time.perf_counter() - began
    return len(ids), SEE_TILE_S * len(ids) + KEY_S * (pressed + 1) + waited


def _keys_for(ids: list[str], columns: int) -> Iterator[str]:
    """Yield the keys that answer a page rightly, from the first tile; arrows go the short way."""
    yield "End"
    yield "a"
    at = len(ids) - 1
    for wrong in reversed(
        [place for place, each in enumerate(ids) if not truth_of(number_of(each))]
    ):
        while at - columns >= wrong:
            yield "ArrowUp"
            at -= columns
        while at != wrong:
            yield "ArrowLeft" if at > wrong else "ArrowRight"
            at += -1 if at > wrong else 1
        yield "n"


def _shows(source: str) -> bool:
    found = re.search(r"[0-9a-f]{64}", source)
    if found is None:
        raise RuntimeError(f"no picture is shown: {source!r}")
    return truth_of(number_of(found.group()))


def _memory(server: psutil.Process, name: str) -> list[Row]:
    """What is resident, and what of it the system reads again from programs' files when it must."""
    files_mb = server.memory_info().shared / 1e6
    return [
        Row(name=name, unit="MB", value=held_mb(server), target=500, at_least=False),
        Row(name=f"{name}, of it mapped files", unit="MB", value=files_mb),
    ]


def _p95(name: str, seconds: list[float], target_ms: float | None) -> Row:
    return Row(name=name, unit="ms", value=p95_ms(seconds), target=target_ms, at_least=False)


if __name__ == "__main__":
    main()
