"""The demo's CLIP: small, loadable by open_clip, and led by the words of its prompts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.demo.draw import KINDS, Drawing, draw
from infra.demo.measure_weights import (
    FITTED_ON,
    LABELS,
    MEASURED_SEEDS,
    PARAPHRASES,
    PROMPTS,
    Clip,
    area_under_roc,
    f1,
    has,
)
from infra.demo.train_weights import WEIGHTS, main
from infra.demo.training_set import IMAGE_PX, VIEWS, training_set


@pytest.fixture(scope="module")
def clip() -> Clip:
    """The committed weights, loaded as a user would load them."""
    return Clip(WEIGHTS)


@pytest.fixture(scope="module")
def unseen() -> list[Drawing]:
    """Sixty drawings that were not trained on."""
    return [draw(seed, KINDS[seed % 4]) for seed in MEASURED_SEEDS[FITTED_ON:]]


@pytest.fixture(scope="module")
def embedded(clip: Clip, unseen: list[Drawing]) -> NDArray[np.float32]:
    """The sixty as unit vectors."""
    return clip.images([drawing.image for drawing in unseen])


def test_the_folder_is_at_most_eight_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 8_000_000


def test_embeddings_of_pictures_and_texts_are_finite_unit_vectors_of_one_dimension(
    clip: Clip, embedded: NDArray[np.float32]
) -> None:
    texts_TD = clip.texts(["a turntable", "a word nobody trained: zxqv"])
    assert texts_TD.shape[1] == embedded.shape[1]
    lengths = np.linalg.norm(np.concatenate([texts_TD, embedded]), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-4)


@pytest.mark.parametrize("label", LABELS)
def test_prompts_rank_unseen_drawings_well(
    clip: Clip, unseen: list[Drawing], embedded: NDArray[np.float32], label: str
) -> None:
    scores_N = embedded @ clip.texts(PROMPTS[label]).mean(0)
    assert area_under_roc(scores_N, has(label, unseen)) > 0.93


@pytest.mark.parametrize("label", LABELS)
def test_a_paraphrase_unseen_in_training_still_ranks_them(
    clip: Clip, unseen: list[Drawing], embedded: NDArray[np.float32], label: str
) -> None:
    scores_N = embedded @ clip.texts(PARAPHRASES[label]).mean(0)
    assert area_under_roc(scores_N, has(label, unseen)) > 0.8


def test_another_prompt_ranks_the_same_drawings_otherwise(
    clip: Clip, embedded: NDArray[np.float32]
) -> None:
    """Words matter: the rankings for a record, a turntable and a clock are far from one another."""
    scores_NT = embedded @ clip.texts(["a vinyl record", "a turntable", "a clock"]).T
    ranks_NT = scores_NT.argsort(0).argsort(0)
    correlation = np.asarray(np.corrcoef(ranks_NT.T))
    assert correlation[np.triu_indices(3, 1)].max() < 0.7


def test_the_readme_says_that_the_weights_are_for_the_demo_alone() -> None:
    words = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert "For the demo alone" in words
    assert "Apache-2.0" in words


def test_a_training_set_is_the_same_however_many_processes_draw_it() -> None:
    one, two = training_set(range(2), processes=1), training_set(range(2), processes=2)
    np.testing.assert_array_equal(one.views, two.views)
    assert (one.captions, one.facts) == (two.captions, two.facts)
    assert one.views.shape == (2, VIEWS, IMAGE_PX, IMAGE_PX, 3)


def test_area_under_roc_equals_a_case_worked_by_hand() -> None:
    """Of the six pairs, four are in order and one is a tie."""
    scores = np.array([0.9, 0.4, 0.4, 0.1, 0.6], dtype=np.float32)
    truth = np.array([True, True, False, False, False])
    assert area_under_roc(scores, truth) == pytest.approx(4.5 / 6)


def test_f1_equals_a_case_worked_by_hand() -> None:
    """Two of three answers are right, and two of four are found."""
    yes = np.array([True, True, True, False, False, False])
    truth = np.array([True, True, False, True, True, False])
    assert f1(yes, truth) == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


@pytest.mark.slow
def test_a_short_training_leaves_a_folder_that_open_clip_loads(tmp_path: Path) -> None:
    main(["--folder", str(tmp_path), "--steps", "2", "--drawings", "64"])
    config = json.loads((tmp_path / "open_clip_config.json").read_text(encoding="utf-8"))
    trained = Clip(tmp_path).texts(["a turntable"])
    assert trained.shape == (1, config["model_cfg"]["embed_dim"])
    assert (tmp_path / "README.md").exists()
