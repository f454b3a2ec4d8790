"""Searching on the Images page, by words and by pictures, with the demo's encoder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from crawler.decode import decode, examine
from flows.encoders import EncoderSource
from flows.rows import ImageRow
from flows.workspace import open_workspace
from infra.demo.pictures import DemoPicture
from tests.conftest import RunningStore
from tests.flows.catalog_rows import image
from tests.flows.line import WEIGHTS, drawings
from tests.flows.studio_data import make_project, serving

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Shop:
    """A served project with a few embedded drawings."""

    pictures: dict[str, DemoPicture]
    """By sha256."""
    address: str


def _row(picture: DemoPicture, number: int) -> ImageRow:
    seen = examine(picture.jpeg)
    fields = dataclasses.asdict(seen.fingerprint)
    fields["size"] = fields.pop("size_bytes")
    return dataclasses.replace(
        image(number), **fields, format=seen.format, thumbnail=seen.thumbnail
    )


@pytest.fixture(scope="module")
def shop(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Four drawings of every kind."""
    root = tmp_path_factory.mktemp("project")
    make_project(root, store_server)
    path = root / "project.toml"
    encoder = f"[encoder]\ncheckpoint = {json.dumps(str(WEIGHTS))}\n"
    path.write_text(re.sub(r"\[encoder\]\n(.+\n)+", encoder, path.read_text()))
    workspace = open_workspace(root)
    drawn = drawings(0, 4)
    rows = [_row(each, number) for number, each in enumerate(drawn)]
    workspace.catalog.add_images(rows)
    source = EncoderSource(workspace)
    vectors = source.load().encode_images([decode(each.jpeg) for each in drawn])
    workspace.catalog.add_embeddings(source.id(), [each.sha256 for each in rows], vectors)
    pictures = {row.sha256: each for row, each in zip(rows, drawn, strict=True)}
    with serving(root) as address:
        yield Shop(pictures, address)


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    """The Images page, its first pictures there."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.goto(f"{shop.address}/images")
    expect(opened.locator("#total")).to_have_text(f"{len(shop.pictures)} pictures", timeout=30_000)
    yield opened
    context.close()


def first(page: Page) -> str:
    """The id of the picture that was found first."""
    expect(page.locator(".found")).to_be_visible()
    tile = page.locator("#tile-0")
    expect(tile).to_have_attribute("data-sha256", re.compile("[0-9a-f]{64}"))
    return tile.get_attribute("data-sha256") or ""


def test_words_find_what_they_name(page: Page, shop: Shop) -> None:
    page.keyboard.press("/")
    page.keyboard.type("a turntable, a record player")
    page.keyboard.press("Enter")
    assert "turntable" in shop.pictures[first(page)].labels


def test_more_like_the_selected_one_starts_with_itself(page: Page) -> None:
    tile = page.locator("#tile-5")
    sha256 = tile.get_attribute("data-sha256")
    tile.click()
    page.keyboard.press("f")
    page.wait_for_url("**like=*")
    assert first(page) == sha256
    expect(page.locator("#tile-0 .caption")).to_contain_text("1.00")


def test_a_picture_from_outside_finds_itself_in_the_dataset(
    page: Page, shop: Shop, tmp_path: Path
) -> None:
    sha256, picture = next(iter(shop.pictures.items()))
    file = tmp_path / "seen elsewhere.jpg"
    file.write_bytes(picture.jpeg)
    page.locator("#file").set_input_files(file)
    page.wait_for_url("**like=*")
    assert first(page) == sha256


def test_what_is_no_picture_is_refused_in_a_sentence(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#trouble")).to_contain_text("notes.txt is not a picture")
