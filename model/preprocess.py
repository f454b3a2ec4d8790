"""Pictures to the pixels that an image tower sees: open_clip's resize and crop, without torch.

The same arithmetic as `open_clip.transform.image_transform_v2(is_train=False)`, whose first steps are
Pillow's, up to the bytes; a decoding process that runs this need not import torch, which takes
seconds and hundreds of megabytes. What is left, dividing by 255 and by mean and deviation, is done
by the tower on a whole batch.

Shapes: B images, H height, W width, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ResizeMode = Literal["shortest", "longest", "squash"]

DRAFT_FACTOR = 2
"""A JPEG may be decoded at a reduced size that is still this many times the tower's.

The resize to follow then averages over at least two pixels a side, and the figures of
`model/NOTES.md` hold; at factor 1 the reduced picture itself would be what the tower sees.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a checkpoint wants its pictures, as in open_clip's `preprocess_cfg`.

    `size` is (height, width); `mean` and `std` are in units of 1, for each channel.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: ResizeMode
    interpolation: Literal["bicubic", "bilinear"]
    fill_color: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Return what open_clip's `preprocess_cfg` says; ValueError or TypeError where it says nonsense."""
        wanted = config.get("resize_mode") or "shortest"
        mode = next((each for each in get_args(ResizeMode) if each == wanted), None)
        if mode is None:
            raise ValueError(f"resize_mode is {wanted!r}, not shortest, longest or squash")
        interpolation = config.get("interpolation") or "bicubic"
        if interpolation not in ("bicubic", "bilinear", "random"):
            raise ValueError(f"interpolation is {interpolation!r}, not bicubic or bilinear")
        size = config["size"]
        height, width = size if isinstance(size, Sequence) else (size, size)
        return cls(
            size=(int(height), int(width)),
            mean=_triple(config["mean"]),
            std=_triple(config["std"]),
            resize_mode=mode,
            # open_clip takes "random", a training setting, for bicubic.
            interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
            fill_color=int(config.get("fill_color") or 0),
        )

    @property
    def draft_size(self) -> tuple[int, int]:
        """(width, height) that a picture may be decoded at, or anything larger."""
        height, width = self.size
        return DRAFT_FACTOR * width, DRAFT_FACTOR * height

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return `image`, of any size and mode, as the tower's (H, W, C)."""
        height, width = self.size
        fitted = self._fitted(image)
        if fitted.size != (width, height):
            fitted = _centred(fitted, width, height, self.fill_color)
        return np.asarray(fitted.convert("RGB"))

    def _fitted(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        filter_ = (
            Image.Resampling.BILINEAR
            if self.interpolation == "bilinear"
            else Image.Resampling.BICUBIC
        )
        if self.resize_mode == "squash":
            wanted = (width, height)
        elif self.resize_mode == "shortest" and width == height:
            # torchvision's Resize truncates the longer side, where timm's rounds.
            short = min(image.size)
            wanted = (int(width * image.width / short), int(width * image.height / short))
        else:
            ratios = (image.height / height, image.width / width)
            ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
            wanted = (round(image.width / ratio), round(image.height / ratio))
            if self.resize_mode == "shortest":
                filter_ = Image.Resampling.BICUBIC  # open_clip passes no other on here
        return image if image.size == wanted else image.resize(wanted, filter_)


def _centred(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Return the middle of `image`, what is too small padded with `fill`."""
    missing_w, missing_h = max(width - image.width, 0), max(height - image.height, 0)
    if missing_w or missing_h:
        border = (missing_w // 2, missing_h // 2, (missing_w + 1) // 2, (missing_h + 1) // 2)
        colour = fill if len(image.getbands()) == 1 else (fill,) * len(image.getbands())
        image = ImageOps.expand(image, border, colour)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _triple(value: object) -> tuple[float, float, float]:
    if isinstance(value, (int, float)):
        return (float(value),) * 3
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        red, green, blue = (float(each) for each in value)
        return red, green, blue
    raise ValueError(f"expected a number for each of three channels, got {value!r}")
