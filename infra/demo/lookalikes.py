"""Things that are neither a record nor a turntable, many of them round or found beside one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from infra.demo.canvas import Colour, Pen, Rng, any_colour, grey, shade
from infra.demo.gear import sleeve

_WOOD: tuple[Colour, ...] = ((150, 100, 58), (104, 66, 40), (190, 148, 100), (72, 48, 34))


def _wood(rng: Rng) -> Colour:
    return _WOOD[int(rng.integers(len(_WOOD)))]


def plate(rng: Rng, width_px: int) -> Image.Image:
    """Return a plate, plain or with rings or dots, some with food on it."""
    pen = Pen(width_px)
    glaze = any_colour(rng, 40, 250) if rng.random() < 0.6 else grey(float(rng.uniform(215, 245)))
    pen.disc(0.5, 0.5, 0.495, shade(glaze, 0.8))
    pen.disc(0.5, 0.5, 0.485, glaze)
    rim = any_colour(rng)
    if rng.random() < 0.5:
        pen.disc(0.5, 0.5, 0.46, outline=rim, line=0.02)
    else:
        for turn in np.linspace(0, 2 * math.pi, 24, endpoint=False):
            pen.disc(0.5 + 0.43 * math.cos(turn), 0.5 + 0.43 * math.sin(turn), 0.02, rim)
    pen.disc(0.5, 0.5, 0.36, shade(glaze, 0.86))
    pen.disc(0.505, 0.508, 0.35, shade(glaze, 1.06))
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(3, 8))):
            x, y = rng.uniform(0.33, 0.67, 2).tolist()
            pen.disc(x, y, float(rng.uniform(0.04, 0.1)), any_colour(rng, 60, 220))
    return pen.image


def clock(rng: Rng, width_px: int) -> Image.Image:
    """Return a round clock with hands, and numerals or strokes."""
    pen = Pen(width_px)
    face = grey(float(rng.uniform(225, 250))) if rng.random() < 0.6 else any_colour(rng, 20, 240)
    ink = grey(25) if sum(face) > 380 else grey(240)
    pen.disc(0.5, 0.5, 0.495, any_colour(rng))
    pen.disc(0.5, 0.5, 0.44, face)
    numerals = rng.random() < 0.6
    for hour in range(1, 13):
        turn = math.pi * hour / 6 - math.pi / 2
        x, y = math.cos(turn), math.sin(turn)
        if numerals:
            pen.text(0.5 + 0.36 * x, 0.5 + 0.36 * y, str(hour), ink, 0.1)
        else:
            pen.line(
                [(0.5 + 0.34 * x, 0.5 + 0.34 * y), (0.5 + 0.42 * x, 0.5 + 0.42 * y)], ink, 0.02
            )
    for reach, width in ((0.22, 0.032), (0.33, 0.02)):
        turn = rng.uniform(0, 2 * math.pi)
        tip = (0.5 + reach * math.cos(turn), 0.5 + reach * math.sin(turn))
        pen.line([(0.5, 0.5), tip], ink, width)
    pen.disc(0.5, 0.5, 0.025, ink)
    return pen.image


def wheel(rng: Rng, width_px: int) -> Image.Image:
    """Return a wheel: a black tyre, spokes, and a hub."""
    pen = Pen(width_px)
    rubber = grey(float(rng.uniform(22, 50)))
    inner = float(rng.uniform(0.32, 0.44))
    pen.disc(0.5, 0.5, 0.49, rubber)
    pen.disc(0.5, 0.5, inner, grey(float(rng.uniform(90, 130))))
    pen.disc(0.5, 0.5, inner - 0.015, any_colour(rng, 150, 250))
    pen.disc(0.5, 0.5, inner - 0.04, shade(rubber, float(rng.uniform(0.9, 2.2))))
    metal, spokes = grey(float(rng.uniform(150, 225))), int(rng.integers(5, 17))
    for step in range(spokes):
        turn = 2 * math.pi * step / spokes + 0.2
        tip = (0.5 + (inner - 0.02) * math.cos(turn), 0.5 + (inner - 0.02) * math.sin(turn))
        pen.line([(0.5, 0.5), tip], metal, 0.35 / spokes)
    pen.disc(0.5, 0.5, 0.07, shade(metal, 0.8))
    pen.disc(0.5, 0.5, 0.03, shade(metal, 0.4))
    return pen.image


def compact_disc(rng: Rng, width_px: int) -> Image.Image:
    """Return a compact disc: silver, iridescent, a clear middle with a hole."""
    axis = np.linspace(-1, 1, width_px, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    turn = rng.uniform(0, 2 * math.pi)
    hues = [np.cos(3 * (angle - turn) + shift + 2 * radius) for shift in (0, 2.1, 4.2)]
    streak = np.abs(np.cos(angle - turn)) ** 12
    pixels = np.dstack([178 + 38 * hue * streak + 42 * streak for hue in hues])
    pixels[(radius < 0.34) & (radius > 0.1)] = 216
    alpha = np.clip((1 - radius) * width_px / 2, 0, 1) * np.clip(
        (radius - 0.1) * width_px / 2, 0, 1
    )
    flat = np.dstack([np.clip(pixels, 0, 255), alpha * 255]).astype(np.uint8)
    return Image.fromarray(flat, "RGBA")


def speaker(rng: Rng, width_px: int) -> Image.Image:
    """Return a loudspeaker box with one or two round drivers."""
    pen = Pen(width_px, 1.6)
    box = _wood(rng) if rng.random() < 0.5 else grey(float(rng.uniform(25, 90)))
    pen.box(0, 0, 1, 1.6, box, radius=0.03, outline=shade(box, 0.6))
    cone = grey(float(rng.uniform(20, 60))) if rng.random() < 0.7 else (214, 178, 40)
    for x, y, radius in ((0.5, 1.08, 0.38), (0.5, 0.36, float(rng.uniform(0.14, 0.22)))):
        pen.disc(x, y, radius, grey(120))
        pen.disc(x, y, radius - 0.03, shade(cone, 0.6))
        pen.disc(x, y, radius - 0.07, cone)
        pen.disc(x, y, radius * 0.34, shade(cone, 1.4))
    return pen.image


def radio(rng: Rng, width_px: int) -> Image.Image:
    """Return a table radio: a grille, a dial and two knobs."""
    pen = Pen(width_px, 0.6)
    body = _wood(rng) if rng.random() < 0.5 else any_colour(rng)
    pen.box(0, 0, 1, 0.6, body, radius=0.06, outline=shade(body, 0.6))
    pen.box(0.06, 0.08, 0.56, 0.52, shade(body, 0.5), radius=0.02)
    for x in np.linspace(0.09, 0.53, 16):
        pen.line([(float(x), 0.1), (float(x), 0.5)], shade(body, 1.2), 0.008)
    pen.box(0.62, 0.09, 0.94, 0.28, (236, 222, 178), radius=0.015)
    for x in np.linspace(0.65, 0.91, 9):
        pen.line([(float(x), 0.13), (float(x), 0.18)], grey(40), 0.006)
    at = float(rng.uniform(0.66, 0.9))
    pen.line([(at, 0.1), (at, 0.27)], (210, 30, 20), 0.008)
    for x in (0.69, 0.87):
        pen.disc(x, 0.42, 0.07, grey(50))
        pen.disc(x, 0.42, 0.05, grey(170))
    return pen.image


def laptop(rng: Rng, width_px: int) -> Image.Image:
    """Return an open laptop with something on its screen."""
    pen = Pen(width_px, 0.98)
    shell = grey(float(rng.uniform(60, 215)))
    pen.box(0.06, 0, 0.94, 0.6, shade(shell, 0.5), radius=0.03)
    pen.box(0.09, 0.03, 0.91, 0.56, any_colour(rng, 40, 220))
    for _ in range(int(rng.integers(2, 5))):
        x, y = float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.05, 0.38))
        pen.box(x, y, x + 0.27, y + 0.16, any_colour(rng, 90, 255))
    pen.polygon([(0.06, 0.6), (0.94, 0.6), (1, 0.95), (0, 0.95)], shell)
    for row in range(4):
        y, inset = 0.64 + row * 0.05, 0.11 - row * 0.012
        for key in range(12):
            x = inset + key * (1 - 2 * inset) / 12
            pen.box(x, y, x + 0.052, y + 0.035, grey(40))
    pen.box(0.38, 0.86, 0.62, 0.93, shade(shell, 0.85))
    return pen.image


def plant(rng: Rng, width_px: int) -> Image.Image:
    """Return a plant in a pot."""
    pen = Pen(width_px, 1.4)
    leaf: Colour = (
        int(rng.integers(20, 80)),
        int(rng.integers(95, 170)),
        int(rng.integers(30, 90)),
    )
    for _ in range(int(rng.integers(9, 18))):
        turn = math.radians(float(rng.uniform(-160, -20)))
        far, wide = float(rng.uniform(0.35, 0.85)), float(rng.uniform(0.05, 0.12))
        tip = (0.5 + math.cos(turn) * far * 0.6, 0.9 + math.sin(turn) * far)
        middle = ((0.5 + tip[0]) / 2, (0.9 + tip[1]) / 2)
        side = (-math.sin(turn) * wide, math.cos(turn) * wide)
        left = (middle[0] + side[0], middle[1] + side[1])
        right = (middle[0] - side[0], middle[1] - side[1])
        green = shade(leaf, float(rng.uniform(0.6, 1.35)))
        pen.polygon([(0.5, 0.9), left, tip, right], green)
        pen.line([(0.5, 0.9), tip], shade(green, 0.7), 0.008)
    pot = any_colour(rng, 60, 230)
    pen.polygon([(0.24, 0.9), (0.76, 0.9), (0.68, 1.38), (0.32, 1.38)], pot)
    pen.box(0.21, 0.86, 0.79, 0.97, shade(pot, 0.85), radius=0.02)
    return pen.image


def book(rng: Rng, width_px: int) -> Image.Image:
    """Return a closed book with a title."""
    pen = Pen(width_px, 1.38)
    cover = any_colour(rng, 25, 220)
    pen.box(0.03, 0, 1, 1.38, grey(235), radius=0.01)
    pen.box(0, 0, 0.97, 1.36, cover, radius=0.015)
    pen.box(0, 0, 0.08, 1.36, shade(cover, 0.7), radius=0.01)
    ink = grey(240) if sum(cover) < 380 else grey(20)
    words = rng.choice(["A HISTORY", "GARDENS", "LETTERS", "THE SEA", "COOKING", "MAPS"])
    pen.text(0.52, 0.3, str(words), ink, 0.12)
    pen.line([(0.2, 0.45), (0.84, 0.45)], ink, 0.012)
    pen.box(0.28, 0.6, 0.76, 1.1, any_colour(rng))
    return pen.image


def poster(rng: Rng, width_px: int) -> Image.Image:
    """Return a framed poster."""
    pen = Pen(width_px, 1.3)
    pen.box(0, 0, 1, 1.3, grey(float(rng.choice([30, 200, 245]))))
    pen.box(0.05, 0.05, 0.95, 1.25, any_colour(rng, 90, 250))
    for _ in range(int(rng.integers(3, 7))):
        corners = [(float(x), float(y)) for x, y in rng.uniform((0.08, 0.1), (0.92, 1.0), (4, 2))]
        pen.polygon(corners, any_colour(rng))
    pen.text(
        0.5, 1.12, str(rng.choice(["CONCERT", "EXPO", "FILM", "JAZZ", "TOUR"])), grey(20), 0.16
    )
    return pen.image


def cassette(rng: Rng, width_px: int) -> Image.Image:
    """Return a cassette: two small reels behind a window."""
    pen = Pen(width_px, 0.64)
    body = grey(float(rng.uniform(25, 225))) if rng.random() < 0.6 else any_colour(rng)
    pen.box(0, 0, 1, 0.64, body, radius=0.03, outline=shade(body, 0.5))
    pen.box(0.06, 0.05, 0.94, 0.46, any_colour(rng, 150, 250), radius=0.02)
    pen.box(0.06, 0.1, 0.94, 0.17, any_colour(rng))
    pen.box(0.2, 0.22, 0.8, 0.4, grey(50), radius=0.05)
    for x in (0.31, 0.69):
        pen.disc(x, 0.31, 0.075, grey(230))
        for turn in np.linspace(0, 2 * math.pi, 6, endpoint=False):
            pen.disc(x + 0.055 * math.cos(turn), 0.31 + 0.055 * math.sin(turn), 0.013, grey(50))
    pen.polygon([(0.2, 0.63), (0.24, 0.51), (0.76, 0.51), (0.8, 0.63)], shade(body, 0.75))
    return pen.image


def mug(rng: Rng, width_px: int) -> Image.Image:
    """Return a mug of coffee from above, its handle to the right."""
    pen = Pen(width_px)
    glaze = any_colour(rng, 60, 245)
    pen.box(0.7, 0.43, 0.99, 0.57, shade(glaze, 0.85), radius=0.05)
    pen.disc(0.42, 0.5, 0.41, glaze)
    pen.disc(0.42, 0.5, 0.355, shade(glaze, 0.6))
    pen.disc(0.42, 0.51, 0.335, (74, 44, 26))
    pen.disc(0.36, 0.42, 0.06, (112, 74, 46))
    return pen.image


def pan(rng: Rng, width_px: int) -> Image.Image:
    """Return a dark frying pan with its handle."""
    pen = Pen(width_px, 0.62)
    iron = grey(float(rng.uniform(24, 60)))
    pen.box(
        0.55, 0.27, 0.99, 0.35, shade(iron, 0.8) if rng.random() < 0.5 else _wood(rng), radius=0.03
    )
    pen.disc(0.31, 0.31, 0.305, shade(iron, 1.8))
    pen.disc(0.31, 0.31, 0.285, iron)
    pen.disc(0.31, 0.31, 0.24, shade(iron, 1.35))
    if rng.random() < 0.6:
        pen.disc(0.28, 0.33, 0.13, grey(240))
        pen.disc(0.28, 0.33, 0.055, (246, 186, 40))
    return pen.image


def camera(rng: Rng, width_px: int) -> Image.Image:
    """Return a camera seen from its lens."""
    pen = Pen(width_px, 0.72)
    skin = grey(35) if rng.random() < 0.6 else _wood(rng)
    pen.box(0.36, 0, 0.64, 0.2, grey(150), radius=0.02)
    pen.box(0, 0.1, 1, 0.7, grey(175), radius=0.05)
    pen.box(0, 0.22, 1, 0.6, skin)
    for radius, level in ((0.27, 30), (0.235, 90), (0.2, 20), (0.13, 45)):
        pen.disc(0.5, 0.41, radius, grey(level))
    pen.disc(0.5, 0.41, 0.1, (44, 40, 92))
    pen.disc(0.46, 0.37, 0.03, grey(210))
    pen.disc(0.86, 0.08, 0.05, grey(120))
    return pen.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookalike:
    """A thing, and where it is found."""

    make: Callable[[Rng, int], Image.Image]
    upright: bool = False
    """It stands or hangs, and so is never laid flat in perspective."""


LOOKALIKES: Mapping[str, Lookalike] = {
    "plate": Lookalike(make=plate),
    "clock": Lookalike(make=clock, upright=True),
    "wheel": Lookalike(make=wheel),
    "cd": Lookalike(make=compact_disc),
    "speaker": Lookalike(make=speaker, upright=True),
    "radio": Lookalike(make=radio, upright=True),
    "laptop": Lookalike(make=laptop, upright=True),
    "plant": Lookalike(make=plant, upright=True),
    "book": Lookalike(make=book),
    "sleeve": Lookalike(make=sleeve),
    "poster": Lookalike(make=poster, upright=True),
    "cassette": Lookalike(make=cassette),
    "mug": Lookalike(make=mug),
    "pan": Lookalike(make=pan),
    "camera": Lookalike(make=camera, upright=True),
}
