"""Fine-tuning: what is moved and what is not, the same weights each time, and after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.augment import augment
from model.clip_files import resolve
from model.encoder import EncoderConfig, built, encoder_id, load_encoder
from model.fine_tune_config import Estimate, FineTuneConfig, Mode
from model.fine_tune_state import write_encoder
from model.trainable import FineTuneUnsupported
from tests.model.small_towers import CONVOLUTIONAL, ants_and_bees, pixels_of, small_vit, tuned
from tests.waiting import until

OVERFIT = FineTuneConfig(epochs=12, batch_size=4, learning_rate=3e-3, patience=99, blocks=1)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_vit(tmp_path_factory.mktemp("vit") / "small")


@pytest.fixture(scope="module")
def eight(shared: Path, vit: Path) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]:
    """Eight photographs as the ViT sees them, and their targets."""
    images, targets = ants_and_bees(shared, 4)
    return pixels_of(vit, images), targets


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    model, _, _ = built(resolve(EncoderConfig(checkpoint=checkpoint)))
    return model.state_dict()


def weights_hash(folder: Path) -> str:
    (path,) = folder.glob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("mode", ["last_blocks", "lora"])
def test_eight_photographs_are_learned_by_heart(
    mode: Mode,
    vit: Path,
    eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]],
    tmp_path: Path,
) -> None:
    """From a head that says nothing, loss log 2, to one that knows them; as an encoder of its own."""
    pixels, targets = eight
    config = dataclasses.replace(OVERFIT, mode=mode, epochs=40, head_learning_rate=0.3)
    result = tuned(vit, pixels, targets, tmp_path / "state", config)
    assert result.looks[0].watched_loss == pytest.approx(np.log(2))
    assert result.improved
    assert result.best.watched_loss < 0.3
    write_encoder(result.model, resolve(EncoderConfig(checkpoint=vit)), tmp_path / "new")
    before, after = (EncoderConfig(checkpoint=each) for each in (vit, tmp_path / "new"))
    assert encoder_id(after).startswith("small-tuned-")
    base, new = load_encoder(before), load_encoder(after)
    assert new.preprocessing == base.preprocessing
    words = ["an ant", "a bee"]
    np.testing.assert_array_equal(new.encode_texts(words), base.encode_texts(words))
    assert (
        np.abs(new.encode_pixels(pixels["watched"]) - base.encode_pixels(pixels["watched"])).max()
        > 0.01
    )


def test_only_the_last_block_and_what_follows_it_moves(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    pixels, targets = eight
    config = dataclasses.replace(OVERFIT, epochs=1)
    result = tuned(vit, pixels, targets, tmp_path / "state", config)
    base = weights_of(vit)
    moved = {
        name
        for name, each in result.model.state_dict().items()
        if not torch.equal(each, base[name])
    }
    assert "visual.transformer.resblocks.2.mlp.c_fc.weight" in moved
    assert "visual.proj" in moved
    follows = ("visual.transformer.resblocks.2.", "visual.ln_post.", "visual.proj")
    assert not [name for name in moved if not name.startswith(follows)]


def test_lora_moves_matrices_by_its_rank_and_nothing_else(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    pixels, targets = eight
    config = dataclasses.replace(OVERFIT, mode="lora", rank=2, epochs=2)
    result = tuned(vit, pixels, targets, tmp_path / "state", config)
    base = weights_of(vit)
    found = result.model.state_dict()
    assert found.keys() == base.keys()
    moved = [name for name in base if not torch.equal(found[name], base[name])]
    assert len(moved) == 3 * 4  # attention in and out, two of the MLP, in three blocks
    ranks = {int(torch.linalg.matrix_rank(found[name] - base[name], rtol=1e-3)) for name in moved}
    assert ranks == {2}


def test_lora_on_a_convolutional_tower_is_refused_with_what_to_do(
    shared: Path, tmp_path: Path
) -> None:
    images, targets = ants_and_bees(shared, 1)
    pixels = pixels_of(CONVOLUTIONAL, images)
    with pytest.raises(FineTuneUnsupported, match='fine_tune = "last_blocks"'):
        tuned(CONVOLUTIONAL, pixels, targets, tmp_path / "state", FineTuneConfig(mode="lora"))


def test_a_convolutional_tower_moves_in_its_last_stage(shared: Path, tmp_path: Path) -> None:
    images, targets = ants_and_bees(shared, 2)
    pixels = pixels_of(CONVOLUTIONAL, images)
    config = dataclasses.replace(OVERFIT, epochs=1)
    result = tuned(CONVOLUTIONAL, pixels, targets, tmp_path / "state", config)
    base = weights_of(CONVOLUTIONAL)
    moved = [
        name
        for name, each in result.model.state_dict().items()
        if not torch.equal(each, base[name])
    ]
    assert moved
    assert all(name.startswith(("visual.layer4.", "visual.attnpool.")) for name in moved)
    assert not [name for name in moved if "running" in name]


def test_what_is_unreviewed_teaches_nothing(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    """Other pixels in a picture without answers leave the weights as they were, bit for bit."""
    pixels, targets = eight
    targets = targets.copy()
    targets[3] = np.nan
    other = {name: each.copy() for name, each in pixels.items()}
    other["fitted"][3] = 255 - other["fitted"][3]
    config = dataclasses.replace(OVERFIT, epochs=2)
    hashes = []
    for number, each in enumerate((pixels, other)):
        result = tuned(vit, each, targets, tmp_path / f"state{number}", config)
        write_encoder(result.model, resolve(EncoderConfig(checkpoint=vit)), tmp_path / f"{number}")
        hashes.append(weights_hash(tmp_path / f"{number}"))
    assert hashes[0] == hashes[1]


def test_without_a_better_look_the_encoder_stays_as_it_was(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    """A rate that destroys: it stops after `patience` looks, and gives back what it began with."""
    pixels, targets = eight
    config = dataclasses.replace(
        OVERFIT, learning_rate=10.0, head_learning_rate=100.0, epochs=50, patience=2
    )
    result = tuned(vit, pixels, targets, tmp_path / "state", config)
    base = weights_of(vit)
    assert not result.improved
    assert result.looks[-1].step < 50 * 2
    assert all(torch.equal(each, base[name]) for name, each in result.model.state_dict().items())


def test_a_killed_run_is_carried_on_to_the_same_weights(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    """Killed with SIGKILL in the middle; its weights are then those of a run in one go elsewhere."""
    pixels, targets = eight
    np.savez(
        tmp_path / "pixels.npz",
        watched=pixels["watched"],
        fitted=pixels["fitted"],
        targets=targets,
    )

    def command(name: str) -> list[str]:
        arguments = (vit, tmp_path / "pixels.npz", tmp_path / f"{name}.state", tmp_path / name)
        return [sys.executable, "-m", "tests.model.small_towers", *map(str, arguments)]

    def steps_saved() -> int:
        path = tmp_path / "killed.state"
        return int(torch.load(path, weights_only=True)["step"]) if path.exists() else 0

    with subprocess.Popen(command("killed")) as process:
        until(lambda: steps_saved() >= 3, timeout_s=240)
        process.send_signal(signal.SIGSTOP)  # so that it is in the middle, however slow this is
        assert 3 <= steps_saved() < 16
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    subprocess.run(command("killed"), check=True)
    subprocess.run(command("whole"), check=True)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "whole")


def test_a_state_of_another_run_is_not_carried_on(
    vit: Path, eight: tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]], tmp_path: Path
) -> None:
    pixels, targets = eight
    config = dataclasses.replace(OVERFIT, epochs=1)
    tuned(vit, pixels, targets, tmp_path / "state", config)
    longer = tuned(vit, pixels, targets, tmp_path / "state", dataclasses.replace(config, epochs=2))
    assert [look.step for look in longer.looks] == [0, 2, 4]


def test_augmented_pictures_differ_by_seed_alone_and_stay_in_range() -> None:
    image = torch.rand(5, 3, 60, 60, generator=torch.Generator().manual_seed(1))

    def drawn(seed: int) -> torch.Tensor:
        return augment(image, (48, 40), torch.Generator().manual_seed(seed), flip=True)

    assert drawn(1).shape == (5, 3, 48, 40)
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert float(drawn(1).min()) >= 0
    assert float(drawn(1).max()) <= 1


def test_without_flips_left_stays_left() -> None:
    """A picture that is dark on the left is dark on the left in all of 64 draws; with flips, in some."""
    image = torch.zeros(64, 3, 60, 60)
    image[..., 30:] = 1
    for flip, expected in ((False, 64), (True, 32)):
        found = augment(image, (48, 48), torch.Generator().manual_seed(0), flip=flip)
        brighter_right = found[..., 40:].mean((1, 2, 3)) > found[..., :8].mean((1, 2, 3))
        assert abs(int(brighter_right.sum()) - expected) <= (16 if flip else 0)


def test_an_estimate_says_the_time_and_what_it_is_made_of() -> None:
    said = str(Estimate(steps=100, step_s=2.0, looks=10, look_s=4.0))
    assert said.startswith("fine-tuning takes 4 minutes at most: 100 steps of 2.00 s, 10 looks")
