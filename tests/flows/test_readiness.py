"""The check before training, on the line's own catalogue; and when enough was decided to train."""

from __future__ import annotations

import pytest

from flows.readiness import check, readiness_text
from flows.registry import Registry
from flows.snapshots import new_decisions
from tests.flows.line import Line

pytestmark = pytest.mark.slow


def test_the_check_tells_what_there_is_and_what_more_would_bring(line: Line) -> None:
    readiness = check(line.workspace)
    assert readiness.ready
    assert readiness.duplicates == len(line.workspace.catalog.duplicates())
    label = readiness.labels[0]
    assert (label.positives, label.negatives) == (20, 20)
    assert list(label.sources) == ["127.0.0.1"]
    said = readiness_text(readiness)
    assert "all 20 pictures of turntable come from 1 site" in said
    assert "about 40 more of turntable would bring recall from" in said


def test_nothing_new_was_decided_since_the_line_was_trained(line: Line) -> None:
    assert new_decisions(line.workspace) == 0


def test_training_stores_a_report_and_a_page(line: Line) -> None:
    registry = Registry(line.workspace.store, line.workspace.project.name)
    card = registry.card(line.trained.version)
    assert card.report is not None
    assert card.report.sources == {"127.0.0.1": card.examples}
    assert card.head_sha256 in registry.page(card.version)
