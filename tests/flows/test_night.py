"""After a night: drift is seen where there is some, queues are renewed, precision is measured."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flows.drift import check_drift, drift_notice, drift_reports
from flows.encoders import EncoderSource
from flows.night import after_night
from flows.predict import predict
from flows.queues import read
from flows.rows import Answer, DecisionRow
from flows.settings import Settings
from flows.spot_checks import draw_spot_check, precision_in_production
from flows.workspace import Workspace
from tests.flows.catalog_rows import image, link, sha
from tests.flows.nights import add_pictures, open_project, put_model_into_production

SETTINGS = "[predict]\nqueue = 30\nspot_check = 5\n"


@pytest.fixture
def workspace(tmp_path: Path, bucket: Settings) -> Workspace:
    """A project of 160 pictures, 100 of which its model has never seen."""
    workspace = open_project(tmp_path, bucket, SETTINGS)
    add_pictures(workspace, range(160))
    put_model_into_production(workspace)
    return workspace


def _add_foreign(workspace: Workspace, numbers: range) -> None:
    """Add pictures unlike all others: none of the two clouds."""
    rng = np.random.default_rng(5)
    workspace.catalog.add_images([image(number) for number in numbers])
    encoder_id = EncoderSource(workspace).id()
    rows = rng.normal(size=(len(numbers), 96))
    rows[:, :48] += 3
    rows[:, 48:] -= 3
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    workspace.catalog.add_embeddings(encoder_id, [sha(number) for number in numbers], unit)


def _decide(workspace: Workspace, sha256s: list[str], answer: Answer) -> None:
    now = datetime.now(UTC)
    workspace.catalog.add_decisions(
        [
            DecisionRow(sha256=each, label="vinyl", answer=answer, who="ann", at=now)
            for each in sha256s
        ]
    )


def test_pictures_of_the_same_kind_are_no_drift(workspace: Workspace) -> None:
    """Overall and source by source; with nothing labelled earlier there are no scores to compare."""
    predict(workspace)
    report = check_drift(workspace)
    assert {each.kind for each in report.tests} == {"pictures", "pictures of a source"}
    assert report.crossed == ()


def test_scores_stand_against_those_of_what_was_labelled_first(
    tmp_path: Path, bucket: Settings
) -> None:
    """First even and odd pictures, then, of 40 that are compared, even ones alone."""
    workspace = open_project(tmp_path, bucket, "[drift]\npictures = 40\n")
    add_pictures(workspace, range(100))
    put_model_into_production(workspace)
    predict(workspace)
    add_pictures(workspace, range(100, 180, 2))
    predict(workspace)
    crossed = {each.kind: each for each in check_drift(workspace).crossed}
    assert crossed["scores of a label"].value == pytest.approx(0.5, abs=0.1)


def test_pictures_of_another_kind_are_drift_and_are_asked_about(workspace: Workspace) -> None:
    """The report says so, lies in the bucket, and its furthest pictures head the queue."""
    _add_foreign(workspace, range(200, 260))
    result = predict(workspace)
    after = after_night(workspace, result)
    assert "pictures" in {each.kind for each in after.drift.crossed}
    assert list(drift_reports(workspace.store, result.version)) == [after.drift]
    foreign = {sha(number) for number in range(200, 260)}
    assert {each.sha256 for each in after.drift.furthest} <= foreign
    queue = read(workspace.store, "vinyl")
    assert queue is not None
    assert queue.picks[0].why == "drift"
    assert queue.picks[0].sha256 in foreign
    assert after.news
    assert not after_night(workspace, result).news  # it is the same drift as before


def test_the_notice_names_what_crossed(workspace: Workspace) -> None:
    _add_foreign(workspace, range(200, 260))
    predict(workspace)
    notice = drift_notice(check_drift(workspace), project="records")
    assert notice.subject == "records: what comes in has changed"
    assert "pictures" in notice.text()


def test_more_rejected_links_than_before_are_drift(workspace: Workspace) -> None:
    """Half of today's, of none before."""
    today = (datetime.now(UTC) - link("x").seen_at).total_seconds() / 60
    old = [link(f"https://example.org/old/{n}") for n in range(60)]
    new = [
        link(f"https://example.org/{n}", minute=int(today), reason="gone" if n % 2 else "")
        for n in range(60)
    ]
    workspace.catalog.record_links([*old, *new])
    predict(workspace)
    (crossed,) = check_drift(workspace).crossed
    assert crossed.kind == "rejected links"
    assert crossed.value == pytest.approx(0.5)


def test_too_little_that_is_new_is_not_tested(tmp_path: Path, bucket: Settings) -> None:
    workspace = open_project(tmp_path, bucket)
    add_pictures(workspace, range(70))
    put_model_into_production(workspace)
    predict(workspace)
    report = check_drift(workspace)
    assert report.tests == ()
    assert "not tested" in str(report)


def test_the_queue_asks_only_what_is_undecided(workspace: Workspace) -> None:
    """As many as project.toml says, none of them decided, all of them scored by the model."""
    decided = [sha(number) for number in range(100)]
    _decide(workspace, decided, "yes")
    result = predict(workspace)
    assert after_night(workspace, result).queued == {"vinyl": 30}
    queue = read(workspace.store, "vinyl")
    assert queue is not None
    assert queue.version == result.version
    assert not {pick.sha256 for pick in queue.picks} & set(decided)
    assert all(pick.score is not None for pick in queue.picks)


def test_the_spot_check_is_drawn_from_what_was_answered_yes(workspace: Workspace) -> None:
    """Even ones beyond those that were trained on; they stay in the queue until answered."""
    result = predict(workspace)
    check = draw_spot_check(workspace, result.version, result.parts)
    assert check is not None
    assert set(check.drawn["vinyl"]) <= {sha(number) for number in range(60, 160, 2)}
    assert (len(check.drawn["vinyl"]), check.answered_yes["vinyl"]) == (5, 50)
    after_night(workspace, predict(workspace))  # a night without anything new
    queue = read(workspace.store, "vinyl")
    assert queue is not None
    marked = [pick.sha256 for pick in queue.picks if pick.why == "spot check"]
    assert sorted(marked) == sorted(check.drawn["vinyl"])


def test_precision_in_production_is_what_people_say_of_the_draw(workspace: Workspace) -> None:
    """Three right, one wrong, one not answered: 3 of 4, within Wilson's interval."""
    result = predict(workspace)
    check = draw_spot_check(workspace, result.version, result.parts)
    assert check is not None
    drawn = list(check.drawn["vinyl"])
    _decide(workspace, drawn[:3], "yes")
    _decide(workspace, drawn[3:4], "no")
    (measured,) = precision_in_production(workspace)
    assert (measured.drawn, measured.yes, measured.no) == (5, 3, 1)
    assert measured.precision.value == 0.75
    assert (measured.precision.low, measured.precision.high) == pytest.approx(
        (0.301, 0.954), abs=0.001
    )


def test_a_project_that_wants_no_spot_check_draws_none(tmp_path: Path, bucket: Settings) -> None:
    workspace = open_project(tmp_path, bucket)
    add_pictures(workspace, range(80))
    put_model_into_production(workspace)
    result = predict(workspace)
    assert draw_spot_check(workspace, result.version, result.parts) is None
