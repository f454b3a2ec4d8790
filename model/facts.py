"""What is known of a picture besides what it shows: where it is from, how large, dark, blurred.

By these, readiness says how varied pictures are, and a model's card how good it is on each kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

DARK = 0.2
"""Mean brightness below which a picture is dark, of 1."""

BLURRED = 40.0
"""Variance of the Laplacian, at 256 pixels a side and 256 levels, below which it is blurred."""

SMALL = 224
"""Shorter side, in pixels, below which an encoder sees it enlarged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """The facts of one picture; `brightness` and `sharpness` are None where nothing was measured."""

    sha256: str
    host: str
    licence: str
    width: int
    height: int
    brightness: float | None
    sharpness: float | None

    @property
    def dark(self) -> bool:
        """Whether it is dark."""
        return self.brightness is not None and self.brightness < DARK

    @property
    def blurred(self) -> bool:
        """Whether it is blurred."""
        return self.sharpness is not None and self.sharpness < BLURRED

    @property
    def small(self) -> bool:
        """Whether it is small."""
        return min(self.width, self.height) < SMALL


def measure_appearance(picture: Image.Image) -> tuple[float, float]:
    """Return brightness (0 to 1) and sharpness (variance of the Laplacian) of a thumbnail.

    Sharpness as in Pech-Pacheco et al. 2000; it is comparable between pictures of one size alone.
    """
    grey = np.asarray(picture.convert("L"), np.float64)
    if min(grey.shape) < 3:
        return float(grey.mean()) / 255, 0.0
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(grey.mean()) / 255, float((around - 4 * inner).var())
