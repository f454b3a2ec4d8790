"""What the things stand on or hang before: tables, floors, cloths, walls.

H, W pixels of a picture
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infra.demo.canvas import Colour, Rng, any_colour

Pixels = NDArray[np.float32]
"""(H, W, 3), 0..255."""


def wooden(rng: Rng, width: int, height: int) -> Pixels:
    """Return boards with grain, running across or down."""
    if rng.random() < 0.5:
        return wooden_across(rng, width, height)
    return np.ascontiguousarray(wooden_across(rng, height, width).transpose(1, 0, 2))


def wooden_across(rng: Rng, width: int, height: int) -> Pixels:
    """Return boards with grain, running across."""
    tones: tuple[Colour, ...] = ((158, 108, 64), (112, 72, 44), (202, 164, 116), (88, 62, 48))
    tone = np.array(tones[int(rng.integers(len(tones)))], dtype=np.float32)
    grain = _clouds(rng, width, height, cells=(3, max(8, height // 5)))
    board_px = int(rng.integers(50, 150))
    rows = np.arange(height) // board_px
    boards = rng.normal(1, 0.09, int(rows[-1]) + 1).astype(np.float32)[rows]
    light_HW = (1 + 0.30 * (grain - 0.5)) * boards[:, None]
    light_HW[np.arange(height) % board_px < 2] *= 0.6
    return _lit(tone, light_HW)


def plain(rng: Rng, width: int, height: int) -> Pixels:
    """Return one colour, fading a little into another."""
    one, two = _tone(rng), _tone(rng)
    turn = rng.uniform(0, 2 * math.pi)
    y_HW, x_HW = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    mix = 0.5 + (math.cos(turn) * (x_HW - 0.5) + math.sin(turn) * (y_HW - 0.5)) * 0.6
    return _mixed(one, two, 0.6 * mix)


def carpet(rng: Rng, width: int, height: int) -> Pixels:
    """Return pile: speckles, and worn places."""
    pile = rng.random((height, width), dtype=np.float32)
    worn = _clouds(rng, width, height, cells=(6, 5))
    return _lit(_tone(rng), 0.72 + 0.28 * pile + 0.5 * (worn - 0.5))


def cloth(rng: Rng, width: int, height: int) -> Pixels:
    """Return checks or stripes of two colours, turned by any angle."""
    one, two = _tone(rng), _tone(rng)
    u_HW, v_HW = _turned(rng, width, height)
    period = rng.uniform(24, 130)
    stripes = (np.sin(2 * math.pi * u_HW / period) > rng.uniform(-0.6, 0.6)).astype(np.float32)
    if rng.random() < 0.5:
        across = np.sin(2 * math.pi * v_HW / (period * rng.uniform(0.6, 1.6))) > 0
        stripes = 0.5 * stripes + 0.5 * across
    return _mixed(one, two, stripes)


def tiles(rng: Rng, width: int, height: int) -> Pixels:
    """Return square tiles, each a little different, with joints."""
    u_HW, v_HW = _turned(rng, width, height)
    side = rng.uniform(45, 130)
    column, row = np.floor(u_HW / side), np.floor(v_HW / side)
    odd = np.mod(np.abs(column * 57 + row * 131 + column * row * 17), 23) / 23
    light_HW = 0.86 + 0.26 * odd
    joint = np.minimum(np.mod(u_HW, side), np.mod(v_HW, side)) < 3
    light_HW[joint] *= 0.66
    return _lit(_tone(rng), light_HW)


def marble(rng: Rng, width: int, height: int) -> Pixels:
    """Return stone with veins."""
    cloud = _clouds(rng, width, height, (4, 5)) + 0.25 * _clouds(rng, width, height, (19, 23))
    u_HW, _ = _turned(rng, width, height)
    vein = np.abs(np.sin(u_HW / rng.uniform(60, 140) + cloud * rng.uniform(5, 9))) ** 0.25
    return _lit(_tone(rng), 0.72 + 0.26 * vein + 0.16 * (cloud - 0.6))


def grass(rng: Rng, width: int, height: int) -> Pixels:
    """Return a lawn."""
    blades = _clouds(rng, width, height, (width // 3, height // 9))
    patch = _clouds(rng, width, height, (6, 5))
    tone = np.array([86, 132, 52], dtype=np.float32) * rng.uniform(0.7, 1.2)
    return _lit(tone, 0.55 + 0.6 * blades + 0.5 * (patch - 0.5))


SURFACES: Mapping[str, Callable[[Rng, int, int], Pixels]] = {
    "wooden table": wooden,
    "plain background": plain,
    "carpet": carpet,
    "cloth": cloth,
    "tiled floor": tiles,
    "marble": marble,
    "grass": grass,
}
_TABLES = ("wooden table", "plain background", "cloth", "marble")
_WALLS = ("plain background", "plain background", "carpet", "cloth", "tiled floor", "marble")


def from_above(rng: Rng, width: int, height: int) -> tuple[Image.Image, str]:
    """Return a surface that fills the picture, and what it is called."""
    # Records lie on tables more often than on lawns.
    place = str(rng.choice([*SURFACES, *_TABLES]))
    return _image(SURFACES[place](rng, width, height)), place


def room(rng: Rng, width: int, height: int) -> tuple[Image.Image, int]:
    """Return a wall above a table top, and the row in which they meet (40 % to 65 % down)."""
    edge = int(height * rng.uniform(0.40, 0.65))
    wall = SURFACES[str(rng.choice(_WALLS))](rng, width, edge)
    place = str(rng.choice(_TABLES))
    surface = wooden_across if place == "wooden table" else SURFACES[place]
    table = surface(rng, width, height - edge)
    table *= np.linspace(0.82, 1.08, height - edge, dtype=np.float32)[:, None, None]
    wall *= rng.uniform(0.75, 1.1)
    wall[-6:] *= np.linspace(1.0, 0.7, min(6, edge), dtype=np.float32)[:, None, None]
    return _image(np.concatenate([wall, table])), edge


def _tone(rng: Rng) -> Pixels:
    """Return a colour of furniture: greyer than chance, and seldom near black."""
    colour = np.array(any_colour(rng, 50, 240), dtype=np.float32)
    pale = np.float32(rng.uniform(0.35, 0.95))
    muted: Pixels = colour * (1 - pale) + colour.mean() * pale
    return muted


def _lit(tone: Pixels, light_HW: NDArray[Any]) -> Pixels:
    """Return the colour (3,) under that light, (H, W, 3)."""
    pixels: Pixels = (tone * light_HW[..., None]).astype(np.float32)
    return pixels


def _mixed(one: Pixels, two: Pixels, share_HW: NDArray[Any]) -> Pixels:
    """Return the first colour (3,), or that share of the way to the second, (H, W, 3)."""
    pixels: Pixels = (one + (two - one) * share_HW[..., None]).astype(np.float32)
    return pixels


def _turned(rng: Rng, width: int, height: int) -> tuple[Pixels, Pixels]:
    """Return pixel coordinates (H, W) along axes that are turned by a chance angle."""
    turn = rng.uniform(0, math.pi / 2)
    y_HW, x_HW = np.mgrid[0:height, 0:width].astype(np.float32)
    shift = rng.uniform(0, 200, 2)
    u_HW = math.cos(turn) * x_HW + math.sin(turn) * y_HW + shift[0]
    v_HW = math.cos(turn) * y_HW - math.sin(turn) * x_HW + shift[1]
    return u_HW.astype(np.float32), v_HW.astype(np.float32)


def _clouds(rng: Rng, width: int, height: int, cells: tuple[int, int]) -> Pixels:
    """Return smooth noise (H, W) in 0..1, with that many cells across and down."""
    coarse = rng.random((cells[1], cells[0])) * 255
    image = Image.fromarray(coarse.astype(np.uint8))
    smooth = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
