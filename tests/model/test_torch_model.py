"""Exports for torch: loaded in a fresh process without cratedig, and right on real photographs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from model.classifier import MultiLabelHead
from model.encoder import EncoderConfig, EncoderMismatch, encoder_id, load_encoder
from model.torch_model import export_torch
from tests.model.small_towers import CONVOLUTIONAL, ants_and_bees, pixels_of, small_vit

TOLERANCE = 1e-5

LOADERS = {
    "torchscript": """
files = {"cratedig.json": ""}
run = torch.jit.load(model, _extra_files=files)
""",
    "program": """
files = {"cratedig.json": ""}
run = torch.export.load(model, extra_files=files).module()
""",
}
PROGRAM = """
import json, sys
import numpy, torch
model, pixels, to = sys.argv[1:]
{loader}
assert not {{"model", "flows", "open_clip", "timm"}} & set(sys.modules)
with torch.no_grad():
    numpy.save(to, run(torch.from_numpy(numpy.load(pixels))).numpy())
print(json.loads(files["cratedig.json"])["version"])
"""


def head_of(config: EncoderConfig) -> MultiLabelHead:
    dim = load_encoder(config).dim
    rng = np.random.default_rng(0)
    return MultiLabelHead(
        labels=("ants", "bees", "wasps"),
        weight_LD=(4 * rng.normal(size=(3, dim))).astype(np.float32),
        bias_L=np.array([0.1, -0.2, 0.3], np.float32),
        thresholds_L=np.full(3, 0.5, np.float32),
        encoder_id=encoder_id(config),
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    vit = small_vit(tmp_path_factory.mktemp("vit") / "small")
    return {"convolutional": CONVOLUTIONAL, "vit": vit}


@pytest.mark.parametrize("kind", ["torchscript", "program"])
@pytest.mark.parametrize("tower", ["convolutional", "vit"])
def test_a_fresh_process_gets_the_models_probabilities_from_photographs(
    tower: str,
    kind: Literal["torchscript", "program"],
    checkpoints: dict[str, Path],
    shared: Path,
    tmp_path: Path,
) -> None:
    """Within 1e-5 of encoder and head, for a batch of five, without cratedig or open_clip."""
    config = EncoderConfig(checkpoint=checkpoints[tower])
    head = head_of(config)
    images, _ = ants_and_bees(shared, 3)
    pixels = pixels_of(checkpoints[tower], images[:5])["watched"]
    (tmp_path / "model").write_bytes(export_torch(head, config, "v1", kind))
    np.save(tmp_path / "pixels.npy", pixels)
    ran = subprocess.run(
        [
            *(sys.executable, "-P", "-c", PROGRAM.format(loader=LOADERS[kind])),
            *(tmp_path / "model", tmp_path / "pixels.npy", tmp_path / "found.npy"),
        ],
        check=True,
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "v1"
    expected = head.scores(load_encoder(config).encode_pixels(pixels))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=TOLERANCE)


def test_an_encoder_that_is_not_the_heads_is_refused(checkpoints: dict[str, Path]) -> None:
    head = dataclasses.replace(
        head_of(EncoderConfig(checkpoint=CONVOLUTIONAL)), encoder_id="other-1"
    )
    with pytest.raises(EncoderMismatch, match="other-1"):
        export_torch(head, EncoderConfig(checkpoint=CONVOLUTIONAL), "v1", "program")


def test_the_file_says_what_it_answers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import torch

    config = EncoderConfig(checkpoint=CONVOLUTIONAL)
    head = head_of(config)
    (tmp_path / "model").write_bytes(export_torch(head, config, "v1", "program"))
    files = {"cratedig.json": ""}
    torch.export.load(str(tmp_path / "model"), extra_files=files)
    about = json.loads(files["cratedig.json"])
    assert about["labels"] == ["ants", "bees", "wasps"]
    assert about["thresholds"] == [0.5] * 3
    assert about["encoder_id"] == head.encoder_id
