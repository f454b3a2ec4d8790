"""The encoder against open_clip's own code, on real photographs, and what it refuses.

What needs open_clip, whose import alone takes many seconds, is marked slow.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from model.encoder import (
    ClipEncoder,
    EncoderConfig,
    EncoderUnavailable,
    encoder_id,
    load_encoder,
)

# The templates of the stand-in's README, whose figures are met below.
TEMPLATES = ("a photo of a {}", "{}", "a {}", "a close-up photo of a {}")


@pytest.fixture(scope="session")
def standin(shared: Path) -> Path:
    return shared / "weights" / "standin"


@pytest.fixture(scope="session")
def encoder(standin: Path) -> ClipEncoder:
    return load_encoder(EncoderConfig(checkpoint=standin))


@pytest.fixture
def folder(standin: Path, tmp_path: Path) -> Path:
    """A checkpoint folder of our own, whose config can be changed."""
    (tmp_path / "open_clip_config.json").write_bytes(
        (standin / "open_clip_config.json").read_bytes()
    )
    (tmp_path / "weights.safetensors").symlink_to(standin / "cratedig-standin.safetensors")
    return tmp_path


def photographs(shared: Path, name: str, count: int | None = None) -> list[Image.Image]:
    images = []
    for path in sorted((shared / "data" / name / "images").iterdir())[:count]:
        with Image.open(path) as image:
            images.append(image.copy())
    return images


def labels(shared: Path, name: str) -> list[list[str]]:
    with (shared / "data" / name / "labels.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["filename"])
    return [row["labels"].split(";") for row in rows]


def edit_config(folder: Path, section: str, **changes: object) -> None:
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    document[section].update(changes)
    path.write_text(json.dumps(document))


# Without open_clip


def test_importing_the_module_imports_neither_torch_nor_open_clip() -> None:
    """Commands that encode nothing must start quickly."""
    code = "import sys, model.prelabel; print({'torch', 'open_clip'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_an_id_of_a_checkpoint_folder_needs_no_torch(standin: Path) -> None:
    code = (
        "import sys, pathlib, model.encoder as e; "
        "print(e.encoder_id(e.EncoderConfig(checkpoint=pathlib.Path(sys.argv[1]))), "
        "'torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, standin], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"cratedig-standin-[0-9a-f]{12} False\n", said.stdout)


def test_the_id_does_not_depend_on_where_the_folder_lies(folder: Path) -> None:
    before = encoder_id(EncoderConfig(checkpoint=folder))
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    assert encoder_id(EncoderConfig(checkpoint=elsewhere)) == before


@pytest.mark.parametrize(
    ("section", "changes"),
    [("model_cfg", {"quick_gelu": True}), ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]})],
)
def test_the_id_changes_with_the_config(
    folder: Path, section: str, changes: dict[str, object]
) -> None:
    before = encoder_id(EncoderConfig(checkpoint=folder))
    edit_config(folder, section, **changes)
    assert encoder_id(EncoderConfig(checkpoint=folder)) != before


def test_the_id_changes_with_one_byte_of_the_weights(folder: Path) -> None:
    before = encoder_id(EncoderConfig(checkpoint=folder))
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    assert encoder_id(EncoderConfig(checkpoint=folder)) != before


def test_naming_no_encoder_is_refused() -> None:
    with pytest.raises(EncoderUnavailable, match="no encoder is named"):
        load_encoder(EncoderConfig())


def test_a_model_without_weights_is_refused() -> None:
    """Random weights would give scores that look like scores."""
    with pytest.raises(EncoderUnavailable, match="ViT-B-32 has no weights"):
        load_encoder(EncoderConfig(model="ViT-B-32"))


def test_a_tag_and_a_checkpoint_together_are_refused(folder: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="give one of them"):
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="openai", checkpoint=folder))


def test_a_model_name_beside_a_checkpoint_folder_is_refused(folder: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="leave model out"):
        load_encoder(EncoderConfig(model="ViT-B-32", checkpoint=folder))


def test_a_missing_checkpoint_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match=re.escape(f"{tmp_path / 'gone'} does not exist")):
        load_encoder(EncoderConfig(checkpoint=tmp_path / "gone"))


def test_a_checkpoint_file_without_a_model_name_is_refused(folder: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="model must name its architecture"):
        load_encoder(EncoderConfig(checkpoint=folder / "weights.safetensors"))


def test_a_folder_without_a_config_is_refused(folder: Path) -> None:
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(EncoderUnavailable, match=r"has no open_clip_config\.json"):
        load_encoder(EncoderConfig(checkpoint=folder))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"model_cfg": 3}',
        '{"model_cfg": {}}',
        '{"model_cfg": {}, "preprocess_cfg": 3}',
    ],
)
def test_a_config_that_is_not_open_clips_is_refused(folder: Path, text: str) -> None:
    (folder / "open_clip_config.json").write_text(text)
    with pytest.raises(EncoderUnavailable, match=r"open_clip_config\.json"):
        load_encoder(EncoderConfig(checkpoint=folder))


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_must_hold_exactly_one_weights_file(folder: Path, count: int) -> None:
    (folder / "weights.safetensors").unlink()
    for number in range(count):
        (folder / f"{number}.safetensors").touch()
    with pytest.raises(EncoderUnavailable, match=rf"holds {count} \.safetensors files"):
        load_encoder(EncoderConfig(checkpoint=folder))


# Through open_clip


@pytest.fixture(scope="session")
def plain(standin: Path) -> tuple[Any, Any, Any]:
    """The stand-in through nothing but open_clip, as its README loads it."""
    import open_clip

    open_clip.add_model_config(standin / "cratedig-standin.json")
    model, _, preprocess = open_clip.create_model_and_transforms(
        "cratedig-standin", pretrained=str(standin / "cratedig-standin.safetensors")
    )
    model.eval()
    return model, preprocess, open_clip.get_tokenizer("cratedig-standin")


@pytest.mark.slow
def test_image_embeddings_are_those_of_plain_open_clip(
    encoder: ClipEncoder, plain: tuple[Any, Any, Any], shared: Path
) -> None:
    import torch

    model, preprocess, _ = plain
    images = photographs(shared, "turntable_vinyl", 11)
    with torch.no_grad():
        expected = [model.encode_image(preprocess(image)[None], normalize=True) for image in images]
    got = encoder.encode_images(images, batch_size=4)
    np.testing.assert_allclose(got, torch.cat(expected).numpy(), atol=1e-5)


@pytest.mark.slow
def test_text_embeddings_are_those_of_plain_open_clip(
    encoder: ClipEncoder, plain: tuple[Any, Any, Any]
) -> None:
    import torch

    model, _, tokenizer = plain
    texts = ["a photo of a turntable", "a vinyl record", "orange " * 60]
    with torch.no_grad():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-5)


@pytest.mark.slow
def test_zero_shot_scores_are_those_of_plain_open_clip(
    encoder: ClipEncoder, plain: tuple[Any, Any, Any], shared: Path
) -> None:
    import torch

    model, preprocess, tokenizer = plain
    images = photographs(shared, "hymenoptera", 4)
    texts = ["a photo of a bee", "a photo of an ant"]
    with torch.no_grad():
        image_BD = model.encode_image(torch.stack([preprocess(i) for i in images]), normalize=True)
        text_TD = model.encode_text(tokenizer(texts), normalize=True)
        expected = (model.logit_scale.exp() * image_BD @ text_TD.T).softmax(-1).numpy()
    logits = encoder.logit_scale * encoder.encode_images(images) @ encoder.encode_texts(texts).T
    got = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.slow
def test_a_weights_file_with_a_named_model_gives_the_same_embeddings(
    encoder: ClipEncoder, plain: tuple[Any, Any, Any], standin: Path, shared: Path
) -> None:
    weights = standin / "cratedig-standin.safetensors"
    by_file = load_encoder(EncoderConfig(model="cratedig-standin", checkpoint=weights))
    images = photographs(shared, "turntable_vinyl", 2)
    np.testing.assert_array_equal(by_file.encode_images(images), encoder.encode_images(images))


@pytest.mark.slow
def test_rows_have_unit_length_whatever_the_mode_of_the_picture(encoder: ClipEncoder) -> None:
    images = [Image.effect_noise((90, 70), 40).convert(mode) for mode in ("RGB", "L", "RGBA", "P")]
    got = encoder.encode_images(images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), np.ones(4), atol=1e-6)


@pytest.mark.slow
def test_no_pictures_give_no_rows(encoder: ClipEncoder) -> None:
    assert encoder.encode_images([]).shape == (0, 384)


@pytest.mark.slow
def test_the_loaded_encoder_has_the_id_foretold(encoder: ClipEncoder, standin: Path) -> None:
    assert encoder.id == encoder_id(EncoderConfig(checkpoint=standin))


@pytest.mark.slow
def test_loading_says_nothing(
    standin: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """open_clip warns on the root logger of a model that has no weights, which it is about to get."""
    load_encoder(EncoderConfig(checkpoint=standin))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.usefixtures("encoder")
def test_an_unknown_model_is_refused_with_names_like_it() -> None:
    with pytest.raises(EncoderUnavailable, match=r"no model 'ViT-B-23': did you mean .*ViT-B-32"):
        load_encoder(EncoderConfig(model="ViT-B-23", pretrained="openai"))


@pytest.mark.slow
def test_an_unknown_tag_is_refused_with_the_tags_there_are() -> None:
    with pytest.raises(EncoderUnavailable, match=r"no pretrained weights 'laion3b'.*laion400m_e31"):
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="laion3b"))


@pytest.mark.slow
def test_a_tag_trained_with_another_activation_is_refused_with_the_right_model() -> None:
    with pytest.raises(EncoderUnavailable, match="use model ViT-B-32-quickgelu"):
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="openai"))


@pytest.mark.slow
def test_a_download_that_fails_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hub's own offline switch and an empty cache: what a machine without network meets."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderUnavailable, match=r"could not be downloaded .* checkpoint file"):
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))


@pytest.mark.slow
def test_weights_of_another_shape_are_refused_by_path(folder: Path) -> None:
    edit_config(folder, "model_cfg", embed_dim=256)
    with pytest.raises(EncoderUnavailable, match=r"weights\.safetensors does not hold weights for"):
        load_encoder(EncoderConfig(checkpoint=folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_file_that_is_no_checkpoint_is_refused_by_path(
    plain: tuple[Any, Any, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"<html>404 not found</html>")
    with pytest.raises(EncoderUnavailable, match=f"{re.escape(name)} does not hold weights"):
        load_encoder(EncoderConfig(model="cratedig-standin", checkpoint=tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("model_cfg", {"no_such_setting": 1}),
        ("model_cfg", {"vision_cfg": {"timm_model_name": "no_such_net", "image_size": 224}}),
        ("preprocess_cfg", {"resize_mode": "sideways"}),
        ("preprocess_cfg", {"mean": "grey"}),
    ],
)
def test_a_config_that_open_clip_cannot_build_is_refused(
    folder: Path, section: str, changes: dict[str, object]
) -> None:
    edit_config(folder, section, **changes)
    with pytest.raises(EncoderUnavailable, match="open_clip cannot build"):
        load_encoder(EncoderConfig(checkpoint=folder))


def zero_shot(encoder: ClipEncoder, images: list[Image.Image], names: list[str]) -> NDArray[Any]:
    prompts = [encoder.encode_texts([t.format(name) for t in TEMPLATES]) for name in names]
    text_LD = np.stack([prompt.mean(axis=0) for prompt in prompts])
    text_LD /= np.linalg.norm(text_LD, axis=1, keepdims=True)
    scores: NDArray[Any] = encoder.encode_images(images) @ text_LD.T
    return scores


@pytest.mark.slow
def test_zero_shot_on_fruit_meets_the_published_figures(encoder: ClipEncoder, shared: Path) -> None:
    names = ["apple", "banana", "orange"]
    scores = zero_shot(encoder, photographs(shared, "fruit_multilabel"), names)
    truth = labels(shared, "fruit_multilabel")
    got = [
        average_precision_score([name in row for row in truth], scores[:, column])
        for column, name in enumerate(names)
    ]
    np.testing.assert_allclose(got, [0.87, 0.67, 0.94], atol=0.015)


@pytest.mark.slow
def test_zero_shot_on_ants_and_bees_meets_the_published_figures(
    encoder: ClipEncoder, shared: Path
) -> None:
    scores = zero_shot(encoder, photographs(shared, "hymenoptera"), ["ant", "bee"])
    is_bee = np.array(["bees" in row for row in labels(shared, "hymenoptera")])
    top_1 = float(((scores[:, 1] > scores[:, 0]) == is_bee).mean())
    auc = (roc_auc_score(~is_bee, scores[:, 0]) + roc_auc_score(is_bee, scores[:, 1])) / 2
    np.testing.assert_allclose([top_1, auc], [0.94, 0.87], atol=0.015)
