"""The Sources page: what the last crawl gave, and pause and run now through a real Prefect server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, expect

from flows.deployments import deployments
from flows.prefect_api import PrefectServer
from flows.project import Project
from tests.conftest import RunningStore
from tests.flows.studio_data import Wire, fill, make_project, serving

OURS = {"x-cratedig-studio": "1"}


def point_at_prefect(root: Path, address: str | None) -> None:
    """Have the project's studio talk to that Prefect server, or to none."""
    path = root / ".cratedig" / "local.env"
    lines = [each for each in path.read_text().splitlines() if "PREFECT" not in each]
    if address is not None:
        lines.append(f"CRATEDIG_PREFECT_API_URL={address}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def alone(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio without a Prefect server."""
    root = tmp_path_factory.mktemp("project")
    fill(make_project(root, store_server))
    point_at_prefect(root, None)
    with serving(root) as address:
        yield address


def words(address: str) -> str:
    """The Sources page as people read it."""
    answer = httpx.get(f"{address}/sources", trust_env=False)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def test_a_source_shows_what_its_last_run_gave(alone: str) -> None:
    """Eight pictures, of which one is a duplicate of another source's, and three rejections."""
    text = words(alone)
    assert "7 kept 1 duplicate 11 links" in text
    assert "x robots tag consent 1 the answer says X-Robots-Tag: noai" in text


def test_a_source_that_project_toml_does_not_name_is_shown_all_the_same(alone: str) -> None:
    assert "archive not in project.toml" in words(alone)


def test_without_prefect_the_page_gives_the_command(alone: str) -> None:
    text = words(alone)
    assert "No Prefect server is set up" in text
    assert "cratedig crawl shop" in text
    answer = httpx.post(f"{alone}/api/sources/shop/run", headers=OURS, trust_env=False, json={})
    assert answer.status_code == 409
    assert "cratedig crawl shop" in answer.json()["detail"]


def test_a_prefect_server_that_does_not_answer_is_named(
    store_server: RunningStore, tmp_path: Path
) -> None:
    make_project(tmp_path, store_server)
    point_at_prefect(tmp_path, "http://127.0.0.1:9/api")
    with serving(tmp_path) as address:
        assert "The Prefect server at http://127.0.0.1:9/api does not answer" in words(address)
        overview = httpx.get(address, trust_env=False)
        assert "The Prefect server at http://127.0.0.1:9/api does not answer" in overview.text


def _deploy(root: Path, name: str) -> None:
    """Register the deployment of that source, as the worker does."""
    for each in deployments(Project.load(root)):
        if each.name == name:
            each.apply()


def _deployed_source(store_server: RunningStore, prefect_api: str, root: Path) -> str:
    """Make a project whose one source is deployed there; return the source's name."""
    make_project(root, store_server)
    point_at_prefect(root, prefect_api)
    name = f"shop-{uuid4().hex[:8]}"
    path = root / "project.toml"
    path.write_text(
        path.read_text().replace('"shop"', f'"{name}"').replace('"records"', f'"{name}"')
    )
    # In a thread without the browser's event loop: within one Prefect would answer with coroutines.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy_context().run, _deploy, root, name).result()
    return name


@pytest.mark.slow
def test_a_source_is_paused_resumed_and_run_through_prefect(
    store_server: RunningStore, prefect_api: str, tmp_path: Path, browser: Browser
) -> None:
    """What the buttons ask for is what the server has; the run is linked, and on the Overview."""
    name = _deployed_source(store_server, prefect_api, tmp_path)
    server = PrefectServer(api_url=prefect_api, pages_url=prefect_api.removesuffix("/api"))
    with serving(tmp_path) as address:
        page = browser.new_page()
        page.goto(f"{address}/sources")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        assert server.collectors(name)[name].paused
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        assert not server.collectors(name)[name].paused
        page.get_by_role("button", name="Run now").click()
        run = page.get_by_role("link", name="See it in Prefect")
        expect(run).to_have_attribute("href", re.compile(rf"{server.pages_url}/runs/flow-run/.+"))
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("pressed", ["Run now", "Pause"])
def test_what_prefect_does_not_take_is_said_beside_the_button(
    store_server: RunningStore, prefect_api: str, tmp_path: Path, browser: Browser, pressed: str
) -> None:
    """And the button can be pressed again."""
    _deployed_source(store_server, prefect_api, tmp_path)
    wire = Wire(prefect_api)
    point_at_prefect(tmp_path, f"{wire.endpoint}/api")
    with serving(tmp_path) as address:
        page = browser.new_page()
        page.goto(f"{address}/sources")
        button = page.get_by_role("button", name=pressed)
        expect(button).to_be_enabled()
        wire.cut()
        button.click()
        said = page.locator("[role=status].no")
        expect(said).to_contain_text(f"The Prefect server at {wire.endpoint}/api does not answer")
        expect(button).to_be_enabled()
        page.close()
