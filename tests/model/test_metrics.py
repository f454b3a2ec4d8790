"""Metrics equal a case worked by hand and scikit-learn's; intervals cover; thresholds keep aims."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from model.intervals import Draws, Interval, wilson
from model.metrics import Evaluation, LabelMetrics, evaluate, paired_difference
from model.ranking import average_precision, measure_ranking, reliability, roc_auc
from model.thresholds import Aim, choose_thresholds

# Ranked by score: yes, no, yes | no, no (the bar is a threshold of 0.5)
BY_HAND_SCORES = np.array([[0.9], [0.8], [0.7], [0.4], [0.2]], np.float32)
BY_HAND_TARGETS = np.array([[1], [0], [1], [0], [0]], np.float32)


def judge(
    scores: NDArray[np.floating],
    targets: NDArray[np.floating],
    threshold: NDArray[np.floating] | float = 0.5,
    groups: list[str] | None = None,
    resamples: int = 200,
) -> Evaluation:
    return evaluate(
        scores,
        targets,
        threshold,
        labels=[f"label{column}" for column in range(scores.shape[1])],
        groups=groups or [str(row) for row in range(len(scores))],
        seed=0,
        resamples=resamples,
    )


def compare(
    challenger: NDArray[np.float32], champion: NDArray[np.float32], targets: NDArray[np.float32]
) -> Interval:
    return paired_difference(
        challenger,
        champion,
        targets,
        challenger_thresholds=0.5,
        champion_thresholds=0.5,
        groups=[str(row) for row in range(len(targets))],
        seed=0,
        resamples=400,
    )


def only(evaluation: Evaluation) -> LabelMetrics:
    (metrics,) = evaluation.labels
    return metrics


def random_case(
    number: int = 70, labels: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores with many ties, related to the targets."""
    rng = np.random.default_rng(5)
    targets = rng.random((number, labels)) < 0.4
    scores = np.round(rng.random((number, labels)) * 0.7 + 0.3 * targets, 1)
    return scores.astype(np.float32), targets.astype(np.float32)


def test_a_case_worked_by_hand() -> None:
    """TP 2, FP 1, FN 0; the positives stand at ranks 1 and 3: AP = (1/1 + 2/3) / 2."""
    metrics = only(judge(BY_HAND_SCORES, BY_HAND_TARGETS))
    assert (metrics.positives, metrics.negatives, metrics.threshold) == (2, 3, 0.5)
    assert metrics.precision.value == pytest.approx(2 / 3)
    assert metrics.recall.value == 1
    assert metrics.f1.value == pytest.approx(0.8)
    assert metrics.average_precision.value == pytest.approx(5 / 6)


def test_precision_recall_and_f1_equal_scikit_learns() -> None:
    scores, targets = random_case()
    precision, recall, f1, _ = precision_recall_fscore_support(targets, scores >= np.float32(0.6))
    for column, metrics in enumerate(judge(scores, targets, 0.6).labels):
        assert metrics.precision.value == pytest.approx(precision[column])
        assert metrics.recall.value == pytest.approx(recall[column])
        assert metrics.f1.value == pytest.approx(f1[column])


def test_average_precision_equals_scikit_learns_ties_included() -> None:
    scores, targets = random_case()
    for column, metrics in enumerate(judge(scores, targets).labels):
        expected = average_precision_score(targets[:, column], scores[:, column])
        assert metrics.average_precision.value == pytest.approx(expected)


def test_roc_auc_equals_scikit_learns_ties_included() -> None:
    scores, targets = random_case()
    for column in range(3):
        mine = roc_auc(scores[:, column].astype(float), targets[:, column] == 1)
        assert mine == pytest.approx(roc_auc_score(targets[:, column], scores[:, column]))


def test_roc_auc_of_a_draw_counts_a_picture_as_often_as_it_is_drawn() -> None:
    """The same as of the pictures written out that often."""
    scores, targets = random_case(30, 1)
    rows = np.random.default_rng(0).integers(30, size=30)
    written_out = roc_auc_score(targets[rows, 0], scores[rows, 0])
    weight = np.bincount(rows, minlength=30)[None].astype(float)
    found = measure_ranking(
        scores[:, 0].astype(float), targets[:, 0] == 1, Draws(np.arange(30), weight)
    )
    assert found.roc_auc_R[0] == pytest.approx(written_out)


def test_calibrated_scores_have_a_small_calibration_error_and_others_a_large_one() -> None:
    """Yes and no weigh a half each: a score of 0.9 is nine yes in ten, balanced."""
    rng = np.random.default_rng(0)
    targets = rng.random((4000, 1)) < 0.2
    odds = 4 * (targets - 0.5) + 2 * rng.normal(size=targets.shape)
    errors = [
        only(judge(1 / (1 + np.exp(-factor * odds)), targets.astype(float))).calibration_error
        for factor in (1, 4)
    ]
    assert errors[0].value < 0.03
    assert errors[1].low > 0.05


def test_reliability_bins_hold_all_pictures() -> None:
    scores, targets = random_case(200, 1)
    diagram = reliability(scores[:, 0].astype(float), targets[:, 0] == 1)
    assert diagram.weight_B.sum() == pytest.approx(1)
    assert np.all((diagram.share_B >= 0) & (diagram.share_B <= 1))


def test_macro_f1_is_the_unweighted_mean() -> None:
    evaluation = judge(*random_case())
    expected = np.mean([label.f1.value for label in evaluation.labels])
    assert evaluation.macro_f1.value == pytest.approx(expected)


def test_unreviewed_pictures_take_no_part() -> None:
    scores, targets = random_case(labels=1)
    masked = targets.copy()
    masked[50:] = np.nan
    mine, expected = only(judge(scores, masked)), only(judge(scores[:50], targets[:50]))
    assert (mine.positives, mine.negatives) == (expected.positives, expected.negatives)
    assert mine.f1.value == expected.f1.value
    assert mine.average_precision.value == expected.average_precision.value


def test_thresholds_may_differ_by_picture() -> None:
    """As cross-fitted ones do: here the second picture is held to a higher one."""
    thresholds = np.array([[0.5], [0.85], [0.5], [0.5], [0.5]], np.float32)
    assert only(judge(BY_HAND_SCORES, BY_HAND_TARGETS, thresholds)).precision.value == 1


def test_nothing_answered_yes_has_precision_0_and_says_nothing() -> None:
    precision = only(judge(BY_HAND_SCORES, BY_HAND_TARGETS, 0.95)).precision
    assert (precision.value, precision.low, precision.high) == (0, 0, 1)


def test_no_picture_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture to judge by"):
        judge(np.empty((0, 1)), np.empty((0, 1)))


def test_wilson_equals_the_published_case() -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion, 1998: 81 of 263."""
    interval = wilson(81 / 263, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


def test_twelve_of_twelve_is_not_certainty() -> None:
    scores = np.repeat([[0.9], [0.1]], 12, axis=0)
    metrics = only(judge(scores, (scores > 0.5).astype(np.float32)))
    for interval in (metrics.precision, metrics.recall, metrics.f1, metrics.average_precision):
        assert interval.value == 1
        assert 0.6 < interval.low < 0.9
        assert interval.high == 1


def test_kin_do_not_count_as_more_evidence() -> None:
    """Each picture given four times over, as kin, leaves every interval where it was."""
    scores, targets = random_case()
    groups = [str(row) for row in range(len(scores))]
    once = judge(scores, targets, groups=groups)
    often = judge(np.tile(scores, (4, 1)), np.tile(targets, (4, 1)), groups=groups * 4)
    for one, four in zip(once.labels, often.labels, strict=True):
        for name in ("precision", "recall", "f1", "average_precision"):
            mine, expected = getattr(four, name), getattr(one, name)
            assert mine.low == pytest.approx(expected.low)
            assert mine.high == pytest.approx(expected.high)


def test_an_interval_narrows_with_evidence() -> None:
    scores, targets = random_case(800)
    few, many = judge(scores[:80], targets[:80]), judge(scores, targets)
    for one, other in zip(few.labels, many.labels, strict=True):
        assert other.f1.high - other.f1.low < one.f1.high - one.f1.low
    assert many.macro_f1.high - many.macro_f1.low < few.macro_f1.high - few.macro_f1.low


def test_intervals_cover_what_is_true() -> None:
    """Of 300 samples of 80 pictures, about 95 % have the population's values inside."""

    def sample(
        rng: np.random.Generator, number: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        target = rng.random((number, 1)) < 0.3
        logit = 2.5 * (target - 0.5) + rng.normal(size=(number, 1))
        return 1 / (1 + np.exp(-2.5 * logit)), target.astype(np.float64)

    scores, targets = sample(np.random.default_rng(0), 100_000)
    population = only(judge(scores, targets, groups=["a", "b"] * 50_000, resamples=1))
    names = ("precision", "recall", "f1", "average_precision", "roc_auc")
    inside = dict.fromkeys(names, 0)
    for trial in range(300):
        metrics = only(judge(*sample(np.random.default_rng(trial + 1), 80)))
        for name in names:
            interval = getattr(metrics, name)
            inside[name] += interval.low <= getattr(population, name).value <= interval.high
    # 300 trials at 95 % give 273 to 297, but for one case in a thousand.
    assert all(273 <= count <= 297 for count in inside.values()), inside


def test_the_same_seed_gives_the_same_intervals() -> None:
    scores, targets = random_case()
    assert judge(scores, targets) == judge(scores, targets)


def test_best_f1_threshold_is_nearly_the_best_of_all() -> None:
    """Smoothing costs little on the pictures themselves, where they are many."""
    rng = np.random.default_rng(0)
    targets = (rng.random((2000, 1)) < 0.1).astype(np.float64)
    scores = 1 / (1 + np.exp(-(4 * (targets - 0.5) + 2 * rng.normal(size=targets.shape))))
    chosen = judge(scores, targets, choose_thresholds(scores, targets), resamples=1)
    tried = [
        judge(scores, targets, cut, resamples=1).macro_f1.value
        for cut in np.linspace(0.05, 0.95, 91)
    ]
    flat = judge(scores, targets, resamples=1).macro_f1.value
    assert chosen.macro_f1.value > max(tried) - 0.02
    assert chosen.macro_f1.value > flat + 0.03


def test_a_handful_of_pictures_moves_a_threshold_little() -> None:
    """The best cut of five answers is a third down; another five would not have it there."""
    assert abs(choose_thresholds(BY_HAND_SCORES, BY_HAND_TARGETS)[0] - 0.5) < 0.15


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=5).map(sorted), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_thresholds_rise_with_the_cost_of_a_false_yes(costs: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((200, 1)) < 0.5).astype(float)
    scores = 1 / (1 + np.exp(-(4 * (targets - 0.5) + 2 * rng.normal(size=targets.shape))))
    chosen = [
        choose_thresholds(scores, targets, Aim(kind="costs", floor=cost))[0] for cost in costs
    ]
    assert all(after >= before - 0.05 for before, after in itertools.pairwise(chosen))


def test_costs_are_read_as_a_ratio() -> None:
    assert Aim.parse("costs 5:2") == Aim(kind="costs", floor=2.5)


aims = st.lists(st.floats(0.05, 1), min_size=2, max_size=6).map(sorted)


@given(aims, st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_thresholds_rise_with_the_precision_asked_for(floors: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((40, 1)), (rng.random((40, 1)) < 0.5).astype(float)
    chosen = [choose_thresholds(scores, targets, Aim(kind="precision", floor=p))[0] for p in floors]
    assert chosen == sorted(chosen)


@given(aims, st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_thresholds_fall_with_the_recall_asked_for(floors: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((40, 1)), (rng.random((40, 1)) < 0.5).astype(float)
    chosen = [choose_thresholds(scores, targets, Aim(kind="recall", floor=r))[0] for r in floors]
    assert chosen == sorted(chosen, reverse=True)


def test_a_precision_that_can_be_had_is_had() -> None:
    scores, targets = random_case(200)
    chosen = judge(scores, targets, choose_thresholds(scores, targets, "precision >= 0.7"))
    assert all(label.precision.value >= 0.7 for label in chosen.labels)


def test_a_recall_that_is_asked_for_is_had() -> None:
    scores, targets = random_case(200)
    chosen = judge(scores, targets, choose_thresholds(scores, targets, "recall >= 0.9"))
    assert all(label.recall.value >= 0.9 for label in chosen.labels)


def test_a_threshold_parts_scores_that_are_neighbours_in_float32() -> None:
    """There is no number between them: the threshold is the upper one."""
    upper = np.float32(0.7)
    lower = np.nextafter(upper, np.float32(0))
    scores = np.array([[upper], [lower]], np.float32)
    targets = np.array([[1], [0]], np.float32)
    assert (scores >= choose_thresholds(scores, targets, "recall >= 1")).tolist() == [
        [True],
        [False],
    ]


@pytest.mark.parametrize(
    "text", ["F2", "precision", "precision >= 0", "recall >= 1.5", "recall > .9", "costs 0:1"]
)
def test_an_unknown_aim_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r'take "f1", "precision >= 0\.95"'):
        Aim.parse(text)


def test_paired_difference_of_a_model_with_itself_is_nothing() -> None:
    scores, targets = random_case()
    difference = compare(scores, scores, targets)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_paired_difference_changes_its_sign_with_the_order() -> None:
    scores, targets = random_case()
    worse = np.random.default_rng(1).permutation(scores)
    one, other = compare(scores, worse, targets), compare(worse, scores, targets)
    assert one.value > 0
    assert one.value == -other.value
    assert one.low == pytest.approx(-other.high)


def test_paired_difference_is_narrower_than_two_intervals_apart() -> None:
    """What is hard for both models cancels out."""
    scores, targets = random_case(300)
    better = scores.copy()
    better[:30] = targets[:30]
    difference = compare(better, scores, targets)
    alone = judge(scores, targets).macro_f1
    assert 0 < difference.low < difference.value < difference.high
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_paired_difference_refuses_other_pictures() -> None:
    scores, targets = random_case()
    with pytest.raises(ValueError, match="not of the same pictures"):
        compare(scores, scores[1:], targets)


def test_average_precision_without_a_positive_is_not_a_number() -> None:
    assert np.isnan(average_precision(np.array([0.1, 0.9]), np.array([False, False])))
