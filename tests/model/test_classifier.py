"""The head is a logistic regression pulled toward text, and exactly that."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.classifier import FittingProblem, MultiLabelHead, Strength
from tests.model.synthetic import draw_pictures

HEAD = MultiLabelHead(
    labels=("turntable", "vinyl"),
    weight_LD=np.array([[2, 0, 0], [0, -1, 0]], np.float32),
    bias_L=np.array([-1, 0], np.float32),
    thresholds_L=np.array([0.5, 0.4], np.float32),
    encoder_id="tiny",
)


def test_score_is_the_sigmoid_of_weights_and_bias() -> None:
    scores = HEAD.scores(np.array([[1, 0, 0], [0, 1, 0]], np.float32))
    expected = 1 / (1 + np.exp(-np.array([[1.0, 0.0], [-1.0, -1.0]])))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert scores.dtype == np.float32


def test_embeddings_of_another_width_are_refused_by_encoder() -> None:
    with pytest.raises(ValueError, match="not those of encoder tiny, which have 3 numbers"):
        HEAD.scores(np.ones((1, 4), np.float32))


@pytest.mark.parametrize(
    ("number", "penalty"), [(30, 0.1), (30, 0.001), (300, 0.01), (300, 0.0003)]
)
def test_weights_equal_scikit_learns(number: int, penalty: float) -> None:
    """With fewer rows than dimensions and with more, weakly and strongly pulled toward 0."""
    drawn = draw_pictures(number)
    problem = FittingProblem.of(drawn.embeddings, drawn.targets)
    ((weight, bias),) = problem.solve([Strength(penalty=penalty, text=0.0)])
    scaled = (drawn.embeddings - problem.mean_D) * problem.scale
    for column, target in enumerate(drawn.targets.T):
        # Its weights sum to N and ours to 1, hence its C.
        theirs = LogisticRegression(
            C=1 / (penalty * number), class_weight="balanced", tol=1e-10, max_iter=10_000
        ).fit(scaled, target)
        expected = theirs.decision_function(scaled)
        np.testing.assert_allclose(
            drawn.embeddings @ weight[column] + bias[column], expected, atol=0.01
        )


def test_unreviewed_answers_take_no_part() -> None:
    """A label's scores are those of a fit to its reviewed pictures alone."""
    drawn = draw_pictures(90, 1)
    masked = drawn.targets.copy()
    masked[60:] = np.nan
    scores = []
    for problem in (
        FittingProblem.of(drawn.embeddings, masked),
        FittingProblem.of(drawn.embeddings[:60], drawn.targets[:60]),
    ):
        same_pull = Strength(penalty=1e-3 * problem.scale**2, text=0.0)
        ((weight, bias),) = problem.solve([same_pull])
        scores.append(drawn.embeddings @ weight[0] + bias[0])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)


def test_a_label_does_not_depend_on_its_neighbours() -> None:
    drawn = draw_pictures(90, 3)
    strength = [Strength(penalty=0.001, text=0.0)]
    three, _ = FittingProblem.of(drawn.embeddings, drawn.targets).solve(strength)[0]
    one, _ = FittingProblem.of(drawn.embeddings, drawn.targets[:, 1:2]).solve(strength)[0]
    np.testing.assert_allclose(three[1], one[0], atol=1e-3)


def test_a_rare_label_weighs_its_yes_as_much_as_its_no() -> None:
    """Nine more copies of every negative change where the mean lies, and no score."""
    drawn = draw_pictures(60, 1)
    copies = np.tile(np.flatnonzero(drawn.targets[:, 0] == 0), 9)
    scores = []
    for rows in (np.arange(60), np.concatenate([np.arange(60), copies])):
        problem = FittingProblem.of(drawn.embeddings[rows], drawn.targets[rows])
        same_pull = Strength(penalty=1e-3 * problem.scale**2, text=0.0)
        ((weight, bias),) = problem.solve([same_pull])
        scores.append(drawn.embeddings @ weight[0] + bias[0])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)


def test_a_strong_pull_toward_text_ranks_as_the_text_does() -> None:
    drawn = draw_pictures(60)
    problem = FittingProblem.of(drawn.embeddings, drawn.targets, drawn.text)
    ((weight, _),) = problem.solve([Strength(penalty=1e6, text=1.0)])
    for mine, text in zip(weight, drawn.text, strict=True):
        assert mine @ text / np.linalg.norm(mine) > 0.9999


def test_a_strong_pull_toward_nothing_leaves_nothing() -> None:
    drawn = draw_pictures(60)
    problem = FittingProblem.of(drawn.embeddings, drawn.targets, drawn.text)
    ((weight, _),) = problem.solve([Strength(penalty=1e6, text=0.0)])
    assert np.abs(weight).max() < 1e-4


def test_every_label_is_solved_at_its_own_strength() -> None:
    """One solution for all is made of the columns of two."""
    drawn = draw_pictures(60)
    problem = FittingProblem.of(drawn.embeddings, drawn.targets, drawn.text)
    strengths = [Strength(penalty=0.1, text=1.0), Strength(penalty=0.001, text=0.0)]
    (first, _), (second, _) = problem.solve(strengths)
    mixed, _ = problem.solve_each(strengths)
    np.testing.assert_allclose(mixed, [first[0], second[1]], atol=1e-3)


def test_many_pictures_give_what_float64_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of float32 move no score by more than people would see."""
    drawn = draw_pictures(6000)
    scores = []
    for limit in (5_000, 50_000):
        monkeypatch.setattr("model.classifier._FLOAT32_FROM", limit)
        problem = FittingProblem.of(drawn.embeddings, drawn.targets, drawn.text)
        ((weight, bias),) = problem.solve([Strength(penalty=0.001, text=0.05)])
        scores.append(drawn.embeddings @ weight.T + bias)
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)


def test_answers_of_one_kind_alone_give_finite_weights() -> None:
    """A fold may hold out the last positive of a rare label."""
    drawn = draw_pictures(30)
    targets = drawn.targets.copy()
    targets[:, 0] = 0
    for weight, bias in FittingProblem.of(drawn.embeddings, targets, drawn.text).solve(
        [Strength(penalty=p, text=t) for t in (False, True) for p in (0.1, 0.0003)]
    ):
        assert np.isfinite(weight).all()
        assert np.isfinite(bias).all()


def test_pictures_that_are_all_alike_give_finite_weights() -> None:
    same = np.tile(draw_pictures(1).embeddings, (8, 1))
    targets = np.array([[0], [1]] * 4, np.float32)
    ((weight, bias),) = FittingProblem.of(same, targets).solve([Strength(penalty=0.01, text=0.0)])
    assert np.isfinite(weight).all()
    np.testing.assert_allclose(same @ weight.T + bias, 0, atol=1e-3)
