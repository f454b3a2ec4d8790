"""What pictures and their kin are worth, and where intervals end."""

from __future__ import annotations

import math
from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import chndtr, expit

from model.intervals import Draws, Floats, Interval, area, proportion, wilson
from model.ranking import _noncentral_below, measure_ranking


def ones(number: int) -> Floats:
    return np.ones(number)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 60))
def test_pictures_of_their_own_are_trials(right: int, wrong: int) -> None:
    """Wilson's interval of the counts themselves, nothing wider and nothing drawn."""
    found = proportion(np.repeat([1.0, 0.0], [right, wrong]), ones(right + wrong))
    expected = wilson(right / (right + wrong), right + wrong)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_kin_that_differ_are_worth_more_than_one_and_less_than_all() -> None:
    """40 pairs, of which 10 are right and wrong: more than 40 trials, fewer than 80."""
    right_G = np.repeat([2.0, 1.0, 0.0], [20, 10, 10])
    found = proportion(right_G, 2 * ones(40))
    widest, narrowest = wilson(50 / 80, 40), wilson(50 / 80, 80)
    assert widest.low < found.low < narrowest.low
    assert narrowest.high < found.high < widest.high


def test_a_worth_that_few_groups_tell_shrinks() -> None:
    """20 pairs with nothing in common: of 40 trials (t 2.0227), known as 20 tell it (t 2.0930)."""
    found = proportion(np.repeat([2.0, 1.0, 0.0], [5, 10, 5]), 2 * ones(20))
    expected = wilson(0.5, 40 * (2.0227 / 2.0930) ** 2)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_kin_that_are_always_right_are_one_trial() -> None:
    assert proportion(3 * ones(12), 3 * ones(12)) == wilson(1.0, 12)


def test_fewer_than_ten_groups_stand_alone() -> None:
    """Their spread says little: nine pairs are nine trials, whatever they say."""
    assert proportion(np.repeat([2.0, 1.0], [5, 4]), 2 * ones(9)) == wilson(14 / 18, 9)


def test_nothing_counted_says_nothing() -> None:
    found = proportion(np.zeros(5), np.zeros(5))
    assert (found.value, found.low, found.high) == (0, 0, 1)


def auc_of(scores: Floats, positive: Floats, groups: NDArray[np.intp]) -> Interval:
    draws = Draws(groups, np.ones((2, groups.max() + 1)))
    return measure_ranking(expit(scores), positive == 1, draws).roc_auc


def error_of(scores: Floats, positive: Floats, groups: NDArray[np.intp]) -> Interval:
    draws = Draws.of([str(group) for group in groups], seed=0, resamples=200)
    return measure_ranking(scores, positive == 1, draws).calibration_error


def overconfident(
    rng: np.random.Generator, number: int, kin: int = 1
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Two normal classes 2 apart, log odds twofold too large; kin differ a little."""
    positive = np.repeat((rng.random(number // kin) < 0.4).astype(float), kin)
    noise = np.repeat(rng.normal(size=number // kin), kin) + 0.2 * rng.normal(size=number)
    return expit(4 * (2 * (positive - 0.5) + noise)), positive, np.arange(number) // kin


OVERCONFIDENT = error_of(*overconfident(np.random.default_rng(0), 200_000)).value


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
@settings(deadline=None)
def test_an_area_lies_in_its_interval_and_that_within_0_and_1(yes: int, no: int, seed: int) -> None:
    """Ties, perfect rankings and turned ones included."""
    scores = np.random.default_rng(seed).integers(0, 4, yes + no) / 4
    found = auc_of(scores, np.repeat([1.0, 0.0], [yes, no]), np.arange(yes + no))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0


def test_a_perfect_ranking_is_not_certainty() -> None:
    """Fifteen over fifteen: an area of .85 or less would hardly have shown it."""
    found = area(1.0, 0.0, 15, 15)
    assert 0.8 < found.low < 0.95
    assert found.high == 1


def test_an_area_of_many_groups_has_delongs_interval() -> None:
    """Near one half, where it is symmetric: 1.96 standard errors to either side."""
    rng = np.random.default_rng(0)
    positive = np.repeat([1.0, 0.0], 2000)
    scores = rng.normal(size=4000) + 0.1 * positive
    found = auc_of(scores, positive, np.arange(4000))
    above = (scores[:2000, None] > scores[2000:]).astype(float)
    variance = above.mean(1).var(ddof=1) / 2000 + above.mean(0).var(ddof=1) / 2000
    assert found.value == pytest.approx(above.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.01)


def test_kin_leave_the_interval_of_an_area_where_it_was() -> None:
    rng = np.random.default_rng(0)
    positive = (rng.random(60) < 0.4).astype(float)
    scores = np.round(rng.normal(size=60) + positive, 1)
    once = auc_of(scores, positive, np.arange(60))
    often = auc_of(np.tile(scores, 4), np.tile(positive, 4), np.tile(np.arange(60), 4))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_an_area_seen_on_few_positives_holds_the_truth() -> None:
    """15 of 300, where the measured variance is least when the area is too large by chance."""
    truth = 0.5 * (1 + erf(2.5 / 2))  # of two normal classes 2.5 apart
    inside = 0
    for trial in range(600):
        rng = np.random.default_rng(trial)
        positive = (rng.random(300) < 0.05).astype(float)
        found = auc_of(rng.normal(size=300) + 2.5 * positive, positive, np.arange(300))
        inside += found.low <= truth <= found.high
    # 600 trials at 95 % give 551 to 587, but for one case in a hundred.
    assert 551 <= inside <= 587


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
@settings(deadline=None)
def test_a_calibration_error_lies_in_its_interval_and_that_within_0_and_1(
    yes: int, no: int, seed: int
) -> None:
    """Scores of 0 and 1 included, right and wrong ones."""
    scores = np.random.default_rng(seed).integers(0, 5, yes + no) / 4
    found = error_of(scores, np.repeat([1.0, 0.0], [yes, no]), np.arange(yes + no))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_calibration_error_of_few_pictures_is_not_too_large_on_average() -> None:
    """Of its square, which noise adds to: 60 pictures show three times as much as there is."""
    squares = [
        error_of(*overconfident(np.random.default_rng(seed), 60)).value ** 2 for seed in range(200)
    ]
    assert np.mean(squares) < 2 * OVERCONFIDENT**2


def test_kin_leave_the_interval_of_a_calibration_error_where_it_was() -> None:
    scores, positive, groups = overconfident(np.random.default_rng(0), 60)
    once = error_of(scores, positive, groups)
    often = error_of(np.tile(scores, 4), np.tile(positive, 4), np.tile(groups, 4))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_the_interval_of_a_calibration_error_holds_the_truth_among_kin() -> None:
    """80 pairs, whose bins hold a handful of groups each."""
    inside = 0
    for seed in range(400):
        found = error_of(*overconfident(np.random.default_rng(seed), 160, 2))
        inside += found.low <= OVERCONFIDENT <= found.high
    # 400 trials at 95 % give 369 to 391, but for one case in a hundred.
    assert 369 <= inside <= 391


def test_a_calibration_error_of_0_by_luck_is_not_certainty() -> None:
    """Every bin's share of yes is its score, to the last: noise alone would show more."""
    scores = np.repeat([0.25, 0.75], 40)
    positive = np.concatenate([np.repeat([1.0, 0.0], [10, 30]), np.repeat([1.0, 0.0], [30, 10])])
    found = error_of(scores, positive, np.arange(80))
    assert found.value == found.low == 0
    assert found.high > 0.01


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("noise", [0, 1e-9, 1e-6, 1e-4, 1e-2])
def test_the_calibration_error_of_answers_that_are_kept_apart_has_an_interval(
    noise: float, wrong: int
) -> None:
    """As good models have it: every score is nearly 0 or 1, and the noise next to nothing."""
    positive = np.repeat([1.0, 0.0], 100)
    off = noise * np.random.default_rng(0).random(200)
    scores = np.where(positive == 1, 1 - off, off)
    positive[:wrong] = 0
    found = error_of(scores, positive, np.arange(200))
    assert 0 <= found.low <= found.value <= found.high < 0.2


@pytest.mark.parametrize("freedom", [0.5, 10, 500])
@pytest.mark.parametrize("noncentrality", [0.1, 100, 450, 5000])
def test_the_chance_of_a_noncentral_chi_square_goes_on_where_it_is_approximated(
    freedom: float, noncentrality: float
) -> None:
    mean, spread = freedom + noncentrality, math.sqrt(2 * (freedom + 2 * noncentrality))
    for away in (-2.0, -0.5, 0, 0.5, 2.0):
        value = mean + away * spread
        if value > 0:
            found = _noncentral_below(value, freedom, noncentrality)
            assert found == pytest.approx(chndtr(value, freedom, noncentrality), abs=1e-3)
    assert _noncentral_below(1e12, freedom, noncentrality) == pytest.approx(1)
    assert _noncentral_below(1.0, freedom, 1e15) == pytest.approx(0)
