"""Every backend against open_clip's own code on small models of the families that CLIP comes in."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.backends import Trial, choose_backend
from model.encoder import (
    ClipEncoder,
    EncoderConfig,
    EncoderMismatch,
    EncoderUnavailable,
    encoder_id,
    load_encoder,
)
from model.labels import LabelPrompt, Taxonomy
from model.prelabel import embed_prompts, prelabel

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 64, "layers": 3, "width": 128, "head_width": 32, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None}
TAXONOMY = Taxonomy(labels=(LabelPrompt(label="ant", prompts=("an ant",)),))


def small_clip(folder: Path, vision: dict[str, Any]) -> EncoderConfig:
    """Write a checkpoint of a small model with seeded random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT}
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{checkpoint}", load_weights=False)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        checkpoint / "small.safetensors",
    )
    return EncoderConfig(checkpoint=checkpoint, cache=folder / "cache")


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["vit", "resnet"])
def small(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EncoderConfig:
    return small_clip(tmp_path_factory.mktemp("small"), request.param)


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[Image.Image]:
    images = []
    for path in sorted((shared / "data" / "hymenoptera" / "images").iterdir())[:11]:
        with Image.open(path) as image:
            images.append(image.copy())
    return images


@pytest.fixture(scope="module")
def reference(small: EncoderConfig, photographs: list[Image.Image]) -> NDArray[np.float32]:
    return load_encoder(small).encode_images(photographs)


def on(config: EncoderConfig, **changes: Any) -> ClipEncoder:  # noqa: ANN401 - fields of EncoderConfig
    return load_encoder(dataclasses.replace(config, **changes))


def test_auto_names_no_vectors_until_it_is_measured(shared: Path) -> None:
    config = EncoderConfig(checkpoint=shared / "weights" / "standin", backend="auto")
    with pytest.raises(EncoderUnavailable, match="measure with"):
        encoder_id(config)


@pytest.mark.slow
def test_onnx_gives_the_references_vectors_under_its_id(
    small: EncoderConfig, photographs: list[Image.Image], reference: NDArray[np.float32]
) -> None:
    """In batches of another size than the model was exported with, too."""
    onnx = on(small, backend="onnx")
    assert onnx.id == encoder_id(small)
    for batch_size in (1, 8):
        got = onnx.encode_images(photographs, batch_size=batch_size)
        np.testing.assert_allclose(got, reference, atol=1e-4)


@pytest.mark.slow
def test_int8_gives_other_vectors_under_another_id(
    small: EncoderConfig, photographs: list[Image.Image], reference: NDArray[np.float32]
) -> None:
    int8 = on(small, backend="onnx-int8")
    got = int8.encode_images(photographs)
    assert int8.id != encoder_id(small)
    assert (got * reference).sum(axis=1).mean() >= 0.99
    assert np.abs(got - reference).max() > 1e-4
    with pytest.raises(EncoderMismatch, match=int8.id):
        prelabel(got, embed_prompts(load_encoder(small), TAXONOMY), encoder_id=int8.id)


@pytest.mark.slow
def test_calibration_pictures_are_part_of_the_id(
    small: EncoderConfig,
    photographs: list[Image.Image],
    reference: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    encoder = load_encoder(small)
    path = tmp_path / "calibration.npy"
    np.save(path, np.stack([encoder.preprocessing.pixels(image) for image in photographs]))
    calibrated = on(small, backend="onnx-int8", calibration=path)
    assert len({encoder.id, calibrated.id, on(small, backend="onnx-int8").id}) == 3
    got = calibrated.encode_images(photographs)
    assert (got * reference).sum(axis=1).mean() >= 0.98


@pytest.mark.slow
def test_an_export_that_was_cut_off_leaves_nothing_that_looks_like_one(
    small: EncoderConfig, photographs: list[Image.Image]
) -> None:
    """What is exported is compared first and moved into its place last."""
    on(small, backend="onnx").encode_images(photographs[:1])
    assert [path.name for path in (small.cache / encoder_id(small)).iterdir()] == ["fp32.onnx"]


@pytest.mark.slow
def test_words_are_encoded_where_the_backend_for_pictures_is_missing(
    small: EncoderConfig, photographs: list[Image.Image]
) -> None:
    """There is no CUDA device here: looking up words needs none."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    encoder = on(small, backend="torch-bf16")
    assert encoder.encode_texts(["an ant"]).shape == (1, 32)
    with pytest.raises(EncoderUnavailable, match="needs a CUDA device"):
        encoder.encode_images(photographs[:1])


@pytest.mark.slow
def test_auto_takes_the_fastest_that_agrees_and_says_why(
    small: EncoderConfig, photographs: list[Image.Image], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="model.backends"):
        choice = choose_backend(small, photographs, TAXONOMY)
    agreeing = [trial for trial in choice.trials if trial.agrees]
    best = max(agreeing, key=lambda trial: trial.images_per_s)
    assert (choice.config.backend, choice.encoder_id) == (best.backend, best.encoder_id)
    assert encoder_id(choice.config) == choice.encoder_id
    assert str(choice) in caplog.text


@pytest.mark.slow
def test_auto_keeps_to_the_vectors_that_there_are(
    small: EncoderConfig, photographs: list[Image.Image]
) -> None:
    choice = choose_backend(small, photographs, TAXONOMY, only_id=encoder_id(small))
    assert choice.encoder_id == encoder_id(small)
    assert {trial.backend for trial in choice.trials} == {"torch", "onnx"}


@pytest.mark.parametrize(
    ("changes", "agrees"),
    [
        ({}, True),
        ({"cosine": 0.98}, False),
        ({"flipped": 0.006}, False),
        ({"refused": "no such device"}, False),
    ],
)
def test_agreeing_is_by_cosine_and_by_answers(changes: dict[str, Any], agrees: bool) -> None:
    good = Trial(backend="onnx", calibrated=False, cosine=0.995, flipped=0.004)
    assert dataclasses.replace(good, **changes).agrees is agrees
