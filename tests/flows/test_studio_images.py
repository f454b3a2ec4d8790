"""The Images page in a real browser: scrolling over many pictures, selecting, and deciding."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from flows.decision_notes import RETRACTED, kind_of
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.studio_data import START, Drawn, fill, make_project, serving
from tests.waiting import until

COUNT = 10_500
"""Pictures of the large dataset; those that were drawn are its oldest."""

SHA256 = re.compile(r"[0-9a-f]{64}")
SAVED = "All decisions are saved."


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A served project with many pictures."""

    workspace: Workspace
    drawings: list[Drawn]
    address: str

    def answers(self, label: str) -> dict[str, str]:
        """What stands in the catalogue about `label`, by picture."""
        latest = self.workspace.catalog.latest_decisions().values()
        return {
            row.sha256: row.answer
            for row in latest
            if row.label == label and kind_of(row.note) != RETRACTED
        }


@pytest.fixture(scope="module")
def dataset(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dataset]:
    """More than 10,000 pictures; every test decides about a label of its own."""
    root = tmp_path_factory.mktemp("project")
    labels = [f"label-{number}" for number in range(6)]
    workspace = make_project(root, store_server, labels=labels)
    drawings = fill(workspace)
    model = drawings[1].row
    workspace.catalog.add_images(
        dataclasses.replace(
            model,
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
            format="webp" if number % 2 else "jpeg",
            width=100 + number % 50,
            height=100,
            added_at=START + timedelta(days=1, minutes=number),
        )
        for number in range(COUNT)
    )
    with serving(root) as address:
        yield Dataset(workspace, drawings, address)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser that has never been here; the page's script must not complain.

    Chromium itself notes a 503, which is how the studio says that it is still reading its tables.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text))
    yield opened
    context.close()
    assert [each for each in complaints if "503 (Service Unavailable)" not in each] == []


def open_images(page: Page, dataset: Dataset, query: str = "") -> Locator:
    """Open the Images page; return its tiles once the first are there."""
    page.goto(f"{dataset.address}/images?{query}")
    tiles = page.locator("#wall .tile")
    expect(tiles.first).to_have_attribute("data-sha256", SHA256)
    return tiles


def selected(page: Page) -> list[int]:
    """The positions that are selected, of the tiles that exist: all as of one moment."""
    chosen = page.locator("#wall .tile[aria-selected=true]")
    positions: list[int] = chosen.evaluate_all("all => all.map((tile) => +tile.dataset.position)")
    return positions


def expect_selected(page: Page, positions: list[int]) -> None:
    """Wait until those positions are selected, and no others."""
    until(lambda: selected(page) == positions)
    said = f"{len(positions)} selected" if positions else "None selected"
    expect(page.locator("#chosen")).to_have_text(said)


def tile(page: Page, position: int) -> Locator:
    """The tile at that position."""
    return page.locator(f"#tile-{position}")


def test_only_tiles_near_the_window_exist_at_both_ends_of_ten_thousand(
    page: Page, dataset: Dataset
) -> None:
    """The page is as high as all of them, so that its scroll bar tells the truth."""
    tiles = open_images(page, dataset)
    assert tiles.count() < 120
    rows = -(-(COUNT + 11) // 8)
    assert page.evaluate("document.documentElement.scrollHeight") > rows * 150
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    oldest = dataset.drawings[0].sha256
    expect(page.locator(f"#wall .tile[data-sha256='{oldest}']")).to_be_visible()
    assert tiles.count() < 120


def test_where_one_was_is_found_again_after_a_reload_and_after_going_back(
    page: Page, dataset: Dataset
) -> None:
    open_images(page, dataset)
    page.evaluate("scrollTo(0, 90000)")
    at = tile(page, 3960)
    expect(at).to_have_attribute("data-sha256", SHA256)
    seen = at.get_attribute("data-sha256") or ""
    page.wait_for_function("history.state !== null && history.state.position > 3900")
    page.reload()
    expect(tile(page, 3960)).to_have_attribute("data-sha256", seen)
    assert abs(page.evaluate("scrollY") - 90000) < 2
    page.goto(f"{dataset.address}/rejected")
    page.go_back()
    expect(tile(page, 3960)).to_have_attribute("data-sha256", seen)


def test_thumbnails_that_were_scrolled_past_are_not_asked_for(page: Page, dataset: Dataset) -> None:
    """From the top to the end in one leap: what lies between is never requested."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_images(page, dataset)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    oldest = dataset.drawings[0].sha256
    shown = page.locator(f"#wall .tile[data-sha256='{oldest}'] img")
    expect(shown).to_have_js_property("naturalWidth", 256)
    assert sum("thumbnail.jpg" in url for url in asked) < 250


def test_click_control_and_shift_select_one_more_and_a_run(page: Page, dataset: Dataset) -> None:
    open_images(page, dataset)
    tile(page, 2).click()
    expect_selected(page, [2])
    tile(page, 4).click(modifiers=["Control"])
    expect_selected(page, [2, 4])
    tile(page, 6).click(modifiers=["Shift"])
    expect_selected(page, [4, 5, 6])


def test_a_run_may_reach_beyond_what_has_been_loaded(page: Page, dataset: Dataset) -> None:
    open_images(page, dataset)
    tile(page, 0).click()
    page.evaluate("scrollTo(0, 20000)")
    tile(page, 880).click(modifiers=["Shift"])
    expect(page.locator("#chosen")).to_have_text("881 selected")


def test_a_lasso_selects_what_it_touches(page: Page, dataset: Dataset) -> None:
    """From within the first tile to within the second of the next row: a rectangle, not a run."""
    open_images(page, dataset)
    start, end = tile(page, 1).bounding_box(), tile(page, 10).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] + 20, end["y"] + 20, steps=4)
    expect(page.locator(".lasso")).to_be_visible()
    page.mouse.up()
    expect_selected(page, [1, 2, 9, 10])
    expect(page.locator(".lasso")).to_have_count(0)


def test_the_keyboard_moves_selects_extends_and_clears(page: Page, dataset: Dataset) -> None:
    open_images(page, dataset)
    for key in ("ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect_selected(page, [1])
    page.keyboard.press("Shift+ArrowDown")
    expect_selected(page, list(range(1, 10)))
    page.keyboard.press("Escape")
    expect_selected(page, [])
    page.keyboard.press("a")
    until(lambda: len(selected(page)) >= 16)
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    until(lambda: page.locator("#wall").get_attribute("aria-activedescendant") is not None)
    expect(tile(page, COUNT + 10)).to_be_in_viewport()


def test_enter_opens_the_picture(page: Page, dataset: Dataset) -> None:
    open_images(page, dataset, "order=oldest")
    page.keyboard.press("ArrowRight")
    sha256 = tile(page, 0).get_attribute("data-sha256")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/images/{sha256}")


def test_the_selection_gets_an_answer_that_can_be_taken_back_after_a_reload(
    page: Page, dataset: Dataset
) -> None:
    """What was decided before stands again, and not merely nothing."""
    open_images(page, dataset, "label=label-0")
    first, second = (tile(page, at).get_attribute("data-sha256") or "" for at in (0, 1))
    tile(page, 0).click()
    page.keyboard.press("n")
    until(lambda: dataset.answers("label-0") == {first: "no"})
    tile(page, 1).click(modifiers=["Shift"])
    expect_selected(page, [0, 1])
    page.keyboard.press("y")
    until(lambda: dataset.answers("label-0") == {first: "yes", second: "yes"})
    expect(tile(page, 1).locator(".yes")).to_have_text("yes")
    expect(page.locator("#saving")).to_contain_text(SAVED)
    page.reload()
    expect(tile(page, 1).locator(".yes")).to_have_text("yes")
    page.keyboard.press("z")
    until(lambda: dataset.answers("label-0") == {first: "no"})


def rows(dataset: Dataset, query: str) -> tuple[int, list[str]]:
    """How many pictures pass the filter, and the first of them."""
    answer = httpx.get(f"{dataset.address}/api/images?{query}", trust_env=False)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["total"], [each["sha256"] for each in body["pictures"]]


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("format=png", 11),
        ("format=webp", COUNT // 2),
        ("min_side=101", 11),
        ("max_side=100&min_side=&since=", COUNT),
        ("until=2026-01-02", 11),
        ("since=2026-01-05&until=2026-01-05", 60 * 24),
        ("show=grouped", 2),
        ("show=all", COUNT + 12),
    ],
)
def test_pictures_are_filtered_by_format_size_day_and_group(
    dataset: Dataset, query: str, total: int
) -> None:
    assert rows(dataset, query)[0] == total


def test_one_duplicate_group_is_listed_with_the_kept_picture(dataset: Dataset) -> None:
    kept, duplicate = dataset.drawings[0].sha256, dataset.drawings[-1].sha256
    total, found = rows(dataset, f"group={duplicate}")
    assert (total, set(found)) == (2, {kept, duplicate})


def test_a_list_holds_still_while_one_decides(dataset: Dataset) -> None:
    """Positions of the undecided stay what they were until the list is opened anew."""
    query = "label=label-1&answer=undecided"
    listed = httpx.get(f"{dataset.address}/api/images?{query}", trust_env=False).json()
    sha256 = listed["pictures"][0]["sha256"]
    decision = {"id": "holds-still", "sha256": sha256, "label": "label-1", "answer": "yes"}
    httpx.post(
        f"{dataset.address}/api/decisions",
        json={"decisions": [decision]},
        headers={"x-cratedig-studio": "1"},
        trust_env=False,
    )
    total, found = rows(dataset, f"{query}&listing={listed['listing']}")
    assert (total, found[0]) == (listed["total"], sha256)
    assert rows(dataset, query)[0] == listed["total"] - 1
