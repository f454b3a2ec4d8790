"""The way from a run in Prefect's pages to the studio's page for it, and back: all links are walked."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployments import deployments, table
from flows.project import Project
from flows.runs import (
    collect_flow,
    label_archive_flow,
    maintain_flow,
    predict_flow,
    prelabel_flow,
    sweep_flow,
    train_flow,
)
from flows.studio_links import OF_FLOW
from tests.flows.line import Line, drawings
from tests.flows.studio_data import serving
from tests.flows.test_cli import settings_of

pytestmark = pytest.mark.slow

_IN_MARKDOWN = re.compile(r"\]\((http[^)\s]+)\)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What Prefect's pages say of something that has run, or can be run."""

    name: str
    flow: str
    text: str

    def links(self, studio: str) -> list[str]:
        """Return where its links to that studio lead."""
        return [each for each in _IN_MARKDOWN.findall(self.text) if each.startswith(studio)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """A studio and a Prefect server that know of each other, after every flow has run once."""

    studio: str
    prefect: str
    artifacts: tuple[Shown, ...]
    deployments: tuple[Shown, ...]
    runs: dict[str, str]
    """The id of each flow's run."""


@pytest.fixture(scope="module")
def walked(
    line: Line, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Walked]:
    """The line's project, served; its flows have run on the real server."""
    folder = tmp_path_factory.mktemp("archive")
    for each in drawings(500, 1):
        (folder / f"{each.name}.jpg").write_bytes(each.jpeg)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings_of(line.workspace.settings).items():
            patch.setenv(name, value)
        patch.setenv("CRATEDIG_PROJECT", str(line.workspace.root))
        patch.setenv("CRATEDIG_PREFECT_API_URL", prefect_server)
        with serving(line.workspace.root) as studio, ThreadPoolExecutor(1) as thread:
            patch.setenv("CRATEDIG_STUDIO_URL", studio)
            with temporary_settings({PREFECT_API_URL: prefect_server}):
                # In a thread that no browser has put an event loop into.
                ran = thread.submit(copy_context().run, _run, line.workspace.root, studio, folder)
                yield dataclasses.replace(
                    ran.result(), studio=studio, prefect=prefect_server.removesuffix("/api")
                )


def _run(root: Path, studio: str, archive: Path) -> Walked:
    """Run every flow, register every deployment, and return what Prefect shows of them."""
    mark = uuid.uuid4().hex
    project = Project.load(root)
    with tags("cratedig", project.name, mark):
        collect_flow("shop", run_id="first")
        prelabel_flow()
        train_flow()
        predict_flow()
        maintain_flow()
        sweep_flow()
        label_archive_flow(str(archive), str(archive.with_name("answers")))
    for made in deployments(project, studio):
        made.apply()
    with get_client(sync_client=True) as client:
        ours = FlowRunFilter(tags=FlowRunFilterTags(all_=[mark]))
        flow_of = {
            run.id: client.read_flow(run.flow_id).name
            for run in client.read_flow_runs(flow_run_filter=ours)
        }
        artifacts = client.read_artifacts(flow_run_filter=ours)
        registered = [client.read_deployment_by_name(row.full_name) for row in table(project)]
        return Walked(
            studio="",
            prefect="",
            artifacts=tuple(
                Shown(
                    name=str(each.key),
                    flow=flow_of[each.flow_run_id],
                    text=f"{each.description}\n{each.data}",
                )
                for each in artifacts
                if each.flow_run_id is not None
            ),
            deployments=tuple(
                Shown(name=each.name, flow=row.flow.name, text=str(each.description))
                for each, row in zip(registered, table(project), strict=True)
            ),
            runs={flow: str(identity) for identity, flow in flow_of.items()},
        )


def _answers(links: list[str]) -> dict[str, int]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        return {each: client.get(each).status_code for each in sorted(set(links))}


def test_every_flow_has_pages_in_the_studio(line: Line) -> None:
    assert {row.flow.name for row in table(line.workspace.project)} <= OF_FLOW.keys()


def test_everything_that_a_run_shows_leads_to_the_studio(walked: Walked) -> None:
    """But for the list of what a sweep is about to delete, which its result follows."""
    assert {each.flow for each in walked.artifacts} == walked.runs.keys()
    without = [each.name for each in walked.artifacts if not each.links(walked.studio)]
    assert without == ["sweep-dry-run"]


def test_every_link_of_a_run_is_answered(walked: Walked) -> None:
    links = [link for each in walked.artifacts for link in each.links(walked.studio)]
    answers = _answers(links)
    assert len(answers) > 10
    assert set(answers.values()) == {200}, answers


def test_every_link_of_a_deployment_is_answered(walked: Walked) -> None:
    """Each describes itself, and then where to go on."""
    assert all(each.links(walked.studio) for each in walked.deployments)
    links = [link for each in walked.deployments for link in each.links(walked.studio)]
    answers = _answers(links)
    assert set(answers.values()) == {200}, answers


def test_without_the_studios_address_nothing_is_linked(line: Line) -> None:
    said = [made.description or "" for made in deployments(line.workspace.project)]
    assert all(said)
    assert not any("In the studio" in each for each in said)


@pytest.fixture
def page(browser: Browser, walked: Walked) -> Iterator[Page]:
    """A page that reaches the studio and the Prefect server, and nothing beyond."""
    context = browser.new_context()
    home = (walked.studio, walked.prefect)
    context.route(
        "**/*",
        lambda route: route.continue_() if route.request.url.startswith(home) else route.abort(),
    )
    yield context.new_page()
    context.close()


def test_a_link_in_prefects_pages_opens_the_studio(page: Page, walked: Walked) -> None:
    """As people meet it: a training run, one of its artifacts, and the link in what that says.

    The cards on the run's own page show the first paragraph alone, without its links.
    """
    page.goto(f"{walked.prefect}/runs/flow-run/{walked.runs['train']}")
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_role("link", name="model-report").click()
    page.wait_for_url(f"{walked.prefect}/artifacts/artifact/**")
    with page.expect_popup() as tab:  # Prefect opens other sites in a tab of their own
        page.get_by_role("link", name=re.compile("^Evaluation of ")).click()
    tab.value.wait_for_url(f"{walked.studio}/model?**")
    expect(tab.value.get_by_role("heading", level=1)).to_be_visible()


def test_every_link_in_the_studio_opens_its_page_of_prefect(page: Page, walked: Walked) -> None:
    """Prefect answers 200 to any path, so each page has to show what was asked for."""
    shown = {walked.prefect: "Dashboard"}
    page.goto(walked.studio)
    for link in page.locator(f"td a[href^='{walked.prefect}/runs/flow-run/']").all():
        shown[str(link.get_attribute("href"))] = link.inner_text()
    page.goto(f"{walked.studio}/sources")
    schedules = str(page.get_by_text("Schedules in Prefect").get_attribute("href"))
    shown[schedules] = "shop"
    for name in ("shop", "arrivals"):
        link = page.locator(f"[data-source={name}] a[href^='{walked.prefect}/deployments/']")
        shown[str(link.get_attribute("href"))] = name
    assert len(shown) > 4
    for address, name in shown.items():
        page.goto(address)
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
