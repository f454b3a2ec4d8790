"""A second look at two pictures whose hashes agree in part: is one of them in the other?

Hashes say that two pictures may be one, and which part of one would be which part of the other. Here
their thumbnails are laid over each other, shifted and stretched a little until they fit best, and
then compared part by part: of the same picture nearly every part that shows anything agrees, however
it was cropped, framed, written on or mirrored; of two pictures of the same kind few do.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crawler.hashes import VIEW_WINDOWS, WHOLE, Window, without_margins

# Measured on the pairs that hashes propose among 149 real files, of which some show different guitars
# in one pose, buttons with other words and one player in three colours, and among 70 photographs and
# what a watermark, border, caption or frame made of them (share that agrees / median correlation):
#
#     lookalikes with 28 parts or more that show something    at most 0.63 / 0.86, but for a colour
#     guitars on white                                        at most 0.88 / 0.98, of 25 parts
#     renditions, crops, mirrored ones                        at least 0.77 / 0.91, of 31 parts
#     written across                                          at least 0.57 / 0.90
#     the player in another colour                            1.00 / 0.99, and 23.6 levels of colour
MIN_AGREEMENT = 0.70
"""Share of the parts with something in them that agree."""
MIN_AGREEMENT_AROUND = 0.60
MIN_MEDIAN_CORRELATION = 0.98
"""Enough as well: what was written over covers much, and all the rest is the very same."""
MIN_CORRELATION = 0.80
"""Of the luma of two parts, from which they agree."""
MAX_COLOUR_DIFFERENCE = 16.0
"""Mean difference of Cb and Cr over the parts, in levels."""
_MIN_TEXTURED = 8
"""Parts, of 64, that must show anything at all."""
_FEW_TEXTURED = 28
_MIN_AGREEMENT_OF_FEW = 0.93
"""Where fewer show anything: things of one kind on white have their outlines in common."""

# Words add detail to the parts that they lie over, by which is seen who has been written on.
_MIN_WRITTEN_PARTS = 2
_MORE_DETAIL = 1.15

_MARGIN_TONE_STEP = 12
_MIN_PAPER = 0.4
_MIN_EDGE = 0.4
# A margin that was drawn is flatter than any sky, so that less of an edge tells it.
_DRAWN_DEVIATION = 2.0
_MIN_EDGE_OF_DRAWN = 0.15
_MIN_STEP = 8

_SIDE = 64
_PARTS = 8
_PART = _SIDE // _PARTS
_MIN_DEVIATION = 6.0
# Shift and stretch, in shares of the side, coarse to fine.
_STEPS = (0.03, 0.015, 0.006)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """How two pictures may lie over each other."""

    view: int
    """Which of the first picture's views (`crawler.hashes.VIEW_WINDOWS`; the last: no margins)."""
    other_view: int
    symmetry: int = 0
    """How the second is turned, as `crawler.hashes.symmetries` counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What a second look at two renditions of one picture has found out."""

    first_spoilt: bool = False
    """The first has something around or over it (border, caption, frame, words) that is not in the
    second."""
    second_spoilt: bool = False


def compare(first: bytes, second: bytes, overlay: Overlay) -> Likeness | None:
    """Return how two thumbnails (JPEG) show the same picture, laid over each other so, or None."""
    one, other = _opened(first, 0), _opened(second, overlay.symmetry)
    view, other_view = overlay.view, overlay.other_view
    # One is shifted and stretched to fit; the other, whole or without its margins, stays.
    ways = [(one, view, other, other_view, False), (other, other_view, one, view, True)]
    if view == 0:  # a part fits a whole better than a whole a part
        ways.reverse()
    for fitted, fitted_view, fixed, fixed_view, swapped in ways:
        if fixed_view in {0, _NO_MARGINS}:
            spoilt = _laid_over(fitted, fitted_view, fixed, fixed_view)
            if spoilt is not None:
                first_spoilt, second_spoilt = reversed(spoilt) if swapped else spoilt
                return Likeness(first_spoilt=first_spoilt, second_spoilt=second_spoilt)
    return None


_NO_MARGINS = len(VIEW_WINDOWS)


def _laid_over(
    one: Image.Image, view: int, other: Image.Image, other_view: int
) -> tuple[bool, bool] | None:
    """Return whether each is spoilt; None if they do not agree where the first fits best."""
    fixed = _window(other, other_view)
    target = _cut(other, fixed)
    found, window = _fitted(one, _window(one, view), target)
    written = _written_over(found, target)
    if written is None:
        return None
    return written[0] or _is_framed(one, window), written[1] or _is_framed(other, fixed)


def _opened(thumbnail: bytes, symmetry: int) -> Image.Image:
    with Image.open(io.BytesIO(thumbnail)) as image:
        picture = image.convert("YCbCr")
    # symmetries(): 0 to 3 mirror columns, rows, both; from 4 on the same of the transposed picture.
    if symmetry >= 4:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    if symmetry & 1:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if symmetry & 2:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return picture


def _window(picture: Image.Image, view: int) -> Window:
    if view < len(VIEW_WINDOWS):
        return VIEW_WINDOWS[view]
    return without_margins(_cut(picture, WHOLE)[:, :, 0])


def _cut(picture: Image.Image, window: Window) -> NDArray[np.float32]:
    """Return a part of the picture at 64 x 64: float32 (64, 64, 3)."""
    left, top, right, bottom = window
    width, height = picture.size
    box = (
        max(0.0, left) * width,
        max(0.0, top) * height,
        min(1.0, right) * width,
        min(1.0, bottom) * height,
    )
    return np.asarray(
        picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box), dtype=np.float32
    )


def _fitted(
    picture: Image.Image, window: Window, target: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Window]:
    """Return the part of `picture`, about `window`, that fits `target` best, and where it lies."""
    wanted = _normal(target[:, :, 0])
    best = _cut(picture, window)
    best_score = float((_normal(best[:, :, 0]) * wanted).mean())
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for edge in range(4):
                for change in (-step, step):
                    tried = list(window)
                    tried[edge] = min(1.0, max(0.0, tried[edge] + change))
                    candidate = (tried[0], tried[1], tried[2], tried[3])
                    if candidate == window or min(tried[2] - tried[0], tried[3] - tried[1]) < 0.4:
                        continue
                    cut = _cut(picture, candidate)
                    score = float((_normal(cut[:, :, 0]) * wanted).mean())
                    if score > best_score + 1e-4:
                        best, best_score, window, improved = cut, score, candidate, True
    return best, window


def _normal(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    normal: NDArray[np.float32] = (luma - luma.mean()) / max(float(luma.std()), 1.0)
    return normal


def _written_over(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[bool, bool] | None:
    """Return whether the first has words over it, and the second; None if they show two things."""
    one, other = _parts(first[:, :, 0]), _parts(second[:, :, 0])
    deviation, other_deviation = one.std(axis=1), other.std(axis=1)
    textured = np.maximum(deviation, other_deviation) >= _MIN_DEVIATION
    if textured.sum() < _MIN_TEXTURED:
        return None
    centred = one - one.mean(axis=1, keepdims=True)
    other_centred = other - other.mean(axis=1, keepdims=True)
    correlation = (centred * other_centred).mean(axis=1) / np.maximum(
        deviation * other_deviation, 1e-3
    )
    if np.abs(first[:, :, 1:] - second[:, :, 1:]).mean() > MAX_COLOUR_DIFFERENCE:
        return None
    agreeing = correlation >= MIN_CORRELATION
    agreement = agreeing[textured].mean()
    if textured.sum() < _FEW_TEXTURED:
        agrees = agreement >= _MIN_AGREEMENT_OF_FEW
    else:
        agrees = agreement >= MIN_AGREEMENT or (
            agreement >= MIN_AGREEMENT_AROUND
            and np.median(correlation[textured]) >= MIN_MEDIAN_CORRELATION
        )
    if not agrees:
        return None
    apart = textured & ~agreeing
    if apart.sum() < _MIN_WRITTEN_PARTS:
        return False, False
    detail, other_detail = (
        float(np.abs(np.diff(parts.reshape(-1, _PART, _PART)[apart], axis=2)).mean())
        for parts in (one, other)
    )
    return detail > _MORE_DETAIL * other_detail, other_detail > _MORE_DETAIL * detail


def _is_framed(picture: Image.Image, window: Window) -> bool:
    """Return whether most of what lies outside of `window` is a margin, and no more of the picture.

    A margin is of one tone, letters aside, and ends where the picture begins; sky goes on.
    """
    left, top, right, bottom = window
    luma = _cut(picture, WHOLE)[:, :, 0]
    outside = framed = 0.0
    for rows, share in (
        (luma, top),
        (luma[::-1], 1 - bottom),
        (luma.T, left),
        (luma.T[::-1], 1 - right),
    ):
        depth = int(share * _SIDE)
        if depth < 1:
            continue
        outside += share
        tone = np.median(rows[0])
        paper = (np.abs(rows[:depth] - tone) <= _MARGIN_TONE_STEP).mean()
        edge = (np.abs(rows[depth + 1] - rows[depth - 1]) > _MIN_STEP).mean()
        drawn = rows[0].std() < _DRAWN_DEVIATION
        if paper >= _MIN_PAPER and edge >= (_MIN_EDGE_OF_DRAWN if drawn else _MIN_EDGE):
            framed += share
    return framed > outside / 2


def _parts(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the 64 parts of 8 x 8: (64, 64)."""
    folded = luma.reshape(_PARTS, _PART, _PARTS, _PART)
    return folded.transpose(0, 2, 1, 3).reshape(_PARTS * _PARTS, -1)
