"""Training by one button, in a real browser: in a process of the studio's, and on a real Prefect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from flows.models import promote_model
from flows.registry import Registry
from flows.train_job import FOLDER, TrainJobs, TrainRun
from tests.conftest import RunningStore
from tests.flows.judged import Judged
from tests.flows.studio_data import fill, make_project, serving
from tests.flows.test_studio_security import OURS
from tests.waiting import until


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.slow
def test_the_button_trains_and_shows_how_it_ended(page: Page, judged: Judged) -> None:
    """Pressed with changed settings, it makes another version; the run names it, and so does the list."""
    registry = Registry(judged.workspace.store, judged.workspace.project.name)
    before = set(registry.versions())
    path = judged.root / "project.toml"
    as_it_was = path.read_text()
    path.write_text(as_it_was.replace("repeats = 1", "repeats = 2"))
    with serving(judged.root) as address:
        page.goto(f"{address}/train")
        page.get_by_role("button", name="Train").click()
        run = page.locator("#runs li").first
        expect(run).to_have_attribute("data-state", "done", timeout=120_000)
        expect(run).to_contain_text("trained")
        (version,) = set(registry.versions()) - before
        expect(run.get_by_role("link", name="evaluate it")).to_have_attribute(
            "href", f"/model?version={version}"
        )
        expect(page.locator("#versions")).to_contain_text(version)
    path.write_text(as_it_was)
    promote_model(judged.workspace, judged.version)


@pytest.mark.slow
def test_advice_comes_from_the_check_of_the_command(page: Page, judged: Judged) -> None:
    with serving(judged.root) as address:
        page.goto(f"{address}/train")
        expect(page.locator("#advice")).to_contain_text("pictures with decisions", timeout=120_000)
        # Tests of other pages may have added pictures to the project before.
        expect(page.locator("#advice")).to_contain_text(re.compile("come from [12] sites?"))


@pytest.mark.slow
def test_a_run_that_fails_says_why_in_its_sentence(
    store_server: RunningStore, tmp_path: Path
) -> None:
    """The encoder of this project is nowhere to be had."""
    make_project(tmp_path, store_server)
    with serving(tmp_path) as address, httpx.Client(base_url=address, trust_env=False) as client:
        started = client.post("/api/train", json={}, headers=OURS, timeout=60)
        assert started.status_code == 202
        until(lambda: _runs(client)[0]["state"] != "running", timeout_s=120)
        assert _runs(client)[0]["state"] == "failed"
        assert "none-is-loaded-here" in _runs(client)[0]["said"]


def _runs(client: httpx.Client) -> list[dict[str, str]]:
    found: list[dict[str, str]] = client.get("/api/train/runs", timeout=60).json()["runs"]
    return found


def test_where_too_little_is_decided_there_is_nothing_to_press(
    page: Page, store_server: RunningStore, tmp_path: Path
) -> None:
    fill(make_project(tmp_path, store_server))
    with serving(tmp_path) as address:
        page.goto(f"{address}/train")
        expect(page.get_by_role("button", name="Train")).to_be_disabled()
        expect(page.locator('[data-label="vinyl"]')).to_contain_text("3 more yes, 3 more no")


def test_a_run_whose_process_is_gone_has_failed(tmp_path: Path) -> None:
    gone = TrainRun(id="gone", state="running", started_at="2026-01-02T03:04:05Z", pid=_no_pid())
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "gone.json").write_text(gone.model_dump_json())
    (found,) = TrainJobs(tmp_path).runs()
    assert found.state == "failed"
    assert "stopped before its end" in found.said


def test_an_address_that_would_be_a_second_header_is_refused(
    store_server: RunningStore, tmp_path: Path
) -> None:
    make_project(tmp_path, store_server)
    with serving(tmp_path) as address:
        answer = httpx.post(
            f"{address}/api/train",
            content=json.dumps({"mail_to": "a@b.example\nBcc: c@d.example"}),
            headers={**OURS, "content-type": "application/json"},
            trust_env=False,
        )
    assert answer.status_code == 422


def _no_pid() -> int:
    return max(psutil.pids()) + 100_000
