"""Pictures for fine-tuning, each time a little different: cropped, mirrored, coloured.

    crop      60 to 100 % of the prepared picture's area, sides 3:4 to 4:3, anywhere
    flip      left for right, every second time
    colour    brightness, contrast and saturation, each times 0.8 to 1.2

Mild on purpose: labels are often about small things or about colours, and CLIP has seen wilder ones.

Shapes: B pictures, C = 3 channels, H, W the tower's size; h, w that of the prepared pictures.
"""

from __future__ import annotations

import math

import torch

_LEAST_AREA = 0.6
_WIDEST = 4 / 3
_COLOUR = 0.2
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright each channel looks


def augment(
    image_BChw: torch.Tensor, size: tuple[int, int], generator: torch.Generator, *, flip: bool
) -> torch.Tensor:
    """Return float32 (B, C, H, W) in [0, 1] from such at any size; `size` is (H, W).

    All that is random comes from `generator`, on the CPU, in a fixed order.
    """
    number = len(image_BChw)
    draw_5B = torch.rand(5, number, generator=generator)
    area_B = _LEAST_AREA + (1 - _LEAST_AREA) * draw_5B[0]
    aspect_B = torch.exp((2 * draw_5B[1] - 1) * math.log(_WIDEST))
    width_B, height_B = (
        (area_B * ratio_B).sqrt().clamp(max=1) for ratio_B in (aspect_B, 1 / aspect_B)
    )
    left_B, top_B = (
        (2 * draw_5B[n] - 1) * (1 - side_B) for n, side_B in ((2, width_B), (3, height_B))
    )
    mirror_B = torch.where((draw_5B[4] < 0.5) & flip, -1.0, 1.0)
    # affine_grid's coordinates run from -1 to 1 over the whole picture.
    transform_B23 = torch.zeros(number, 2, 3)
    transform_B23[:, 0, 0], transform_B23[:, 0, 2] = width_B * mirror_B, left_B
    transform_B23[:, 1, 1], transform_B23[:, 1, 2] = height_B, top_B
    grid = torch.nn.functional.affine_grid(
        transform_B23.to(image_BChw.device), [number, 3, *size], align_corners=False
    )
    cropped = torch.nn.functional.grid_sample(
        image_BChw, grid, padding_mode="reflection", align_corners=False
    )
    colour_3B = torch.rand(3, number, generator=generator)
    return _coloured(cropped, (1 + _COLOUR * (2 * colour_3B - 1)).to(cropped.device))


def _coloured(image_BCHW: torch.Tensor, factor_3B: torch.Tensor) -> torch.Tensor:
    brightness, contrast, saturation = factor_3B.reshape(3, -1, 1, 1, 1)
    weight = torch.tensor(_GREY, device=image_BCHW.device).reshape(1, 3, 1, 1)
    image_BCHW = image_BCHW * brightness
    mean = (image_BCHW * weight).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    image_BCHW = mean + contrast * (image_BCHW - mean)
    grey = (image_BCHW * weight).sum(1, keepdim=True)
    coloured: torch.Tensor = grey + saturation * (image_BCHW - grey)
    return coloured.clamp(0, 1)
