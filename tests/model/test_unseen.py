"""A head on an encoder that was fine-tuned: judged on what the encoder never saw, the same each time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from model.checkpoint import head_bytes
from model.fine_tune_parts import FITTED, JUDGED, WATCHED, deal_parts
from model.held_out import FITTED_ON
from model.train import TooFewExamples, TrainConfig, train
from tests.model.synthetic import draw_pictures, snapshot_of

CONFIG = TrainConfig(folds=3, repeats=2, resamples=100)
DRAWN = draw_pictures(120, signal=0.0, seed=3)

IN_ANOTHER_PROCESS = """
from tests.model.synthetic import draw_pictures, snapshot_of
from model.train import TrainConfig, train
drawn = draw_pictures(60)
config = TrainConfig(folds=3, repeats=1, resamples=100)
card = train(snapshot_of(drawn.targets), drawn.embeddings, config=config, text_LD=drawn.text).card
print(card.head_sha256, card.version)
"""


def test_an_encoder_that_knows_its_pictures_by_heart_flatters_no_figure() -> None:
    """Vectors say nothing but for those of seen pictures, which give the answers away."""
    snapshot = snapshot_of(DRAWN.targets, kin=2)
    seen = set(snapshot.sha256s[:80])
    vectors_ND = DRAWN.embeddings.copy()
    vectors_ND[:80] = 0
    vectors_ND[:80, :2] = 2 * DRAWN.targets[:80] - 1
    vectors_ND[:80] /= np.sqrt(2)
    flattered = train(snapshot, vectors_ND, config=CONFIG).card.evaluation
    honest = train(snapshot, vectors_ND, config=CONFIG, seen=seen).card.evaluation
    assert min(each.roc_auc.value for each in flattered.labels) > 0.75
    assert max(each.roc_auc.value for each in honest.labels) < 0.7


def test_kin_of_what_the_encoder_saw_is_not_judged_either() -> None:
    """One of each pair was seen, for half of the pairs."""
    snapshot = snapshot_of(DRAWN.targets, kin=2)
    seen = snapshot.sha256s[0:60:2]
    model = train(snapshot, DRAWN.embeddings, config=CONFIG, seen=seen)
    assert model.sha256s == snapshot.sha256s[60:]
    assert FITTED_ON not in model.fold_N
    assert model.card.examples == 120


def test_too_few_that_it_never_saw_are_refused_by_name() -> None:
    snapshot = snapshot_of(DRAWN.targets)
    with pytest.raises(TooFewExamples, match="label0"):
        train(snapshot, DRAWN.embeddings, config=CONFIG, seen=snapshot.sha256s[:-4])


@pytest.mark.parametrize("number", [48, 120, 2000])
def test_parts_never_part_kin_and_have_every_answer(number: int) -> None:
    drawn = draw_pictures(number, seed=5)
    snapshot = snapshot_of(drawn.targets, kin=2)
    part_N = deal_parts(snapshot)
    groups = np.array(snapshot.groups)
    assert all(len(set(part_N[groups == group])) == 1 for group in set(groups))
    for part in (FITTED, WATCHED, JUDGED):
        answers_NL = drawn.targets[part_N == part]
        assert (answers_NL == 1).any(0).all()
        assert (answers_NL == 0).any(0).all()
    assert 0.2 < (part_N == JUDGED).mean() < 0.45


def test_with_enough_pictures_none_changes_its_part_as_the_set_grows() -> None:
    drawn = draw_pictures(1200, seed=6)
    small, large = snapshot_of(drawn.targets[:800]), snapshot_of(drawn.targets)
    np.testing.assert_array_equal(deal_parts(large)[:800], deal_parts(small))


def test_three_pictures_are_too_few_to_fine_tune_on() -> None:
    with pytest.raises(TooFewExamples, match='leave fine_tune "off"'):
        deal_parts(snapshot_of(DRAWN.targets[:3]))


def test_another_process_trains_the_same_head_and_the_card_has_its_hash() -> None:
    """Whatever the order of its hash tables."""
    drawn = draw_pictures(60)
    config = dataclasses.replace(CONFIG, repeats=1)
    model = train(snapshot_of(drawn.targets), drawn.embeddings, config=config, text_LD=drawn.text)
    assert model.card.head_sha256 == hashlib.sha256(head_bytes(model.head)).hexdigest()
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stdout.split() == [model.card.head_sha256, model.card.version]
