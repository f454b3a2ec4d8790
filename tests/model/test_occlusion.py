"""Heat maps by occlusion, of encoders that look at one place only."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.classifier import MultiLabelHead
from model.occlusion import occlusion

HEAD = MultiLabelHead(
    labels=("other", "bright"),
    weight_LD=np.array([[0.0, 1.0], [4.0, 0.0]], np.float32),
    bias_L=np.zeros(2, np.float32),
    thresholds_L=np.full(2, 0.5, np.float32),
    encoder_id="spot",
)


def _sees_the_spot(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Encode the brightness of the cell in row 2, column 5 of 8."""
    spot_B = pixels_BHWC[:, 16:24, 40:48].mean((1, 2, 3)) / 255
    return np.stack([spot_B, np.sqrt(1 - spot_B**2)], 1).astype(np.float32)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:24, 40:48] = 255
    return pixels


def test_the_score_comes_from_where_the_encoder_looks(picture: NDArray[np.uint8]) -> None:
    fall_GG = occlusion(picture, _sees_the_spot, HEAD, "bright").fall_GG
    assert fall_GG.argmax() == 2 * 8 + 5


def test_a_part_that_nothing_depends_on_is_cold(picture: NDArray[np.uint8]) -> None:
    assert not occlusion(picture, _sees_the_spot, HEAD, "bright").fall_GG[5:].any()


def test_what_speaks_against_a_label_is_negative(picture: NDArray[np.uint8]) -> None:
    fall_GG = occlusion(picture, _sees_the_spot, HEAD, "other").fall_GG
    assert fall_GG.argmin() == 2 * 8 + 5


def test_the_picture_is_left_as_it_was(picture: NDArray[np.uint8]) -> None:
    before = picture.copy()
    occlusion(picture, _sees_the_spot, HEAD, "bright")
    assert (picture == before).all()
