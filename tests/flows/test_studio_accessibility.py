"""Every page of the studio as axe, a keyboard and a layout that must hold still see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Browser, Page

from tests.conftest import RunningStore
from tests.flows.judged import Judged
from tests.flows.studio_data import fill, make_project, serving

PAGES = (
    "/",
    "/images",
    "/images/PICTURE",
    "/label",
    "/label/grid",
    "/label/clusters",
    "/label/labels",
    "/train",
    "/model",
    "/predict",
    "/duplicates",
    "/sources",
    "/rejected",
    "/nowhere",
)
"""What people see, and a page that is not there."""

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

MOST_SHIFT = 0.1
"""What https://web.dev/articles/cls calls good; a page that is shown to a designer has less."""

_SHIFTED = """
() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const each of list.getEntries()) sum += each.value;
  }).observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum)));
})
"""


@pytest.fixture(scope="module")
def full(judged: Judged) -> Iterator[str]:
    """A studio whose project has a model in production, and every picture decided."""
    with serving(judged.root) as address:
        yield address


@pytest.fixture(scope="module")
def waiting(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio whose pictures wait for decisions, one of them a duplicate; no model yet."""
    root = tmp_path_factory.mktemp("waiting")
    fill(make_project(root, store_server), count=30)
    with serving(root) as address:
        yield address


@pytest.fixture(scope="module")
def empty(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio whose project has no picture yet."""
    root = tmp_path_factory.mktemp("empty")
    make_project(root, store_server)
    with serving(root) as address:
        yield address


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio without a project: a page says what is the matter."""
    with serving(tmp_path_factory.mktemp("broken")) as address:
        yield address


Scheme = Literal["light", "dark"]


@pytest.fixture
def scheme() -> Scheme:
    """The colour scheme of `page`; a test may set another."""
    return "dark"


@pytest.fixture
def page(scheme: Scheme, browser: Browser) -> Iterator[Page]:
    """A desktop window in the light, a telephone's in the dark."""
    width = 1280 if scheme == "light" else 390
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    yield context.new_page()
    context.close()


def show(page: Page, address: str, path: str) -> str:
    """Open a page and wait until its scripts have fetched what they want; return its path."""
    if "PICTURE" in path:
        rows = httpx.get(f"{address}/api/images", params={"limit": 1}, trust_env=False).json()
        path = path.replace("PICTURE", rows["pictures"][0]["sha256"])
    page.goto(address + path)
    page.wait_for_load_state("networkidle")
    return path


def shift(page: Page) -> float:
    """Return the page's cumulative layout shift so far."""
    return float(page.evaluate(_SHIFTED))


def serious_findings(page: Page) -> list[str]:
    """Return what axe finds serious or critical, each with where and why."""
    found = Axe().run(page, options={"runOnly": WCAG, "resultTypes": ["violations"]}).response
    return [
        f"{page.url}: {rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("studio", "scheme"),
    [("full", "light"), ("full", "dark"), ("waiting", "dark"), ("empty", "light")],
)
def test_every_page_is_accessible_and_holds_still(
    studio: str, page: Page, request: pytest.FixtureRequest
) -> None:
    """No serious finding of axe's, no sideways scrolling, no layout shift, no failed script."""
    address = request.getfixturevalue(studio)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    for path in PAGES:
        if studio == "empty" and "PICTURE" in path:
            continue
        show(page, address, path)
        complaints += serious_findings(page)
        if shift(page) >= MOST_SHIFT:
            complaints.append(f"{path}: layout shift of {shift(page):.3f}")
        if overflow(page) > 0:
            complaints.append(f"{path}: {overflow(page)} px wider than the window")
    assert complaints == []


def test_a_page_of_a_project_that_cannot_be_read_is_accessible(page: Page, broken: str) -> None:
    page.goto(broken)  # it goes on asking, so the network is never idle
    assert serious_findings(page) == []


def test_the_sheet_of_keys_is_accessible_and_gives_the_focus_back(page: Page, empty: str) -> None:
    show(page, empty, "/images")
    page.locator("#open-help").focus()
    page.keyboard.press("?")
    assert serious_findings(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "open-help"


@pytest.mark.parametrize("path", ["/images", "/label/grid", "/model", "/train"])
def test_tab_reaches_every_control(browser: Browser, full: str, path: str) -> None:
    """All that can be pressed has the focus once, or arrow keys move within a set one of which has."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    show(page, full, path)
    controls = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, select, textarea")].filter((each) =>
          each.checkVisibility({ visibilityProperty: true }) && !each.disabled && each.tabIndex >= 0).length"""
    )
    reached = set()
    for _ in range(controls + 5):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => [...document.querySelectorAll("*")].indexOf(document.activeElement)"""
            )
        )
    page.context.close()
    assert len(reached - {-1, 0}) >= controls


def test_the_skip_link_leads_past_the_navigation(browser: Browser, full: str) -> None:
    page = browser.new_context().new_page()
    show(page, full, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    page.context.close()


def test_g_and_a_letter_lead_to_every_page_of_the_navigation(browser: Browser, full: str) -> None:
    page = browser.new_context().new_page()
    show(page, full, "/")
    links = page.locator(".top nav a").evaluate_all(
        "links => links.map((link) => [link.dataset.key, link.pathname])"
    )
    assert len({key for key, _ in links}) == len(links)
    for key, path in links:
        page.keyboard.press("g")
        with page.expect_navigation(url=f"{full}{path}"):
            page.keyboard.press(key)
        page.wait_for_load_state()
    page.context.close()
