"""What pictures and their kin are worth, and where intervals end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.intervals import Floats, proportion, wilson


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
