"""Calibration from few decisions: by hand, against its dangers, and on a curve that is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.calibration import Calibration, expected_calibration_error, fit_calibration

PRIOR = Calibration(scale=1.0, offset=-2.0)


def simulated(seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins as the stand-in has them, and answers by sigmoid(margin - 8): far from the prior."""
    random = np.random.default_rng(seed)
    margin = random.normal(7, 3, count)
    return margin, random.random(count) < 1 / (1 + np.exp(8 - margin))


def test_without_decisions_the_prior_stands() -> None:
    margin, _ = simulated(0, 20)
    assert fit_calibration(PRIOR, margin, margin[:0], np.zeros(0, bool)) == PRIOR


def test_fifty_decisions_bring_the_error_under_a_twentieth() -> None:
    """Over twenty draws, on decisions that were held out, where the prior's error is ten times that."""
    before, after, answers = [], [], []
    for seed in range(20):
        margin, yes = simulated(seed, 1050)
        fitted = fit_calibration(PRIOR, margin, margin[:50], yes[:50])
        before.append(PRIOR.probabilities(margin[50:]))
        after.append(fitted.probabilities(margin[50:]))
        answers.append(yes[50:])
    truth = np.concatenate(answers)
    assert expected_calibration_error(np.concatenate(before), truth) > 0.4
    assert expected_calibration_error(np.concatenate(after), truth) < 0.05


@pytest.mark.parametrize("answer", [True, False])
def test_answers_that_are_all_alike_make_nothing_certain(answer: bool) -> None:
    margin, _ = simulated(0, 200)
    fitted = fit_calibration(PRIOR, margin, np.sort(margin)[-10:], np.full(10, answer))
    probability = fitted.probabilities(margin)
    assert 0.005 < probability.min() < probability.max() < 0.995


def test_decisions_never_turn_the_ranking_round() -> None:
    """Not even when all of them say that the lowest margins are yes."""
    margin, _ = simulated(0, 200)
    ordered = np.sort(margin)
    fitted = fit_calibration(PRIOR, margin, ordered, ordered < ordered.mean())
    assert (np.diff(fitted.probabilities(ordered)) >= 0).all()
    assert fitted.scale > 0


def test_the_error_is_the_weighted_gap_between_sure_and_right() -> None:
    """By hand: 0.9 with 1 of 2 right, 0.2 with 0 of 2: (2 * 0.4 + 2 * 0.2) / 4."""
    probability = np.array([0.9, 0.9, 0.2, 0.2])
    yes = np.array([True, False, False, False])
    assert expected_calibration_error(probability, yes) == pytest.approx(0.3)
