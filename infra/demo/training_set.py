"""What the demo's CLIP learns from: drawings as a crawl may find them, and true things said of them.

N drawings, V views of each, C captions of each, F facts
"""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from infra.demo.canvas import Rng
from infra.demo.captions import Caption, describe
from infra.demo.draw import KINDS, draw

IMAGE_PX = 96
VIEWS = 4
CAPTIONS = 6
# True of every picture. Learning that keeps them between all others, and so good to compare with.
_SAYS_NOTHING = ("a photo", "a picture", "an image", "a photograph", "a photo of something")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """Drawings, ready to train on; row i of each belongs to one drawing."""

    views: NDArray[np.uint8]
    """(N, V, IMAGE_PX, IMAGE_PX, 3): the whole drawing, then parts of it, re-encoded as JPEG."""
    captions: tuple[tuple[Caption, ...], ...]
    """N times C."""
    facts: tuple[frozenset[str], ...]
    """N times what a caption may truly claim."""


def training_set(seeds: Iterable[int], *, processes: int = 2) -> TrainingSet:
    """Return the drawings of those seeds, their kinds in turn; the same for any `processes`."""
    # Forking after torch has started threads can hang; a spawned child has none.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        rows = list(pool.map(_one_drawing, seeds, chunksize=16))
    return TrainingSet(
        views=np.stack([views for views, _, _ in rows]),
        captions=tuple(captions for _, captions, _ in rows),
        facts=tuple(facts for _, _, facts in rows),
    )


def truth_matrix(captions: Sequence[Caption], facts: Sequence[frozenset[str]]) -> NDArray[np.bool_]:
    """Return which caption is true of which drawing: (drawings, captions)."""
    return np.array([[caption.is_true_of(known) for caption in captions] for known in facts])


def _one_drawing(seed: int) -> tuple[NDArray[np.uint8], tuple[Caption, ...], frozenset[str]]:
    drawing = draw(seed, KINDS[seed % len(KINDS)])
    # Another stream than the drawing's own, or views would hang on what was drawn.
    rng = np.random.default_rng([seed, 1_000])
    views = [_view(rng, drawing.image, whole=number == 0) for number in range(VIEWS)]
    captions = [describe(rng, drawing.contents) for _ in range(CAPTIONS)]
    if rng.random() < 0.3:
        captions[0] = Caption(str(rng.choice(_SAYS_NOTHING)))
    return np.stack(views), tuple(captions), drawing.contents.facts()


def _view(rng: Rng, image: Image.Image, *, whole: bool) -> NDArray[np.uint8]:
    """Return the drawing, or most of it, as it may be after a site has resized and re-encoded it."""
    if not whole:
        width, height = (np.array(image.size) * rng.uniform(0.72, 1.0, 2)).astype(int).tolist()
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Before the last resize, so that the JPEG's blocks are as fine as they are in a real picture.
    between_px = int(rng.integers(140, 320))
    image = image.resize((between_px, between_px), Image.Resampling.BICUBIC, reducing_gap=2.0)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=int(rng.integers(40, 96)))
    small = Image.open(encoded).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
    pixels: NDArray[np.uint8] = np.asarray(small, dtype=np.uint8)
    return pixels


def model_config() -> dict[str, Any]:
    """Return the `open_clip_config.json`: a very small residual network beside a small transformer."""
    return {
        "model_cfg": {
            "embed_dim": 96,
            "vision_cfg": {
                "layers": [1, 1, 1, 1],
                "width": 12,
                "head_width": 32,
                "image_size": IMAGE_PX,
            },
            "text_cfg": {
                "context_length": 32,
                "vocab_size": 49408,
                "width": 48,
                "heads": 3,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "size": IMAGE_PX,
            "mode": "RGB",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "interpolation": "bicubic",
            # Squashed, not cropped: what lies beside the middle is often what a label is about.
            "resize_mode": "squash",
            "fill_color": 0,
        },
    }
