"""Labelling by keyboard, in a real browser, into a real bucket."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from flows.decision_notes import RETRACTED, kind_of
from flows.rows import DecisionRow
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.studio_data import (
    START,
    Drawn,
    Wire,
    decide,
    fill,
    make_project,
    serving,
    write_configuration,
)
from tests.waiting import until

SAVED = re.compile("All decisions are saved")


@dataclasses.dataclass(frozen=True)
class Project:
    """A served project; the studio reaches the store through a wire that can be cut."""

    workspace: Workspace
    drawings: list[Drawn]
    wire: Wire
    address: str
    untouched: list[str]
    """Labels about which nothing is decided yet."""


@dataclasses.dataclass(frozen=True)
class Desk:
    """The Label page of one label, in a browser; drawing 6 is shown, 7 and 5 follow."""

    project: Project
    label: str
    page: Page

    def decisions(self) -> list[DecisionRow]:
        """Every decision about this label in the catalogue, oldest first."""
        rows = self.project.workspace.catalog.decisions()
        return [row for row in rows if row.label == self.label]

    def answers(self) -> dict[int, str]:
        """The answers that stand in the catalogue about this label, by the drawing's index."""
        index_of = {drawn.sha256: index for index, drawn in enumerate(self.project.drawings)}
        latest = {row.sha256: row for row in self.decisions()}
        return {
            index_of[sha256]: row.answer
            for sha256, row in latest.items()
            if kind_of(row.note) != RETRACTED
        }

    def expect_shown(self, index: int) -> None:
        """Wait until that drawing is on the page."""
        path = f"/pictures/{self.project.drawings[index].sha256}/thumbnail.jpg"
        expect(self.page.locator("#small")).to_have_attribute("src", path)

    def expect_saved(self, count: int) -> None:
        """Wait until that many decisions bear a tick."""
        expect(self.page.locator("#recent .state[data-state=saved]")).to_have_count(count)


def sha256s(tiles: Locator) -> list[str]:
    """The pictures of those tiles: all as of one moment."""
    found: list[str] = tiles.evaluate_all("all => all.map((tile) => tile.dataset.sha256)")
    return found


@pytest.fixture(scope="module")
def project(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A studio with many labels, so that every test has one that nobody has touched."""
    root, prefix = tmp_path_factory.mktemp("project"), f"studio-{uuid4().hex[:12]}"
    labels = [f"label-{number}" for number in range(30)]
    workspace = make_project(root / "direct", store_server, prefix=prefix, labels=labels)
    drawings = fill(workspace)
    wire = Wire(store_server.endpoint)
    write_configuration(root / "wired", wire.endpoint, store_server, prefix, labels)
    with serving(root / "wired") as address:
        yield Project(workspace, drawings, wire, address, labels)
    wire.cut()


@pytest.fixture
def desk(browser: Browser, project: Project) -> Iterator[Desk]:
    """Eleven undecided pictures of a fresh label, and a browser that has never been here."""
    label = project.untouched.pop()
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{project.address}/label?label={label}&order=uncertain")
    desk = Desk(project, label, page)
    desk.expect_shown(6)
    yield desk
    context.close()
    assert [said for said in complaints if "Failed to load resource" not in said] == []


def test_a_tick_means_that_the_decision_is_in_the_catalogue(desk: Desk) -> None:
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    assert desk.answers() == {6: "yes"}


def test_y_n_and_u_answer_and_lead_to_the_next_most_uncertain_picture(desk: Desk) -> None:
    desk.page.keyboard.press("y")
    desk.expect_shown(7)
    desk.page.keyboard.press("n")
    desk.expect_shown(5)
    desk.page.keyboard.press("u")
    desk.expect_saved(3)
    assert desk.answers() == {6: "yes", 7: "no", 5: "unsure"}


def test_the_arrow_skips_without_deciding(desk: Desk) -> None:
    desk.page.keyboard.press("ArrowRight")
    desk.expect_shown(7)
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    assert desk.answers() == {7: "yes"}


def test_undo_of_a_first_answer_leaves_the_picture_undecided_and_shows_it_again(
    desk: Desk,
) -> None:
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    desk.page.keyboard.press("z")
    desk.expect_shown(6)
    until(lambda: desk.answers() == {})
    assert len(desk.decisions()) == 2  # nothing was taken out of the table


def test_undo_of_a_changed_answer_restores_the_one_before(desk: Desk) -> None:
    for key in ("y", "ArrowLeft", "n"):
        desk.page.keyboard.press(key)
    desk.expect_saved(2)
    desk.page.keyboard.press("z")
    until(lambda: desk.answers() == {6: "yes"})


def test_while_the_store_is_down_the_page_says_so_keeps_the_decisions_and_sends_them_later(
    desk: Desk,
) -> None:
    desk.project.wire.cut()
    for key in ("y", "n"):
        desk.page.keyboard.press(key)
    saving = desk.page.locator("#saving")
    expect(saving).to_have_attribute("data-state", "failing", timeout=60_000)
    expect(saving).to_contain_text("2 decisions are kept in this browser")
    assert desk.answers() == {}
    desk.project.wire.mend()
    expect(saving).to_have_text(SAVED, timeout=60_000)
    assert desk.answers() == {6: "yes", 7: "no"}


def test_a_decision_that_could_not_be_sent_survives_a_reload(desk: Desk) -> None:
    desk.project.wire.cut()
    desk.page.keyboard.press("y")
    saving = desk.page.locator("#saving")
    expect(saving).to_have_attribute("data-state", "failing", timeout=60_000)
    desk.page.reload()  # the store is down: this shows the page that says so, and waits
    expect(desk.page.locator("#said")).to_contain_text(desk.project.wire.endpoint)
    desk.project.wire.mend()
    expect(desk.page.locator("#saving")).to_have_text(SAVED, timeout=60_000)
    until(lambda: desk.answers() == {6: "yes"})


def test_a_picture_can_be_decided_on_its_own_page(desk: Desk) -> None:
    desk.page.goto(f"{desk.project.address}/images/{desk.project.drawings[3].sha256}")
    group = desk.page.get_by_role("group", name=desk.label, exact=True)
    group.get_by_role("button", name="no", exact=True).click()
    until(lambda: desk.answers() == {3: "no"})


def test_the_question_mark_shows_the_keys_and_keys_do_not_decide_behind_it(desk: Desk) -> None:
    desk.page.keyboard.press("?")
    expect(desk.page.get_by_role("dialog")).to_contain_text("undo the last decision")
    desk.page.keyboard.press("y")
    desk.page.keyboard.press("?")
    expect(desk.page.get_by_role("dialog")).to_be_hidden()
    desk.expect_shown(6)


def test_arrow_keys_move_over_the_grid_and_enter_opens(desk: Desk) -> None:
    desk.page.goto(f"{desk.project.address}/images")
    expect(desk.page.locator("#tile-0")).to_be_visible()
    desk.page.keyboard.press("ArrowRight")
    desk.page.keyboard.press("ArrowRight")
    desk.page.keyboard.press("Enter")
    expect(desk.page).to_have_url(
        f"{desk.project.address}/images/{desk.project.drawings[9].sha256}"
    )


@dataclasses.dataclass(frozen=True)
class Sheet(Desk):
    """The grid of one label: its eleven undecided pictures, the highest score first."""

    @property
    def tiles(self) -> Locator:
        """The pictures of the page."""
        return self.page.locator("#sheet .tile")

    def shown(self) -> list[int]:
        """The indices of the drawings on the page."""
        ids = [drawn.sha256 for drawn in self.project.drawings]
        return [ids.index(each) for each in sha256s(self.tiles)]

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def sheet(desk: Desk) -> Sheet:
    """The same fresh label as on the desk, in the grid."""
    desk.page.goto(f"{desk.project.address}/label/grid?label={desk.label}")
    sheet = Sheet(desk.project, desk.label, desk.page)
    expect(sheet.tiles).to_have_count(11)
    return sheet


def test_in_the_grid_above_is_yes_below_is_no_and_a_click_flips(sheet: Sheet) -> None:
    shown = sheet.shown()
    sheet.press("ArrowRight", "ArrowRight", "a", "ArrowRight", "b")
    sheet.tiles.first.click()
    sheet.press("Enter")
    expect(sheet.tiles).to_have_count(0)
    expect(sheet.page.locator("#saving")).to_have_text(SAVED)
    answers = sheet.answers()
    assert [answers[index] for index in shown] == ["no", "yes", "yes"] + ["no"] * 8


def test_in_the_grid_nothing_is_saved_before_the_page_is(sheet: Sheet) -> None:
    """The one without an answer stays in the queue when the rest is saved."""
    left_out = sheet.shown()[-1]
    sheet.press("a", "ArrowRight", "b")
    assert sheet.decisions() == []
    sheet.tiles.last.focus()
    sheet.press("x", "Enter")
    expect(sheet.tiles).to_have_count(1)
    assert sheet.shown() == [left_out]
    assert len(sheet.answers()) == 10


def test_a_page_of_the_grid_is_taken_back_even_after_a_reload(sheet: Sheet) -> None:
    """Its pictures come again with the answers that they had, to be mended."""
    shown = sheet.shown()
    sheet.press("b", "Enter")
    expect(sheet.tiles).to_have_count(0)
    sheet.page.reload()
    expect(sheet.page.locator("#undo")).to_be_enabled()
    sheet.press("z")
    expect(sheet.page.locator("#sheet [data-answer=no]")).to_have_count(11)
    assert sheet.shown() == shown
    expect(sheet.page.locator("#saving")).to_have_text(SAVED)
    assert sheet.answers() == {}


def test_undo_works_after_a_reload_too(desk: Desk) -> None:
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    desk.page.reload()
    desk.expect_shown(7)
    desk.page.keyboard.press("z")
    desk.expect_shown(6)
    until(lambda: desk.answers() == {})


def test_decisions_bear_the_name_that_the_reviewer_gave(desk: Desk) -> None:
    desk.page.locator("#reviewer").fill("Ada L.")
    desk.page.locator("main h1").click()
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    assert [row.who for row in desk.decisions()] == ["Ada L."]


def test_a_disagreement_is_shown_with_who_said_what_and_settled_by_an_answer(desk: Desk) -> None:
    picture = desk.project.drawings[3]
    decide(desk.project.workspace, picture, desk.label, "yes")
    group = desk.page.get_by_role("group", name=desk.label, exact=True)
    said = group.get_by_role("button", name="yes", exact=True)

    def known() -> bool:
        desk.page.goto(f"{desk.project.address}/images/{picture.sha256}")
        return said.get_attribute("aria-pressed") == "true"

    # What others write into the bucket is known to the studio a second later at the latest.
    until(known)
    group.get_by_role("button", name="no", exact=True).click()
    until(lambda: desk.answers() == {3: "no"})
    desk.page.goto(f"{desk.project.address}/label?label={desk.label}&order=disputed")
    desk.expect_shown(3)
    expect(desk.page.locator("#said")).to_contain_text("somebody: yes")
    desk.page.keyboard.press("y")
    desk.expect_saved(1)
    assert desk.answers() == {3: "yes"}
    desk.page.reload()
    expect(desk.page.locator("#blank")).to_contain_text("Nothing waits")


def embed(desk: Desk) -> list[str]:
    """Have the drawings lie in two clusters, the even and the odd; return their ids."""
    random = np.random.default_rng(0)
    near = np.eye(2, 8)[[index % 2 for index in range(12)]] + 0.01 * random.normal(size=(12, 8))
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    ids = [each.sha256 for each in desk.project.drawings]
    desk.project.workspace.catalog.add_embeddings("near", ids, vectors)
    return ids


def test_a_cluster_is_decided_by_one_key_but_for_what_was_pulled_out(desk: Desk) -> None:
    """And taken back by another."""
    ids = embed(desk)
    desk.page.goto(f"{desk.project.address}/label/clusters?label={desk.label}")
    tiles = desk.page.locator("#sheet .tile")
    expect(tiles.first).to_be_focused()
    shown = [ids.index(each) for each in sha256s(tiles)]
    assert len({index % 2 for index in shown}) == 1
    desk.page.keyboard.press("ArrowRight")
    desk.page.keyboard.press("Space")
    desk.page.keyboard.press("y")
    until(lambda: desk.answers() == dict.fromkeys([shown[0], *shown[2:]], "yes"))
    desk.page.keyboard.press("z")
    until(lambda: desk.answers() == {})


def test_two_reviewers_are_not_shown_the_same_clusters(desk: Desk, browser: Browser) -> None:
    embed(desk)
    clusters = f"{desk.project.address}/label/clusters?label={desk.label}"
    desk.page.goto(clusters)
    tiles = desk.page.locator("#sheet .tile")
    expect(tiles.first).to_be_focused()
    desk.page.locator("#reviewer").fill("Anna")
    desk.page.reload()
    expect(tiles.first).to_be_focused()
    context = browser.new_context()
    colleague = context.new_page()
    colleague.goto(clusters)
    expect(colleague.locator("#blank")).to_contain_text(
        "The last 11 pictures are on the screen of Anna"
    )
    context.close()


def another_tab(desk: Desk, path: str = "/label") -> Page:
    """A second tab of the same reviewer on the same queue."""
    page = desk.page.context.new_page()
    page.goto(f"{desk.project.address}{path}?label={desk.label}&order=uncertain")
    return page


def duplicate(page: Page, address: str) -> Page:
    """A new tab with a copy of the storage of `page`, as "Duplicate tab" makes one."""
    with page.expect_popup() as opened:
        page.evaluate("(address) => void open(address)", address)
    return opened.value


def test_a_duplicated_tab_is_not_asked_what_its_original_is(desk: Desk) -> None:
    second = duplicate(desk.page, desk.page.url)
    expect(second.locator("#blank")).to_contain_text("The last 11 pictures are in another tab")
    desk.expect_shown(6)


def test_nor_is_one_that_was_duplicated_where_nothing_is_labelled(desk: Desk) -> None:
    queue, images = desk.page.url, f"{desk.project.address}/images"
    desk.page.goto(images)
    expect(desk.page.locator("main img").first).to_be_visible()
    second = duplicate(desk.page, images)
    expect(second.locator("main img").first).to_be_visible()
    desk.page.goto(queue)
    desk.expect_shown(6)
    second.goto(queue)
    expect(second.locator("#blank")).to_contain_text("The last 11 pictures are in another tab")


def test_a_tab_keeps_its_name_through_a_reload(desk: Desk) -> None:
    store = desk.project.workspace.store

    def tabs() -> list[str]:
        return list(json.loads(store.get(f"screens/{desk.label}.json")))

    before = tabs()
    assert len(before) == 1
    with desk.page.expect_response(re.compile("/api/queue[?]")):
        desk.page.reload()
    until(lambda: tabs() == before)


def test_what_teaches_most_is_asked_first_unless_told_otherwise(desk: Desk) -> None:
    desk.page.goto(f"{desk.project.address}/label?label={desk.label}")
    expect(desk.page.locator("#order")).to_have_value("teaching")


@pytest.mark.parametrize("path", ["/label", "/label/grid", "/label/clusters"])
def test_a_second_tab_is_told_who_has_the_rest_and_can_take_it_over(desk: Desk, path: str) -> None:
    embed(desk)
    second = another_tab(desk, path)
    expect(second.locator("#blank")).to_contain_text("The last 11 pictures are in another tab")
    second.locator("#take-over").click()
    first = f"/pictures/{desk.project.drawings[6].sha256}/thumbnail.jpg"
    expect(second.locator(f"main img[src='{first}']").first).to_be_visible()


def test_a_colleagues_name_is_said_when_the_rest_is_on_that_screen(desk: Desk) -> None:
    desk.page.locator("#reviewer").fill("Anna")
    desk.page.reload()
    desk.expect_shown(6)
    desk.page.locator("#reviewer").fill("Bob")
    second = another_tab(desk)
    expect(second.locator("#blank")).to_contain_text("on the screen of Anna")


def test_a_second_tab_goes_on_when_the_first_is_closed(desk: Desk) -> None:
    second = another_tab(desk)
    expect(second.locator("#take-over")).to_be_visible()
    desk.page.close(run_before_unload=True)
    first = f"/pictures/{desk.project.drawings[6].sha256}/thumbnail.jpg"
    expect(second.locator("#small")).to_have_attribute("src", first, timeout=20_000)


@pytest.mark.parametrize("path", ["/label", "/label/grid", "/label/clusters"])
def test_where_nothing_waits_a_picture_that_comes_back_appears_by_itself(
    desk: Desk, path: str
) -> None:
    """Another reviewer's answer is taken back, in the bucket alone: no studio is told."""
    embed(desk)
    catalog, picture = desk.project.workspace.catalog, desk.project.drawings[3]
    answered = [
        DecisionRow(
            sha256=each.sha256,
            label=desk.label,
            answer="unsure",
            who="somebody",
            at=START + timedelta(hours=1),
            score=None,
            note="",
        )
        for each in desk.project.drawings
    ]
    catalog.add_decisions(answered)

    def known() -> bool:
        queue = f"{desk.project.address}/api/queue?label={desk.label}"
        found = desk.page.request.get(queue).json()
        return bool(found["total"] == found["held"] == 0)

    until(known)
    desk.page.goto(f"{desk.project.address}{path}?label={desk.label}")
    expect(desk.page.locator("#blank")).to_have_text(
        f"Nothing waits for a decision about {desk.label}."
    )
    may_be_pressed = desk.page.locator("main [data-do]:not([data-do=undo]):enabled")
    expect(may_be_pressed).to_have_count(0)
    back = dataclasses.replace(answered[3], at=START + timedelta(hours=2), note=RETRACTED)
    catalog.add_decisions([back])
    shown = desk.page.locator(f"main img[src='/pictures/{picture.sha256}/thumbnail.jpg']")
    expect(shown.first).to_be_visible(timeout=30_000)
    expect(desk.page.locator("#waiting")).to_have_text("1")
    expect(may_be_pressed).not_to_have_count(0)
