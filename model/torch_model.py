"""Image tower and head as one file of torch: a picture tensor goes in, probabilities come out.

    TorchScript      torch.jit.load(path)(pixels); also from C++
    torch.export     torch.export.load(path).module()(pixels)

Input: uint8 (B, height, width, 3), cropped and resized as the encoder wants, B free. Output: float32
(B, L). Labels, thresholds, the encoder's id and the version lie in the file as cratedig.json.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from model.classifier import MultiLabelHead
from model.clip_files import resolve
from model.encoder import (
    ClipEncoder,
    EncoderConfig,
    EncoderMismatch,
    built,
    encoder_id,
    load_encoder,
)
from model.onnx_model import ExportFailed, about_model
from model.preprocess import Preprocessing
from model.towers import channel_constants

ABOUT = "cratedig.json"
_MOST_DIFFERENCE = 1e-3
"""Between the file's probabilities and those of the encoder and the head, on noise."""


class PictureClassifier(torch.nn.Module):
    """The arithmetic of preprocessing, the image tower, and the head."""

    def __init__(
        self, visual: torch.nn.Module, preprocessing: Preprocessing, head: MultiLabelHead
    ) -> None:
        super().__init__()
        mean, std = channel_constants(preprocessing)
        self.visual = visual
        self.mean, self.std = torch.nn.Buffer(mean), torch.nn.Buffer(std)
        self.weight = torch.nn.Buffer(torch.from_numpy(head.weight_LD))
        self.bias = torch.nn.Buffer(torch.from_numpy(head.bias_L))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return probabilities (B, L) of uint8 (B, H, W, C)."""
        image_BCHW = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        embedding_BD = torch.nn.functional.normalize(self.visual(image_BCHW), dim=-1)
        return torch.sigmoid(embedding_BD @ self.weight.T + self.bias)


def export_torch(
    head: MultiLabelHead,
    config: EncoderConfig,
    version: str,
    kind: Literal["torchscript", "program"],
) -> bytes:
    """Return the model as one file, checked against the encoder's own embeddings and the head.

    EncoderMismatch is raised for an encoder that is not the head's, ExportFailed for a file that
    answers otherwise than the model.
    """
    if encoder_id(config) != head.encoder_id:
        raise EncoderMismatch(
            f"the head reads embeddings of {head.encoder_id}, not of {encoder_id(config)}: export "
            "it with the encoder that it was trained on"
        )
    visual, preprocessing, _ = built(resolve(config))
    model = PictureClassifier(visual.visual, preprocessing, head).eval().requires_grad_(False)
    height, width = preprocessing.size
    # Two, because a batch of one is taken for a constant.
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    about = {ABOUT: json.dumps(about_model(head, version))}
    buffer = io.BytesIO()
    # Deprecations inside torch, and notes of its tracer, are not the caller's.
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        if kind == "torchscript":
            # torch leaves both untyped.
            traced = torch.jit.freeze(torch.jit.trace(model, (example,)))  # type: ignore[no-untyped-call]
            torch.jit.save(traced, buffer, _extra_files=about)
            buffer.seek(0)
            run = torch.jit.load(buffer)  # type: ignore[no-untyped-call]
        else:
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(model, (example,), dynamic_shapes=shapes)
            torch.export.save(program, buffer, extra_files=about)
            buffer.seek(0)
            run = torch.export.load(buffer).module()
        _compare(run, head, load_encoder(config))
    return buffer.getvalue()


def _compare(
    run: Callable[[torch.Tensor], torch.Tensor], head: MultiLabelHead, encoder: ClipEncoder
) -> None:
    height, width = encoder.preprocessing.size
    # Three, because two is what the export was shown.
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = run(torch.from_numpy(noise)).numpy()
    difference = float(np.abs(found - head.scores(encoder.encode_pixels(noise))).max())
    if not difference <= _MOST_DIFFERENCE:
        raise ExportFailed(
            f"the exported model differs from {head.encoder_id} and its head by {difference:.1e} "
            f"where {_MOST_DIFFERENCE:.0e} is allowed: report this with the encoder's name"
        )
