"""open_clip's own code on an accelerator: bfloat16, channels last, batches as large as fit.

Only the device's own numbers (how much memory is free, how much a batch takes) come from CUDA; all
else runs on a CPU, too, where it is tested. `model/NOTES.md` says what has never run on a GPU.

Shapes: B images of a call, H height, W width, C = 3 channels, D embedding.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.clip_files import EncoderUnavailable
from model.preprocess import Preprocessing
from model.towers import ClipModel, channel_constants

if TYPE_CHECKING:
    import torch

MOST_PICTURES = 256
"""In a batch, however much memory there is: more would only wait longer for its last picture."""

SHARE_OF_FREE = 0.8
"""Of the free memory, what the batches under way may take together: others use the device, too."""

_PROBED = 8
"""Pictures by which it is measured how much memory one takes."""


class DeviceTower:
    """open_clip's image tower on `device` in bfloat16; `cuda_tower` makes one for the GPU.

    `at_once` batches may be under way from as many threads: while one is computed, the next is
    copied. The model that is given stays as it is.
    """

    def __init__(
        self,
        model: ClipModel,
        preprocessing: Preprocessing,
        device: torch.device,
        *,
        batch_size: int = MOST_PICTURES,
        at_once: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.at_once = at_once
        self._device = device
        self._visual = arranged(model.visual, device)
        mean, std = (each.to(device) for each in channel_constants(preprocessing))
        self._mean, self._std = 255 * mean, 255 * std  # of bytes, not of numbers up to 1
        self._streams = threading.local()

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D).

        A batch that does not fit into memory is halved until it does, and later ones are no larger.
        """
        import torch

        try:
            return self._encode(pixels_BHWC)
        except torch.OutOfMemoryError:
            if len(pixels_BHWC) == 1:
                raise
        # Outside the except clause: its traceback would keep the tensors of the failed batch.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(pixels_BHWC) // 2
        self.batch_size = max(1, min(self.batch_size, middle))
        return np.concatenate(
            [self.encode(pixels_BHWC[:middle]), self.encode(pixels_BHWC[middle:])]
        )

    def _encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode(), self._stream():
            pixels = torch.from_numpy(pixels_BHWC)
            if self._device.type == "cuda":
                pixels = pixels.pin_memory()  # only then is it copied while others are computed
            pixels = pixels.to(self._device, non_blocking=True)
            # As (B, H, W, C) in memory the pixels are channels-last already.
            image_BCHW = pixels.permute(0, 3, 1, 2).float().sub_(self._mean)
            features = self._visual(image_BCHW.div_(self._std).bfloat16()).float()
            vectors: NDArray[np.float32] = (
                torch.nn.functional.normalize(features, dim=-1).cpu().numpy()
            )
        return vectors

    def _stream(self) -> contextlib.AbstractContextManager[object]:
        """Return a stream of this thread's own: what one stream is given is done one by one."""
        import torch

        if self._device.type != "cuda":
            return contextlib.nullcontext()
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call] # torch's
            # The weights were copied on the stream of the thread that made the tower.
            self._streams.own.wait_stream(torch.cuda.default_stream(self._device))
        return torch.cuda.stream(self._streams.own)


def cuda_tower(model: ClipModel, preprocessing: Preprocessing) -> DeviceTower:
    """Return the tower on the CUDA device, its batches sized to what is free there.

    Raises EncoderUnavailable where there is no such device, or none that computes in bfloat16.
    """
    import torch

    if not torch.cuda.is_available():
        raise EncoderUnavailable(
            "backend torch-bf16 needs a CUDA device and torch finds none: take another backend, "
            "which gives other vectors under another encoder id"
        )
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise EncoderUnavailable(
            f"backend torch-bf16 needs a GPU that computes in bfloat16 and "
            f"{torch.cuda.get_device_name()} does not: take backend onnx or onnx-int8"
        )
    device = torch.device("cuda")
    tower = DeviceTower(model, preprocessing, device, at_once=2)
    pixels = np.zeros((_PROBED, *preprocessing.size, 3), np.uint8)
    tower.encode(pixels)  # the first also loads kernels, whose memory stays
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    tower.encode(pixels)
    taken = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()  # what the allocator keeps for later counts as free
    free, _ = torch.cuda.mem_get_info(device)
    tower.batch_size = pictures_that_fit(free // tower.at_once, taken / _PROBED)
    return tower


def pictures_that_fit(free_bytes: int, bytes_a_picture: float) -> int:
    """Return how many pictures a batch may have: a power of two from 1 to MOST_PICTURES.

    They take at most SHARE_OF_FREE of the free memory, unless not even one does.
    """
    fitting = int(SHARE_OF_FREE * free_bytes / max(bytes_a_picture, 1.0))
    return min(MOST_PICTURES, 1 << max(0, fitting.bit_length() - 1))


def arranged(visual: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return a copy on `device` whose weights are bfloat16, convolutions' channels-last.

    Tensor cores take convolutions in that order; in the other, each of them is turned round first.
    """
    import torch

    there: torch.nn.Module = copy.deepcopy(visual).to(device=device, dtype=torch.bfloat16)
    there.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch leaves it out
    return there
