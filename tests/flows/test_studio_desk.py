"""Decisions handed in: once each, whoever restarts, dies or writes beside the studio."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect, sync_playwright

from flows.decision_notes import id_of
from flows.studio import reader as reader_module
from flows.studio.desk import Desk, NewDecision
from flows.studio.reader import Reader, StillReading
from tests.conftest import RunningStore
from tests.flows.studio_data import decide, fill, make_project
from tests.waiting import until


def new(number: int, sha256: str, answer: str = "yes", label: str = "vinyl") -> NewDecision:
    return NewDecision(
        id=f"decision-{number:04d}",
        sha256=sha256,
        label=label,
        answer=answer,
    )


def test_a_decision_sent_again_after_a_restart_is_not_appended_twice(
    store_server: RunningStore, tmp_path: Path
) -> None:
    workspace = make_project(tmp_path, store_server)
    sha256 = fill(workspace)[0].sha256
    for _ in range(2):
        receipt = Desk(reader=Reader(tmp_path), reviewer="me").hand_in([new(1, sha256)])
        assert receipt.saved == ["decision-0001"]
    assert [id_of(row.note) for row in workspace.catalog.decisions()] == ["decision-0001"]


def test_the_view_has_what_was_handed_in_at_once_and_what_others_wrote_a_second_later(
    store_server: RunningStore, tmp_path: Path
) -> None:
    workspace = make_project(tmp_path, store_server)
    drawings = fill(workspace)
    reader = Reader(tmp_path)
    desk = Desk(reader=reader, reviewer="me")
    for number in range(3):
        desk.hand_in([new(number, drawings[number].sha256)])
        assert reader.recent().answer(drawings[number].sha256, "vinyl") == "yes"
    decide(workspace, drawings[4], "vinyl", "no")  # earlier than the others, by its time
    until(lambda: reader.view().answer(drawings[4].sha256, "vinyl") == "no")
    assert [reader.view().answer(each.sha256, "vinyl") for each in drawings[:3]] == ["yes"] * 3
    assert reader.view().decisions.decisions == 4


def test_pictures_that_come_later_keep_the_answers_and_scores_that_were_there(
    store_server: RunningStore, tmp_path: Path
) -> None:
    workspace = make_project(tmp_path, store_server)
    drawings = fill(workspace, count=6)
    decide(workspace, drawings[2], "vinyl", "no")
    reader = Reader(tmp_path)
    before = reader.view().score(drawings[3].sha256, "vinyl")
    fill(workspace, count=9)
    until(lambda: len(reader.view().pictures) > 6)
    assert reader.view().answer(drawings[2].sha256, "vinyl") == "no"
    assert reader.view().score(drawings[3].sha256, "vinyl") == before


def test_rows_are_given_whole_again_when_a_piece_of_the_table_is_gone(
    store_server: RunningStore, tmp_path: Path
) -> None:
    """As `cratedig forget` and `maintain` leave it."""
    workspace = make_project(tmp_path, store_server)
    drawings = fill(workspace)
    for number in range(3):
        decide(workspace, drawings[number], "vinyl", "yes", minutes=number)
    pieces = workspace.catalog.decisions_since(frozenset()).pieces
    decide(workspace, drawings[4], "vinyl", "yes", minutes=9)
    since = workspace.catalog.decisions_since(pieces)
    assert (since.whole, sum(each.num_rows for each in since.batches)) == (False, 1)
    workspace.catalog._decisions.delete(["sha256"], lambda row: row["sha256"] == drawings[0].sha256)
    since = workspace.catalog.decisions_since(pieces)
    assert (since.whole, sum(each.num_rows for each in since.batches)) == (True, 3)


def test_while_large_tables_are_read_the_page_says_how_far_that_is(
    store_server: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And shows itself when they have been."""
    fill(make_project(tmp_path, store_server))
    monkeypatch.setattr(reader_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(reader_module, "LARGE_ROWS", -1)
    reader = Reader(tmp_path)
    with pytest.raises(StillReading, match="rows so far"):
        reader.view()

    def read() -> bool:
        with suppress(StillReading):
            return len(reader.view().pictures) == 12
        return False

    until(read)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(root: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = ["--project", str(root), "--port", str(port)]
    studio = subprocess.Popen(
        [sys.executable, "-m", "flows.studio", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    def answers() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=20) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until(answers, timeout_s=120)
    return studio


@pytest.mark.slow
def test_a_killed_studio_loses_no_decision_that_showed_its_tick_and_saves_none_twice(
    store_server: RunningStore, tmp_path: Path
) -> None:
    """It is killed between keys, with decisions ticked, on their way and not sent at all."""
    executable = os.environ.get("CRATEDIG_CHROMIUM", "/usr/bin/chromium")
    if not Path(executable).exists():
        pytest.skip(f"{executable} does not exist: set CRATEDIG_CHROMIUM")
    workspace = make_project(tmp_path, store_server)
    fill(workspace)
    port = _free_port()
    studio = _start(tmp_path, port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/label?label=vinyl")
            expect(page.locator("#small")).to_be_visible(timeout=60_000)
            ticks = page.locator("#recent .state[data-state=saved]")
            for kill in range(2):
                page.keyboard.press("y")
                expect(ticks).to_have_count(1 + 3 * kill, timeout=60_000)
                page.keyboard.press("n")
                studio.send_signal(signal.SIGKILL)
                page.keyboard.press("y")
                studio.wait()
                ticked = ticks.count()
                rows = [row for row in workspace.catalog.decisions() if row.label == "vinyl"]
                assert len(rows) >= ticked
                studio = _start(tmp_path, port)
                expect(ticks).to_have_count(3 + 3 * kill, timeout=60_000)
            browser.close()
    finally:
        studio.kill()
        studio.wait()
    rows = [row for row in workspace.catalog.decisions() if row.label == "vinyl"]
    assert [row.answer for row in rows] == ["yes", "no", "yes"] * 2
    assert len({row.sha256 for row in rows}) == 6
