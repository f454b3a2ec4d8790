"""The Duplicates page in a real browser, and that what is said there outlives every later search."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from crawler.decode import examine
from flows.catalog import Catalog
from flows.dedupe import mark_duplicates
from flows.forget import forget
from flows.rows import ImageRow
from flows.verdicts import merge, take_out
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.crawler.pictures import encoded, picture
from tests.flows.catalog_rows import image
from tests.flows.studio_data import Wire, make_project, serving, write_configuration

OURS = {"x-cratedig-studio": "1"}


@dataclasses.dataclass(frozen=True)
class Copies:
    """A served project: a picture, two smaller copies of it, and another picture."""

    workspace: Workspace
    original: str
    copies: tuple[str, str]
    other: str
    address: str
    wire: Wire
    """Between the studio and the store."""

    @property
    def catalog(self) -> Catalog:
        """Its catalogue."""
        return self.workspace.catalog


def _row(drawn: Image.Image, number: int) -> ImageRow:
    seen = examine(encoded(drawn, "JPEG", quality=90))
    fields = dataclasses.asdict(seen.fingerprint)
    fields["size"] = fields.pop("size_bytes")
    return dataclasses.replace(
        image(number), **fields, format=seen.format, thumbnail=seen.thumbnail
    )


@pytest.fixture
def project(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copies]:
    root = tmp_path_factory.mktemp("project")
    prefix, wire = f"studio-{uuid4().hex[:12]}", Wire(store_server.endpoint)
    workspace = make_project(root / "direct", store_server, prefix=prefix)
    write_configuration(root / "wired", wire.endpoint, store_server, prefix)
    whole = picture(1, (400, 300))
    drawn = [whole, whole.resize((300, 225)), whole.resize((200, 150)), picture(2)]
    rows = [_row(each, number) for number, each in enumerate(drawn)]
    workspace.catalog.add_images(rows)
    assert mark_duplicates(workspace.catalog).duplicates == 2
    original, larger, smaller, other = (each.sha256 for each in rows)
    with serving(root / "wired") as address:
        yield Copies(workspace, original, (larger, smaller), other, address, wire)
    wire.cut()


@pytest.fixture
def page(browser: Browser, project: Copies) -> Iterator[Page]:
    """The Duplicates page."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.goto(f"{project.address}/duplicates")
    yield opened
    context.close()


def search_again(project: Copies) -> dict[str, str]:
    """Look for duplicates as a crawl does, then all anew; what is marked must be the same."""
    mark_duplicates(project.catalog, anew=False)
    marked = project.catalog.duplicates()
    mark_duplicates(project.catalog, anew=True)
    assert project.catalog.duplicates() == marked
    return marked


def test_a_group_says_why_it_is_one(page: Page) -> None:
    why = page.locator(".member .why")
    expect(why).to_have_count(3)
    expect(why.first).to_have_text("kept")
    expect(why.last).to_contain_text("perceptual, pHash")


def test_what_is_taken_out_by_keyboard_stays_out_through_later_searches(
    page: Page, project: Copies
) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    taken = page.locator(".member").nth(1).get_attribute("data-sha256")
    page.keyboard.press("x")
    expect(page.locator(".member")).to_have_count(2)
    left = next(each for each in project.copies if each != taken)
    assert search_again(project) == {left: project.original}


def test_when_the_kept_one_is_taken_out_the_best_of_the_others_is_kept(project: Copies) -> None:
    take_out(project.catalog, project.original, who="me")
    assert search_again(project) == {project.copies[1]: project.copies[0]}


def test_pictures_that_were_merged_on_images_stay_together_through_later_searches(
    page: Page, project: Copies
) -> None:
    page.goto(f"{project.address}/images")
    page.locator(f"#wall [data-sha256='{project.original}']").click()
    page.locator(f"#wall [data-sha256='{project.other}']").click(modifiers=["Control"])
    page.keyboard.press("j")
    page.wait_for_url("**group=*")
    expect(page.locator("#total")).to_have_text("4 pictures")
    marked = search_again(project)
    assert len(marked) == 3
    assert len(set(marked.values())) == 1


def test_merging_again_takes_a_split_back(project: Copies) -> None:
    before = project.catalog.duplicates()
    take_out(project.catalog, project.copies[0], who="me")
    merge(project.catalog, [project.original, project.copies[0]], who="me")
    assert search_again(project) == before


def test_a_new_picture_that_is_like_both_does_not_bring_two_together(project: Copies) -> None:
    take_out(project.catalog, project.copies[0], who="me")
    larger = _row(picture(1, (400, 300)).resize((800, 600)), 9)
    project.catalog.add_images([larger])
    marked = search_again(project)
    group_of = {each: marked.get(each, each) for each in (project.original, project.copies[0])}
    assert group_of[project.original] != group_of[project.copies[0]]


@pytest.mark.parametrize("path", ["split", "merge"])
def test_what_cannot_be_is_refused_with_a_sentence(project: Copies, path: str) -> None:
    sent: dict[str, object] = (
        {"sha256": project.other} if path == "split" else {"sha256s": [project.other, "0" * 64]}
    )
    answer = httpx.post(
        f"{project.address}/api/duplicates/{path}", json=sent, headers=OURS, trust_env=False
    )
    assert answer.status_code == 409
    assert answer.json()["detail"]


def test_what_was_said_about_a_forgotten_picture_is_forgotten(project: Copies) -> None:
    take_out(project.catalog, project.copies[0], who="me")
    forget(project.workspace, sha256s=[project.copies[0]])
    assert project.catalog.verdicts() == []


def test_a_split_that_the_store_does_not_take_says_why_and_can_be_tried_again(
    page: Page, project: Copies
) -> None:
    split = page.locator("[data-do=split]").last
    project.wire.cut()
    split.click()
    saving = page.locator("#saving")
    expect(saving).to_have_attribute("data-state", "failing", timeout=60_000)
    expect(saving).to_contain_text(f"The store at {project.wire.endpoint} cannot be reached")
    expect(saving).to_contain_text("Then reload the page: it shows what stands.")
    project.wire.mend()
    expect(page.locator(".member")).to_have_count(3)
    split.click()
    expect(page.locator(".member")).to_have_count(2, timeout=30_000)
