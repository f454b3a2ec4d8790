"""Where in a picture a label's score comes from, found by covering parts of it.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2. It
asks of any encoder only what it always does, and says what it is: how much the score falls when a
part cannot be seen. What is shown twice, or what the surroundings also tell, does not fall.

Shapes: G cells a side, H height, W width, C channels, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.classifier import MultiLabelHead

GRID = 8
_COVER = 2  # cells a side that are covered at once: one alone seldom hides what matters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Occlusion:
    """How much the log odds of a label fall where a part is covered; negative: they rise.

    Cell (0, 0) of `fall_GG`, float32, is the upper left of what the encoder sees.
    """

    fall_GG: NDArray[np.float32]


def occlusion(
    pixels_HWC: NDArray[np.uint8],
    encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    head: MultiLabelHead,
    label: str,
    *,
    grid: int = GRID,
) -> Occlusion:
    """Cover every 2 x 2 cells of a grid in turn, in the picture's mean colour, and score the rest.

    `pixels_HWC` is what the encoder's preprocessing made; `encode` gives unit vectors (B, D) of
    such pictures (B, H, W, C). A cell's fall is the mean over the covers that lie on it:
    (grid - 1)^2 + 1 pictures are encoded.
    """
    column = head.labels.index(label)
    height, width = pixels_HWC.shape[:2]
    rows = np.linspace(0, height, grid + 1).astype(int)
    columns = np.linspace(0, width, grid + 1).astype(int)
    colour_C = pixels_HWC.reshape(-1, pixels_HWC.shape[2]).mean(0).astype(np.uint8)
    starts = [(y, x) for y in range(grid - _COVER + 1) for x in range(grid - _COVER + 1)]
    covered_BHWC = np.repeat(pixels_HWC[None], len(starts) + 1, axis=0)
    for number, (y, x) in enumerate(starts, start=1):
        upper, lower = rows[y], rows[y + _COVER]
        covered_BHWC[number, upper:lower, columns[x] : columns[x + _COVER]] = colour_C
    odds_B = encode(covered_BHWC) @ head.weight_LD[column]  # the bias falls out of the difference
    total_GG, times_GG = np.zeros((grid, grid)), np.zeros((grid, grid))
    for (y, x), fall in zip(starts, odds_B[0] - odds_B[1:], strict=True):
        total_GG[y : y + _COVER, x : x + _COVER] += fall
        times_GG[y : y + _COVER, x : x + _COVER] += 1
    return Occlusion(fall_GG=np.asarray(total_GG / times_GG, np.float32))
