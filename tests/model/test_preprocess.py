"""Preprocessing, byte for byte against open_clip's own, and from a JPEG decoded at a reduced size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.preprocess import Preprocessing

CLIP = {"size": 224, "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interpolation": "bilinear"},
        {"resize_mode": "squash", "size": (96, 64)},
        {"resize_mode": "longest", "fill_color": 7},
        {"resize_mode": "shortest", "size": (64, 96)},
        {"mean": 0.5, "std": 0.5},
    ],
)
def test_pixels_are_those_of_open_clip_byte_for_byte(settings: dict[str, Any]) -> None:
    """Every way to resize, wide, tall, small and equal pictures, in every mode that Pillow has."""
    import open_clip

    config = {**CLIP, **settings}
    theirs = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**config), is_train=False
    )
    ours = Preprocessing.of(config)
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (ours.mean, ours.std))
    sizes = [(333, 101), (101, 333), (31, 17), (224, 224), (225, 223), (1000, 751)]
    for size in sizes:
        for mode in ("RGB", "L", "RGBA", "P"):
            image = Image.effect_noise(size, 90).convert(mode)
            pixels = ours.pixels(image).transpose(2, 0, 1).astype(np.float32)
            got = (pixels / np.float32(255) - mean) / std
            np.testing.assert_allclose(
                got, theirs(image).numpy(), atol=1e-6, err_msg=f"{size} {mode}"
            )


def test_a_jpeg_decoded_smaller_gives_nearly_the_same_pixels(shared: Path) -> None:
    """Two grey levels of 255 in the mean; photographs of a camera's size, which the sets do not have."""
    preprocessing = Preprocessing.of(CLIP)
    for path in sorted((shared / "data" / "hymenoptera" / "images").iterdir())[:3]:
        with Image.open(path) as image:
            scale = 1500 / min(image.size)
            large = image.convert("RGB").resize([round(scale * side) for side in image.size])
        body = io.BytesIO()
        large.save(body, "JPEG", quality=90)
        with Image.open(body) as whole, Image.open(body) as reduced:
            reduced.draft(None, preprocessing.draft_size)
            assert 2 * 224 <= min(reduced.size) < min(whole.size)
            pair = [preprocessing.pixels(each).astype(np.int16) for each in (whole, reduced)]
        assert np.abs(pair[0] - pair[1]).mean() < 2


@pytest.mark.parametrize(
    "wrong", [{"resize_mode": "sideways"}, {"interpolation": "guess"}, {"mean": "grey"}]
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        Preprocessing.of({**CLIP, **wrong})
