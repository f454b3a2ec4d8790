"""What runs an image tower: one interface, and open_clip's own code behind it on CPU and CUDA.

Shapes: B images of a call, H height, W width, C = 3 channels, D embedding.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.clip_files import EncoderUnavailable
from model.preprocess import Preprocessing

if TYPE_CHECKING:
    import torch


class ClipModel(Protocol):
    """What is used of open_clip's models, which differ in class."""

    visual: torch.nn.Module
    logit_scale: torch.Tensor

    def encode_image(self, image: torch.Tensor, normalize: bool) -> torch.Tensor:
        """Return image vectors (B, D)."""

    def encode_text(self, text: torch.Tensor, normalize: bool) -> torch.Tensor:
        """Return text vectors (T, D)."""


class ImageTower(Protocol):
    """The whole of what `ClipEncoder` asks of a backend."""

    batch_size: int
    """How many pictures to give at a time, unless the caller knows better."""

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D)."""


class TorchTower:
    """open_clip's own code on the CPU in float32: the reference for all others."""

    # On a CPU, small batches stay in its caches and are faster.
    batch_size = 8

    def __init__(self, model: ClipModel, preprocessing: Preprocessing) -> None:
        self._model = model
        self._mean, self._std = channel_constants(preprocessing)

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D)."""
        import torch

        with torch.inference_mode():
            image_BCHW = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float().contiguous()
            image_BCHW = image_BCHW.div_(255).sub_(self._mean).div_(self._std)
            vectors: NDArray[np.float32] = (
                self._model.encode_image(image_BCHW, normalize=True).float().numpy()
            )
        return vectors


class CudaTower:
    """open_clip's code on a CUDA device: bfloat16, channels last, batches as large as fit.

    Raises EncoderUnavailable where there is no such device. Never run in this project's own checks,
    which have no GPU; see model/NOTES.md.
    """

    batch_size = 256

    def __init__(self, model: ClipModel, preprocessing: Preprocessing) -> None:
        import torch

        if not torch.cuda.is_available():
            raise EncoderUnavailable(
                "backend torch-bf16 needs a CUDA device and torch finds none: take another backend, "
                "which gives other vectors under another encoder id"
            )
        visual = copy.deepcopy(model.visual).to(device="cuda", dtype=torch.bfloat16)
        for parameter in visual.parameters():
            if parameter.ndim == 4:  # a convolution's
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._visual = visual
        self._mean, self._std = (each.to("cuda") for each in channel_constants(preprocessing))

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D); the batch is halved until it fits into memory."""
        import torch

        try:
            return self._encode(pixels_BHWC)
        except torch.cuda.OutOfMemoryError:
            if len(pixels_BHWC) == 1:
                raise
        torch.cuda.empty_cache()
        middle = len(pixels_BHWC) // 2
        self.batch_size = max(1, min(self.batch_size, middle))
        return np.concatenate(
            [self.encode(pixels_BHWC[:middle]), self.encode(pixels_BHWC[middle:])]
        )

    def _encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(pixels_BHWC).pin_memory().to("cuda", non_blocking=True)
            # As (B, H, W, C) in memory the pixels are channels-last already.
            image_BCHW = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean)
            features = self._visual(image_BCHW.div_(self._std).bfloat16()).float()
            vectors: NDArray[np.float32] = (
                torch.nn.functional.normalize(features, dim=-1).cpu().numpy()
            )
        return vectors


def channel_constants(preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation, float32 (1, C, 1, 1), in units of 1."""
    import torch

    mean, std = (
        torch.tensor(each, dtype=torch.float32).reshape(1, 3, 1, 1)
        for each in (preprocessing.mean, preprocessing.std)
    )
    return mean, std
