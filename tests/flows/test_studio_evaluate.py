"""Evaluate in a real browser: the slider, a corrected label, thresholds put to use and taken back."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from flows.registry import Registry
from tests.flows.judged import Judged
from tests.flows.studio_data import serving
from tests.flows.test_studio_security import OURS
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(judged: Judged) -> Iterator[str]:
    """A studio of that project."""
    with serving(judged.root) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The Evaluate page of the version in production, its scores read."""
    page = browser.new_page()
    page.goto(f"{address}/model")
    expect(page.locator("#judged")).to_be_visible(timeout=60_000)
    yield page
    page.close()


def _registry(judged: Judged) -> Registry:
    return Registry(judged.workspace.store, judged.workspace.project.name)


def _counts(page: Page) -> dict[str, int]:
    return {name: int(page.inner_text(f"#{name}")) for name in ("tp", "fp", "fn", "tn")}


def _slide(page: Page, threshold: float) -> None:
    page.locator("#threshold").fill(str(threshold))
    expect(page.locator("#value")).to_have_text(f"{threshold:.3f}")


def test_the_slider_moves_everything_without_asking_the_studio(page: Page, judged: Judged) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    model = _registry(judged).load(judged.version)
    column = model.head.labels.index("turntable")
    for threshold in (0.001, 1.0):
        _slide(page, threshold)
        yes = int((model.out_of_fold_NL[:, column] >= threshold).sum())
        counts = _counts(page)
        assert (counts["tp"] + counts["fp"], sum(counts.values())) == (yes, len(model.sha256s))
        missed = page.locator("#false-negatives .total")
        expect(missed).to_have_text(str(counts["fn"]))
    assert [each for each in asked if "/thumbnail.jpg" not in each] == []


def test_a_wrong_label_is_corrected_by_a_key_and_taken_back_by_another(
    page: Page, judged: Judged
) -> None:
    _slide(page, 0.001)  # everything is a yes: all that was decided no is a false positive
    before = _counts(page)
    tile = page.locator("#false-positives .judged-tile").first
    sha256 = tile.get_attribute("data-sha256") or ""
    tile.focus()
    page.keyboard.press("y")
    assert _counts(page) == {**before, "tp": before["tp"] + 1, "fp": before["fp"] - 1}
    catalog = judged.workspace.catalog
    until(lambda: catalog.latest_decisions()[sha256, "turntable"].answer == "yes")
    page.keyboard.press("z")
    assert _counts(page) == before
    until(lambda: catalog.latest_decisions()[sha256, "turntable"].answer == "no")
    expect(page.get_by_text("All decisions are saved.")).to_be_visible()


def test_the_next_label_is_a_key_away(page: Page) -> None:
    page.keyboard.press("]")
    expect(page.get_by_role("tab", name="vinyl")).to_have_attribute("aria-selected", "true")


def test_thresholds_are_put_to_use_and_rolled_back(page: Page, judged: Judged) -> None:
    """Use makes a version with the same weights and promotes it; roll back brings the other back."""
    registry = _registry(judged)
    _slide(page, 0.25)
    page.get_by_role("button", name="Use these thresholds").click()
    page.get_by_role("button", name="Do it").click()
    page.wait_for_url("**/model?version=*", timeout=60_000)
    derived = registry.production()
    assert derived is not None
    assert derived != judged.version
    model, before = registry.load(derived), registry.load(judged.version)
    assert model.card.thresholds == {**before.card.thresholds, "turntable": 0.25}
    assert (model.head.weight_LD == before.head.weight_LD).all()
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Do it").click()
    page.wait_for_url(f"**/model?version={judged.version}", timeout=60_000)
    assert registry.production() == judged.version


def test_a_promotion_over_somebody_elses_is_refused(address: str, judged: Judged) -> None:
    answer = httpx.post(
        f"{address}/api/models/{judged.version}/thresholds",
        json={"thresholds": {"vinyl": 0.3}, "instead_of": "0" * 12},
        headers=OURS,
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 409
    assert "was promoted" in answer.json()["detail"]
    assert _registry(judged).production() == judged.version


def test_two_versions_are_compared_by_the_pictures_that_changed_sides(
    address: str, judged: Judged
) -> None:
    """With everything a yes, the pictures that were a no have changed, and for the worse."""
    from flows.rethreshold import publish_with_thresholds

    lax = publish_with_thresholds(judged.workspace, judged.version, {"turntable": 0.0001})
    answer = httpx.get(
        f"{address}/model/compare?challenger={lax}&champion={judged.version}",
        trust_env=False,
        timeout=60,
    )
    worse = answer.text.partition("For the worse")[2].partition("</section>")[0]
    assert worse.count("no → yes") > 0
    assert f'href="/model?version={lax}"' in answer.text
