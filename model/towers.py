"""What runs an image tower: one interface, and open_clip's own code behind it, the reference.

Shapes: B images of a call, H height, W width, C = 3 channels, D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

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

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all weights by name."""


class ImageTower(Protocol):
    """The whole of what `ClipEncoder` asks of a backend."""

    batch_size: int
    """How many pictures to give at a time, unless the caller knows better."""
    at_once: int
    """How many batches to give at once, each from a thread of its own, so that it never waits."""

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D)."""


class TorchTower:
    """open_clip's own code on the CPU in float32: the reference for all others."""

    # On a CPU, small batches stay in its caches and are faster.
    batch_size = 8
    at_once = 1

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


def channel_constants(preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation, float32 (1, C, 1, 1), in units of 1."""
    import torch

    mean, std = (
        torch.tensor(each, dtype=torch.float32).reshape(1, 3, 1, 1)
        for each in (preprocessing.mean, preprocessing.std)
    )
    return mean, std
