"""The founding experiment, with real photographs from the folder to the second model.

One afternoon of three (`make bench-founding` has all, and prints the table of the README). The set
has 145 photographs, 36 with a turntable and 54 with a record: fewer than the story that it
re-enacts. The weights are a stand-in, not CLIP.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import Settings
from tests.conftest import RunningStore
from tests.flows.afternoon import Afternoon, open_project, spend_afternoon
from tests.flows.conftest import new_bucket

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def afternoon(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory, shared: Path
) -> Afternoon:
    settings: Settings = new_bucket(store_server)
    folder = tmp_path_factory.mktemp("afternoon")
    workspace = open_project(folder, settings, shared / "weights" / "standin")
    return spend_afternoon(workspace, shared / "data" / "turntable_vinyl")


def test_every_photograph_is_accounted_for(afternoon: Afternoon) -> None:
    found = afternoon.imported
    assert found.links == 145
    assert found.kept + found.duplicates + sum(found.rejected.values()) == 145
    assert afternoon.prelabelled.scored == found.kept


def test_nothing_is_judged_by_pictures_that_anybody_decided_on(afternoon: Afternoon) -> None:
    """The held-out third is of no snapshot: both trainings together have the other two thirds."""
    pictures = afternoon.imported.kept - len(afternoon.judged.targets_ML)
    assert afternoon.first.card.examples <= pictures
    assert afternoon.second.card.examples <= pictures


def test_the_head_is_clearly_better_than_the_pre_labels(afternoon: Afternoon) -> None:
    """On 47 pictures that it never saw, although one in twelve of its answers is wrong."""
    assert afternoon.judged.gain("head", "zero-shot").low > 0


def test_a_round_of_correcting_makes_a_better_head(afternoon: Afternoon) -> None:
    assert afternoon.judged.gain("corrected", "head").value > 0


def test_slips_are_suspected_more_often_than_answers_at_large(afternoon: Afternoon) -> None:
    answers, _ = afternoon.decided
    at_large = afternoon.looked_at_again / answers
    assert afternoon.slips_found / afternoon.slips > 2 * at_large


def test_the_interval_that_training_gave_holds_what_new_pictures_show(
    afternoon: Afternoon,
) -> None:
    """The second model's own macro F1, from its folds, is not flattering."""
    promised = afternoon.second.card.evaluation.macro_f1
    shown = afternoon.judged.evaluation("corrected").macro_f1
    assert promised.low <= shown.value
    assert promised.value <= shown.high
