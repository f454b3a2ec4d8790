"""Pre-labels: a yes/no question a label, worked by hand, as properties, and through a real CLIP."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.encoder import ClipEncoder, EncoderConfig, EncoderMismatch, load_encoder
from model.labels import LabelPrompt, Taxonomy
from model.prelabel import PromptEmbeddings, embed_prompts, prelabel


def unit_rows(seed: int, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def prompts_of(
    positive_LD: NDArray[np.float32],
    negative_LD: NDArray[np.float32],
    *,
    offset: float = 0.0,
    scale: float = 100.0,
) -> PromptEmbeddings:
    return PromptEmbeddings(
        taxonomy_id="0" * 12,
        encoder_id="clip-1",
        labels=tuple(f"label {number}" for number in range(len(positive_LD))),
        positive_LD=positive_LD,
        negative_LD=negative_LD,
        offset_L=np.full(len(positive_LD), offset, dtype=np.float32),
        logit_scale=scale,
    )


def test_a_score_is_the_sigmoid_of_the_scaled_margin() -> None:
    """By hand: cosines 0.8 and 0.6, scale 10, offset -1, so sigmoid(10 * 0.2 - 1)."""
    image = np.array([[0.8, 0.6]], dtype=np.float32)
    axes = np.eye(2, dtype=np.float32)
    prompts = prompts_of(axes[:1], axes[1:], offset=-1.0, scale=10.0)
    expected = 1 / (1 + math.exp(-(10 * 0.2 - 1)))
    assert prelabel(image, prompts, encoder_id="clip-1")[0, 0] == pytest.approx(expected)


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 40), labels=st.integers(1, 8))
def test_adding_a_label_changes_no_other_column(seed: int, images: int, labels: int) -> None:
    """Not by a bit: stored scores of the other labels stay true."""
    embeddings = unit_rows(seed, images, 48)
    positive, negative = unit_rows(seed + 1, labels + 1, 48), unit_rows(seed + 2, labels + 1, 48)
    fewer = prelabel(embeddings, prompts_of(positive[:-1], negative[:-1]), encoder_id="clip-1")
    more = prelabel(embeddings, prompts_of(positive, negative), encoder_id="clip-1")
    np.testing.assert_array_equal(more[:, :-1], fewer)


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10_000))
def test_scores_are_between_zero_and_one(seed: int, scale: float) -> None:
    prompts = prompts_of(unit_rows(seed + 1, 3, 8), unit_rows(seed + 2, 3, 8), scale=scale)
    scores = prelabel(unit_rows(seed, 20, 8), prompts, encoder_id="clip-1")
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_embeddings_of_another_encoder_are_refused_by_both_ids() -> None:
    prompts = prompts_of(unit_rows(1, 2, 8), unit_rows(2, 2, 8))
    with pytest.raises(EncoderMismatch, match=r"clip-2 .* clip-1"):
        prelabel(unit_rows(0, 3, 8), prompts, encoder_id="clip-2")


def test_embeddings_of_another_dimension_are_refused() -> None:
    prompts = prompts_of(unit_rows(1, 2, 8), unit_rows(2, 2, 8))
    with pytest.raises(EncoderMismatch, match=r"shape \(N, 8\), not \(3, 9\)"):
        prelabel(unit_rows(0, 3, 9), prompts, encoder_id="clip-1")


# Through a real CLIP

ANT = LabelPrompt(label="ant", prompts=("a photo of an ant",), against=("a photo of a bee",))
BEE = LabelPrompt(label="bee", prompts=("a photo of a bee", "a bee on a flower"))


@pytest.fixture(scope="module")
def encoder(shared: Path) -> ClipEncoder:
    return load_encoder(EncoderConfig(checkpoint=shared / "weights" / "standin"))


@pytest.fixture(scope="module")
def embeddings(encoder: ClipEncoder, shared: Path) -> NDArray[np.float32]:
    images = []
    for path in sorted((shared / "data" / "hymenoptera" / "images").iterdir())[:12]:
        with Image.open(path) as image:
            images.append(image.copy())
    return encoder.encode_images(images)


@pytest.mark.slow
def test_against_one_prompt_a_score_is_clips_softmax_of_two(
    encoder: ClipEncoder, embeddings: NDArray[np.float32]
) -> None:
    texts = encoder.encode_texts(["a photo of an ant", "a photo of a bee"])
    logits = (encoder.logit_scale * embeddings @ texts.T).astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    prompts = embed_prompts(encoder, Taxonomy(labels=(ANT,)))
    scores = prelabel(embeddings, prompts, encoder_id=encoder.id)
    np.testing.assert_allclose(scores[:, 0], softmax[:, 0], atol=1e-5)


@pytest.mark.slow
def test_adding_a_label_to_a_taxonomy_changes_no_other_score(
    encoder: ClipEncoder, embeddings: NDArray[np.float32]
) -> None:
    """The prompts are embedded label by label, so not even a batch of texts ties two together."""
    wasp = LabelPrompt(label="wasp", prompts=("a wasp", "a photo of a wasp beside its nest"))
    one = embed_prompts(encoder, Taxonomy(labels=(BEE,)))
    three = embed_prompts(encoder, Taxonomy(labels=(wasp, BEE, ANT)))
    np.testing.assert_array_equal(
        prelabel(embeddings, three, encoder_id=encoder.id)[:, 1],
        prelabel(embeddings, one, encoder_id=encoder.id)[:, 0],
    )


@pytest.mark.slow
def test_a_label_without_contrast_is_asked_against_the_background(encoder: ClipEncoder) -> None:
    """Both labels without `against` share one negative, which is neither's positive."""
    apple = LabelPrompt(label="apple", prompts=("an apple",))
    prompts = embed_prompts(encoder, Taxonomy(labels=(BEE, apple)))
    np.testing.assert_array_equal(prompts.negative_LD[0], prompts.negative_LD[1])
    assert (prompts.negative_LD * prompts.positive_LD).sum(axis=1).max() < 0.9


@pytest.mark.slow
def test_directions_have_unit_length(encoder: ClipEncoder) -> None:
    """The mean of two unit vectors is shorter than one; a label must not lose by having more prompts."""
    prompts = embed_prompts(encoder, Taxonomy(labels=(ANT, BEE)))
    both = np.concatenate([prompts.positive_LD, prompts.negative_LD])
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), np.ones(4), atol=1e-6)


@pytest.mark.slow
def test_prompts_carry_the_ids_of_what_made_them(encoder: ClipEncoder) -> None:
    taxonomy = Taxonomy(labels=(ANT, BEE))
    prompts = embed_prompts(encoder, taxonomy)
    assert (prompts.taxonomy_id, prompts.encoder_id, prompts.labels) == (
        taxonomy.id,
        encoder.id,
        ("ant", "bee"),
    )
