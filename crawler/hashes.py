"""What a picture is recognised by: 64-bit hashes and a tiny copy, all from one reduced picture.

Resizing and the cosine transform are both linear, so that they are multiplied together once for
each size and kept: a hash is then two small matrix products. That is why pHash costs 0.05 ms here
and 0.5 ms in imagehash, whose bits these are (but for at most two of 64, by tests).

    H, W height and width of the picture; N pictures; V views; M side of the middle picture
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float = NDArray[np.float32]
Window = tuple[float, float, float, float]
"""left, top, right, bottom: a part of a picture, in shares of its width and height."""

TINY_LUMA_SIDE = 16
TINY_CHROMA_SIDE = 8

_HASH_SIDE = 8
_DCT_SIDE = 32  # imagehash's: 8 times the highest frequency
# Views are taken from this square, which holds 4 pixels for each of the shortest half waves.
_MIDDLE_SIDE = 64

# The gate for perceptual hashes. Below it the hash bits are noise around a flat tone, and any two
# such pictures may agree. Measured on 16 x 16 luma: 38 placeholder pictures (a number on grey) have
# a deviation of at most 5.7; of 732 photographs, covers and product pictures all but one (a pale
# texture, 6.6) have 13.7 or more.
_MIN_LUMA_DEVIATION = 10.0
# A blank sheet with one small dark mark has contrast, but next to no information: one level holds
# nearly all of it. Least entropy over 16 levels among those 732 pictures: 0.82 bit.
_MIN_LUMA_ENTROPY_BITS = 0.7

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


def _centre(share: float) -> Window:
    edge = (1 - share) / 2
    return (edge, edge, 1 - edge, 1 - edge)


def _corners(share: float) -> tuple[Window, ...]:
    rest = 1 - share
    return tuple((x, y, x + share, y + share) for x in (0.0, rest) for y in (0.0, rest))


# A picture that was cropped looks like one of these parts of the whole one. A hash bears a part that
# is 2 % off, so that steps of 5 % in the side leave no gap. Measured on 140 photographs: crops to
# 95, 90, 87.5 and 75 % about the centre, and borders, are all found within 8 bits.
VIEW_WINDOWS: tuple[Window, ...] = (
    WHOLE,
    *(_centre(share) for share in (0.95, 0.90, 0.85, 0.80, 0.75)),
    *_corners(0.95),
    *_corners(0.875),
    # Without a bar of words below, or above, that does not look like a margin.
    *((0.0, 0.0, 1.0, share) for share in (0.92, 0.87, 0.82)),
    *((0.0, 1 - share, 1.0, 1.0) for share in (0.92, 0.87, 0.82)),
)
VIEW_COUNT = len(VIEW_WINDOWS) + 1
"""Those, and last the picture without the margins around it."""

# A margin goes to the last row that has nearly all of it the tone of the outermost one, and on while
# a good part has: what lies between are the letters of a caption, or a window's title bar.
_MARGIN_TONE_SHARE = 0.75
_LETTERS_TONE_SHARE = 0.5
_MARGIN_TONE_STEP = 12
_MAX_MARGIN = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """All that is recognised of one picture."""

    phash: int
    """DCT hash, as imagehash.phash, unsigned 64 bits."""
    dhash: int
    """Gradient hash, as imagehash.dhash, unsigned 64 bits."""
    views: bytes
    """`VIEW_COUNT` hashes by `sign_hash`, 8 bytes each, little-endian."""
    tiny: bytes
    """Luma 16 x 16, then Cb and Cr 8 x 8, one byte each."""
    hashable: bool
    """False for flat pictures, whose hashes mean nothing."""


def hashes_of(picture: Image.Image) -> Hashes:
    """Return the hashes of a picture (RGB), reduced to any size."""
    grey = picture.convert("L")
    luma = np.asarray(grey, dtype=np.float32)
    dct_88 = _DCT @ _resampled(luma, _DCT_SIDE, _DCT_SIDE) @ _DCT.T
    low, high = np.sort(dct_88, axis=None)[31:33]
    rows_89 = _resampled(luma, _HASH_SIDE, _HASH_SIDE + 1)
    # Pillow's BOX takes whole pixels alone, so that the same picture at two sizes differs.
    middle_MM = _averaged(luma, _MIDDLE_SIDE)
    tiny_luma = _averaged(middle_MM, TINY_LUMA_SIDE)
    return Hashes(
        phash=_packed(dct_88 > (low + high) / 2),  # the median
        dhash=_packed(rows_89[:, 1:] > rows_89[:, :-1]),
        views=_views(middle_MM),
        tiny=np.rint(tiny_luma).astype(np.uint8).tobytes() + _tiny_chroma(picture),
        hashable=_carries_information(tiny_luma),
    )


def _tiny_chroma(picture: Image.Image) -> bytes:
    """Return Cb and Cr, 8 x 8 each: means of RGB first, as converting all pixels takes longer."""
    height, width, side = picture.height, picture.width, TINY_CHROMA_SIDE
    rgb = np.asarray(picture, dtype=np.float32).reshape(height, width * 3)
    rows = (_areas(height, side) @ rgb).reshape(side, width, 3)
    means = _areas(width, side) @ rows
    chroma = means @ _TO_CHROMA + np.float32(128)
    planes: NDArray[np.uint8] = np.rint(np.clip(chroma, 0, 255)).astype(np.uint8)
    return planes.transpose(2, 0, 1).tobytes()


# Cb and Cr of R, G and B (JFIF).
_TO_CHROMA = np.array(
    [[-0.168736, 0.5], [-0.331264, -0.418688], [0.5, -0.081312]], dtype=np.float32
)


def symmetries(hashes_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the sign hashes of the same pictures mirrored and turned: (8, N), as they are first.

    Mirroring a picture changes the sign of its odd frequencies, and transposing it transposes them;
    the eight rotations and mirrorings are those two and their combinations.
    """
    transposed = _transposed(hashes_N)
    flips = np.array([0, _ODD_COLUMNS, _ODD_ROWS, _ODD_COLUMNS ^ _ODD_ROWS], dtype=np.uint64)
    return np.concatenate([hashes_N ^ flips[:, None], transposed ^ flips[:, None]])


# Bit 63 is frequency (0, 0), bit 62 is one half wave across, bit 55 one half wave down.
_ODD_COLUMNS = 0x5555_5555_5555_5555
_ODD_ROWS = 0x00FF_00FF_00FF_00FF


def _transposed(hashes_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Transpose 8 x 8 bits by swapping ever larger blocks (Hacker's Delight, 7-3)."""
    for shift, mask in (
        (7, 0x00AA_00AA_00AA_00AA),
        (14, 0x0000_CCCC_0000_CCCC),
        (28, 0x0000_0000_F0F0_F0F0),
    ):
        swap = (hashes_N ^ (hashes_N >> np.uint64(shift))) & np.uint64(mask)
        hashes_N = hashes_N ^ swap ^ (swap << np.uint64(shift))
    return hashes_N


def _views(middle_MM: Float) -> bytes:
    """Return the signs of the lowest 8 x 8 frequencies of the picture and of its parts.

    Unlike pHash, whose threshold is the median, they can be mirrored and turned without the picture.
    """
    window = without_margins(middle_MM)
    waves_V88 = np.empty((VIEW_COUNT, _HASH_SIDE, _HASH_SIDE), dtype=np.float32)
    waves_V88[:-1] = _WAVES_DOWN @ middle_MM @ _WAVES_ACROSS
    if window == WHOLE:
        waves_V88[-1] = waves_V88[0]
    else:
        left, top, right, bottom = window
        waves_V88[-1] = _waves(top, bottom) @ middle_MM @ _waves(left, right).T
    signs = waves_V88 > 0
    signs[:, 0, 0] = False  # the mean is always positive
    return np.packbits(signs.reshape(VIEW_COUNT, 64)[:, ::-1], bitorder="little").tobytes()


@functools.lru_cache(maxsize=1024)
def _waves(start: float, end: float) -> Float:
    """Return the 8 lowest cosine waves over a part of the middle picture's side: (8, M)."""
    edges = np.arange(_MIDDLE_SIDE + 1) / _MIDDLE_SIDE
    inside = np.clip((edges - start) / (end - start), 0, 1)
    covered = np.diff(inside)
    centres = (inside[1:] + inside[:-1]) / 2
    waves: Float = (covered * np.cos(np.pi * np.arange(_HASH_SIDE)[:, None] * centres)).astype(
        np.float32
    )
    return waves


_WAVES_DOWN: Float = np.stack([_waves(top, bottom) for _, top, _, bottom in VIEW_WINDOWS])
_WAVES_ACROSS: Float = np.stack([_waves(left, right).T for left, _, right, _ in VIEW_WINDOWS])

_DCT = np.cos(
    np.pi * np.arange(_HASH_SIDE)[:, None] * (2 * np.arange(_DCT_SIDE) + 1) / (2 * _DCT_SIDE)
).astype(np.float32)
"""The 8 lowest of 32 frequencies: (8, 32)."""


def _resampled(luma: Float, height: int, width: int) -> Float:
    """Return `luma` at another size by LANCZOS, in whole levels after each step, as Pillow does.

    Without them, flat parts hold noise where imagehash sees equal levels.
    """
    rows = _levels(luma @ _lanczos(luma.shape[1], width).T)
    return _levels(_lanczos(luma.shape[0], height) @ rows)


@functools.lru_cache(maxsize=1024)
def _lanczos(size: int, to: int) -> Float:
    """Return Pillow's LANCZOS resampling of `size` pixels to `to`, as a matrix: (to, size)."""
    scale = size / to
    stretch = max(scale, 1.0)
    centres = (np.arange(to) + 0.5) * scale
    away = (np.arange(size) + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0.0)
    matrix: Float = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


@functools.lru_cache(maxsize=1024)
def _areas(size: int, to: int) -> Float:
    """Return what takes `size` pixels to the means of `to` equal parts: (to, size)."""
    edges = np.arange(to + 1) * (size / to)
    covered = np.clip(edges[:, None] - np.arange(size), 0, 1)
    matrix: Float = (np.diff(-covered, axis=0) * -(to / size)).astype(np.float32)
    return matrix


def _averaged(band: Float, side: int) -> Float:
    """Return the means of `side` x `side` equal parts."""
    means: Float = np.matmul(
        _areas(band.shape[0], side) @ band, _areas(band.shape[1], side).T, dtype=np.float32
    )
    return means


def without_margins(middle_MM: Float) -> Window:
    """Return the part of a picture inside its border, caption bar or window frame."""
    # Most pictures have none, which their outermost rows and columns tell at once.
    outermost = np.stack([middle_MM[0], middle_MM[-1], middle_MM[:, 0], middle_MM[:, -1]])
    tones = np.sort(outermost, axis=1)[:, _MIDDLE_SIDE // 2]
    like = np.abs(outermost - tones[:, None]) <= _MARGIN_TONE_STEP
    if like.sum(axis=1).max() < _MARGIN_TONE_SHARE * _MIDDLE_SIDE:
        return WHOLE
    inner = middle_MM
    left = top = 0
    # Twice: a frame may lie around a caption bar, which is seen when the frame is off.
    for _ in range(2):
        above, below = _margins(inner)
        before, after = _margins(inner.T)
        if not (above or below or before or after):
            break
        left, top = left + before, top + above
        inner = inner[above : len(inner) - below, before : inner.shape[1] - after]
    side = _MIDDLE_SIDE
    return (left / side, top / side, (left + inner.shape[1]) / side, (top + len(inner)) / side)


def _margins(luma: Float) -> tuple[int, int]:
    """Return how many rows belong to a margin at the top, and at the bottom."""
    depth = max(1, int(len(luma) * _MAX_MARGIN))
    sides = np.stack([luma[:depth], luma[::-1][:depth]])
    tones = np.sort(sides[:, 0], axis=1)[:, luma.shape[1] // 2]
    like = np.abs(sides - tones[:, None, None]) <= _MARGIN_TONE_STEP
    shares = like.sum(axis=2) / luma.shape[1]
    first, last = (_margin(share.tolist()) for share in shares)
    return first, last


def _margin(shares: list[float]) -> int:
    if shares[0] < _MARGIN_TONE_SHARE:
        return 0
    end = max(at for at, share in enumerate(shares) if share >= _MARGIN_TONE_SHARE) + 1
    while end < len(shares) and shares[end] >= _LETTERS_TONE_SHARE:
        end += 1
    # A margin that does not end there is the ground that something stands on.
    return end if end < len(shares) else 0


def _carries_information(tiny_luma: Float) -> bool:
    share = np.bincount((tiny_luma.ravel() / 16).astype(np.int64)) / tiny_luma.size
    share = share[share > 0]
    entropy_bits = -float((share * np.log2(share)).sum())
    return float(tiny_luma.std()) >= _MIN_LUMA_DEVIATION and entropy_bits >= _MIN_LUMA_ENTROPY_BITS


def _levels(values: Float) -> Float:
    """Round to whole levels from 0 to 255, in place."""
    np.rint(values, out=values)
    np.maximum(values, 0, out=values)
    return np.minimum(values, 255, out=values)


def _packed(bits_88: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits_88).tobytes(), "big")
