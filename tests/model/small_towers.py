"""Small seeded encoders and a few real photographs, for tests of fine-tuning and of exports.

Also a run of fine-tuning as a process of its own, so that it can be killed:

    python -m tests.model.small_towers CHECKPOINT PIXELS STATE TO
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.classifier import MultiLabelHead
from model.clip_files import EncoderConfig, resolve
from model.encoder import load_encoder
from model.fine_tune import FineTuned, Pictures, fine_tune, prepared
from model.fine_tune_config import FineTuneConfig
from model.fine_tune_state import write_encoder

CONVOLUTIONAL = Path(__file__).parents[2] / "infra" / "demo" / "weights"
"""The demo's encoder: a residual network of four stages, 96 pixels."""

VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def small_vit(folder: Path, *, seed: int = 0) -> Path:
    """Write a ViT of three blocks with seeded weights as a checkpoint into `folder`."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    preprocessing = {"size": 48, "mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}
    document = {"model_cfg": VIT, "preprocess_cfg": preprocessing}
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "small.safetensors")
    return folder


def ants_and_bees(shared: Path, each: int = 6) -> tuple[list[Image.Image], NDArray[np.float32]]:
    """Return photographs, `each` of ants and bees in turn, and their targets (N, 2)."""
    folder = shared / "data" / "hymenoptera"
    wanted: dict[str, list[str]] = {"ants": [], "bees": []}
    for line in (folder / "labels.csv").read_text().splitlines()[1:]:
        name, label = line.split(",")[:2]
        if len(wanted[label]) < each:
            wanted[label].append(name)
    names = [name for pair in zip(*wanted.values(), strict=True) for name in pair]
    images = [Image.open(folder / "images" / name).convert("RGB") for name in names]
    return images, np.tile(np.eye(2, dtype=np.float32), (each, 1))


def pixels_of(checkpoint: Path, images: list[Image.Image]) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures as they are watched, and as they are fitted on."""
    seen = load_encoder(EncoderConfig(checkpoint=checkpoint)).preprocessing
    return {
        "watched": np.stack([seen.pixels(image) for image in images]),
        "fitted": np.stack([prepared(seen).pixels(image) for image in images]),
    }


def tuned(
    checkpoint: Path,
    pixels: dict[str, NDArray[np.uint8]],
    targets: NDArray[np.float32],
    state: Path,
    config: FineTuneConfig,
) -> FineTuned:
    """Fine-tune on pictures that are watched, too, from a head of nothing; save after each step."""
    encoder = EncoderConfig(checkpoint=checkpoint)
    labels = tuple(f"label{column}" for column in range(targets.shape[1]))
    dim = int(resolve(encoder).architecture["embed_dim"])
    head = MultiLabelHead(
        labels=labels,
        weight_LD=np.zeros((len(labels), dim), np.float32),
        bias_L=np.zeros(len(labels), np.float32),
        thresholds_L=np.full(len(labels), 0.5, np.float32),
        encoder_id="any",
    )
    return fine_tune(
        encoder,
        Pictures(pixels=pixels["fitted"], targets_NL=targets),
        Pictures(pixels=pixels["watched"], targets_NL=targets),
        head,
        config,
        state=state,
        save_every_s=0,
    )


def main() -> None:
    """Run as the module's docstring says, on what the test has written."""
    checkpoint, pixels, state, to = map(Path, sys.argv[1:])
    with np.load(pixels) as arrays:
        kept = {name: arrays[name] for name in ("watched", "fitted", "targets")}
    config = FineTuneConfig(mode="last_blocks", blocks=1, epochs=8, batch_size=4, patience=99)
    result = tuned(checkpoint, kept, kept["targets"], state, config)
    write_encoder(result.model, resolve(EncoderConfig(checkpoint=checkpoint)), to)


if __name__ == "__main__":
    main()
