"""Named models out of open_clip's own cache, laid out by hand as the hub's client does, offline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.encoder import EncoderConfig, EncoderUnavailable, encoder_id, load_encoder

pytestmark = pytest.mark.slow  # open_clip's import alone takes many seconds

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def standin(shared: Path) -> Path:
    return shared / "weights" / "standin"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, which is switched off the network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def lay_out(hub: Path, repository: str, weights: Path, name: str) -> None:
    """Put a weights file where the hub's client keeps what it has downloaded."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / name).symlink_to(weights)


def test_a_named_model_is_taken_from_the_cache_without_a_network(
    hub: Path, standin: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in under a name and tag of its own has the vectors of its folder."""
    import open_clip
    from open_clip import pretrained

    open_clip.add_model_config(standin / "cratedig-standin.json")
    tag = {"hf_hub": "cratedig/standin/", "quick_gelu": False}
    monkeypatch.setitem(pretrained._PRETRAINED, "cratedig-standin", {"offline": tag})
    weights = standin / "cratedig-standin.safetensors"
    lay_out(hub, "cratedig/standin", weights, "open_clip_model.safetensors")
    config = EncoderConfig(model="cratedig-standin", pretrained="offline")
    encoder = load_encoder(config)
    assert encoder.id == encoder_id(config)
    with Image.open(next((shared / "data" / "hymenoptera" / "images").iterdir())) as image:
        expected = load_encoder(EncoderConfig(checkpoint=standin)).encode_images([image])
        np.testing.assert_array_equal(encoder.encode_images([image]), expected)


def test_cached_weights_of_another_shape_are_refused_in_one_sentence(
    hub: Path, standin: Path
) -> None:
    """As when a repository's file was replaced by another model's."""
    lay_out(
        hub,
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        standin / "cratedig-standin.safetensors",
        "open_clip_model.safetensors",
    )
    with pytest.raises(EncoderUnavailable) as refused:
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))
    said = str(refused.value)
    assert "does not hold weights for model ViT-B-32" in said
    assert "give the checkpoint that belongs to it" in said
    assert "\n" not in said


def test_a_cache_without_the_file_is_refused_in_one_sentence(hub: Path) -> None:
    """The repository is known, its weights were never downloaded, and there is no network."""
    folder = hub / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    (folder / "snapshots" / REVISION).mkdir(parents=True)
    with pytest.raises(EncoderUnavailable) as refused:
        load_encoder(EncoderConfig(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))
    said = str(refused.value)
    assert said.startswith("the weights 'laion2b_s34b_b79k' of ViT-B-32 could not be downloaded")
    assert "check the network, or give a checkpoint file" in said
    assert "\n" not in said
