"""The card's page says everything, escapes what people wrote, needs nothing else, and reads well."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from model.checkpoint import TrainedModel
from model.facts import PictureFacts
from model.page import card_page
from model.report import held_out_targets, make_report
from model.train import TrainConfig, train
from tests.model.synthetic import draw_pictures, snapshot_of


def trained() -> TrainedModel:
    """A model of 90 pictures from two sites, one dark; every third small, every fifth blurred."""
    drawn = draw_pictures(90)
    snapshot = snapshot_of(drawn.targets)
    model = train(snapshot, drawn.embeddings, config=TrainConfig(repeats=1, resamples=100))
    facts = {
        sha256: PictureFacts(
            sha256=sha256,
            host="<b>dark</b>.example" if row % 2 else "bright.example",
            licence="",
            width=120 if row % 3 == 0 else 640,
            height=480,
            brightness=0.1 if row % 2 else 0.5,
            sharpness=10.0 if row % 5 == 0 else 300.0,
        )
        for row, sha256 in enumerate(snapshot.sha256s)
    }
    report = make_report(model, snapshot, drawn.embeddings, facts=facts)
    return dataclasses.replace(model, card=dataclasses.replace(model.card, report=report))


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return trained()


@pytest.fixture(scope="module")
def page(model: TrainedModel) -> str:
    targets = held_out_targets(model, snapshot_of(draw_pictures(90).targets))
    return card_page(model, targets, title="records & <i>more</i>")


def test_slices_are_measured_by_site_size_blur_and_darkness(model: TrainedModel) -> None:
    assert model.card.report is not None
    names = {each.name: each.pictures for each in model.card.report.slices}
    assert names["site bright.example"] == 45
    assert names["dark"] == 45
    assert names["small (under 224 pixels)"] == 30
    assert names["blurred"] == 18


def test_the_same_model_gives_the_same_page(model: TrainedModel, page: str) -> None:
    again = trained()
    targets = held_out_targets(again, snapshot_of(draw_pictures(90).targets))
    assert card_page(again, targets, title="records & <i>more</i>") == page


def test_what_people_wrote_is_escaped(page: str) -> None:
    assert "<b>dark</b>" not in page
    assert "<i>more</i>" not in page
    assert "&lt;b&gt;dark&lt;/b&gt;.example" in page


def test_the_page_fetches_nothing_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page.replace("xlink:", ""))


def test_the_page_reads_in_a_browser(page: str, tmp_path: Path) -> None:
    """Every diagram is drawn at its size, and nothing but a wide table is wider than the window."""
    path = tmp_path / "card.html"
    path.write_text(page)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.goto(path.as_uri())
        boxes = [each.bounding_box() for each in tab.locator("svg").all()]
        wide = tab.evaluate("document.documentElement.scrollWidth")
        said = tab.locator("body").inner_text()
        browser.close()
    assert len(boxes) == 2
    assert all(box is not None and box["height"] > 150 for box in boxes)
    assert wide <= 1200
    assert "What it is weak in" in said
    assert "about 40 more of label0 would bring recall" in said
    assert complaints == []
