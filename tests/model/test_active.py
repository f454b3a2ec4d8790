"""What to ask next: order, variety, doubt, and the sizes it has to stand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.active import MAX_CANDIDATES, choose


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _clouds(each: int, *, centres: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Return tight clouds of unit vectors, one after the other."""
    rng = np.random.default_rng(seed)
    centre_CD = rng.normal(size=(centres, 16))
    return _unit(np.repeat(centre_CD, each, 0) + 0.02 * rng.normal(size=(centres * each, 16)))


def test_picks_are_distinct_rows_best_first() -> None:
    """No picture is asked about twice, and each teaches something, the first the most."""
    scores = np.random.default_rng(1).random(80)
    picks = choose(_clouds(20), scores, count=30)
    assert len({pick.index for pick in picks}) == 30
    taught = [pick.teaches for pick in picks]
    assert taught == sorted(taught, reverse=True)
    assert taught[-1] > 0


def test_the_same_arguments_give_the_same_picks() -> None:
    """Also where candidates are drawn by lot."""
    rng = np.random.default_rng(2)
    pool, scores = _unit(rng.normal(size=(3 * MAX_CANDIDATES, 8))), rng.random(3 * MAX_CANDIDATES)
    assert choose(pool, scores, count=20, seed=3) == choose(pool, scores, count=20, seed=3)


def test_a_pool_smaller_than_the_count_is_asked_whole() -> None:
    assert {pick.index for pick in choose(_clouds(2), np.full(8, 0.5), count=50)} == set(range(8))


def test_an_empty_pool_has_nothing_to_ask() -> None:
    assert choose(np.empty((0, 16), np.float32), np.empty(0), count=5) == []


def test_the_first_picks_are_of_every_cloud() -> None:
    """Equal scores: variety decides, and one picture stands for those that look like it."""
    picks = choose(_clouds(20), np.full(80, 0.5), count=4)
    assert {pick.index // 20 for pick in picks} == {0, 1, 2, 3}


def test_what_looks_like_a_decided_picture_comes_last() -> None:
    """Three clouds have an answer each; the fourth is asked about first, and it is said why."""
    pool = _clouds(20)
    (pick, *_) = choose(pool, np.full(80, 0.5), decided_MD=pool[[0, 20, 40]], count=1)
    assert pick.index // 20 == 3
    assert pick.why == "unlike what is decided"


def test_doubt_comes_before_certainty() -> None:
    """Among pictures that look alike, the one at 0.5 is asked about rather than one at 0 or 1."""
    pool = np.repeat(_clouds(1, centres=1), 30, 0)
    scores = np.where(np.arange(30) % 2, 0.001, 0.999)
    scores[17] = 0.5
    decided = _clouds(1, centres=1, seed=9)
    assert choose(pool, scores, decided_MD=decided, count=1)[0].index == 17


def test_before_any_answer_the_likeliest_are_asked_about() -> None:
    """A rare label's pictures are met at once, however low the scores of a new project are."""
    pool = np.repeat(_clouds(1, centres=1), 30, 0)
    scores = np.full(30, 0.001)
    scores[23] = 0.002
    assert choose(pool, scores, count=1)[0].index == 23


def test_before_any_answer_the_first_few_are_of_both_ends() -> None:
    """One that is surely no is among the first, and no more of them than those: 0 is the least."""
    pool = np.repeat(np.eye(8, dtype=np.float32), 10, 0)
    scores = np.arange(80) / 1000
    picks = choose(pool, scores, count=6)
    assert [pick.index // 10 for pick in picks] == [7, 0, 6, 5, 4, 3]
    assert picks[1].index == 0


def test_once_there_is_an_answer_the_unlikeliest_comes_last() -> None:
    """What is surely no teaches little more, though it be as far from all else as the likely are."""
    pool = np.repeat(np.eye(8, dtype=np.float32)[:7], 10, 0)
    decided = np.eye(8, dtype=np.float32)[7:]
    picks = choose(pool, np.linspace(0.4, 0.6, 70), decided_MD=decided, count=7)
    assert picks[-1].index // 10 == 0


def test_a_typical_picture_comes_before_an_outlier() -> None:
    """Nothing is scored: the cloud comes before the picture that nothing is like."""
    pool = np.concatenate([_clouds(20, centres=1), -_clouds(1, centres=1, seed=5)])
    (pick,) = choose(pool, np.full(21, np.nan), count=1)
    assert pick.index != 20
    assert pick.why == "typical"


def test_pictures_without_a_score_are_asked_about_too() -> None:
    """Arrivals that were never scored lie between the high and the low ones."""
    pool = np.repeat(_clouds(1, centres=1), 3, 0)
    picks = choose(pool, np.array([0.1, np.nan, 0.9]), count=3)
    assert [pick.index for pick in picks] == [2, 1, 0]


def test_scores_that_do_not_go_with_the_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="a score for each"):
        choose(_clouds(2), np.zeros(3), count=1)
