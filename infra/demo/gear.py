"""Records, sleeves and turntables, drawn flat, seen from above."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image

from infra.demo.canvas import Colour, Pen, Rng, any_colour, grey, shade

RECORD_COLOURS: Mapping[str, Colour] = {
    "black": (20, 20, 22),
    "red": (150, 22, 28),
    "blue": (26, 48, 130),
    "green": (22, 96, 58),
    "orange": (205, 100, 22),
    "purple": (84, 34, 110),
}
PLINTH_COLOURS: Mapping[str, Colour] = {
    "silver": (186, 188, 192),
    "black": (38, 38, 41),
    "white": (232, 231, 226),
    "wooden": (134, 88, 50),
    "red": (162, 38, 36),
    "grey": (112, 116, 122),
    "blue": (58, 84, 128),
}
SLEEVE_WORDS = (
    "NIGHT TRAIN",
    "BLUE HOUR",
    "SUMMER",
    "TRIO",
    "LIVE",
    "SOUL",
    "RIVER",
    "ECHOES",
    "DUB",
    "NINE",
)


def pick(rng: Rng, names: Mapping[str, Colour], first: float = 0.0) -> str:
    """Return one of the names; the first of them with at least that probability."""
    choices = list(names)
    if rng.random() < first:
        return choices[0]
    return choices[int(rng.integers(len(choices)))]


def record(rng: Rng, width_px: int, colour: str = "black") -> Image.Image:
    """Return a record: grooves, bands between tracks, sheen, a label and a hole."""
    axis = np.linspace(-1, 1, width_px, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    rings = 1024
    groove = rng.normal(0, 0.09, rings).astype(np.float32)
    for edge in rng.uniform(0.42, 0.92, int(rng.integers(3, 8))):
        groove[int(edge * rings / 1.05) : int(edge * rings / 1.05) + 7] += 0.30
    surface = groove[np.clip((radius * rings / 1.05).astype(int), 0, rings - 1)]
    lamp = rng.uniform(0, math.pi)
    narrow = rng.uniform(6, 30)
    sheen = np.abs(np.cos(angle - lamp)) ** narrow * rng.uniform(0.3, 1.0)
    sheen += np.abs(np.cos(angle - lamp - rng.uniform(0.5, 1.4))) ** (2 * narrow) * 0.35
    grooved = (radius > 0.36) & (radius < 0.97)
    light = 1 + grooved * (surface + 0.5 * sheen)
    base = np.array(RECORD_COLOURS[colour], dtype=np.float32)
    pixels = base * light[..., None] + (grooved * sheen * rng.uniform(40, 90))[..., None]
    alpha = np.clip((1 - radius) * width_px / 2, 0, 1) * 255
    flat = np.dstack([np.clip(pixels, 0, 255), alpha]).astype(np.uint8)
    pen = Pen(width_px)
    pen.image.paste(Image.fromarray(flat, "RGBA"))
    _record_label(rng, pen)
    return pen.image


def _record_label(rng: Rng, pen: Pen) -> None:
    paper = any_colour(rng, 60, 250)
    ink = grey(25) if sum(paper) > 380 else grey(235)
    pen.disc(0.5, 0.5, 0.175, shade(paper, 0.7))
    pen.disc(0.5, 0.5, 0.168, paper)
    style = int(rng.integers(4))
    if style == 0:
        pen.disc(0.5, 0.5, 0.10, shade(paper, 1.3))
    elif style == 1:
        pen.box(0.345, 0.48, 0.655, 0.52, any_colour(rng))
    elif style == 2:
        pen.disc(0.5, 0.5, 0.14, outline=ink, line=0.005)
    pen.text(0.5, 0.43, str(rng.choice(SLEEVE_WORDS)), ink, 0.034)
    pen.text(0.5, 0.57, f"SIDE {rng.choice(['A', 'B'])}", ink, 0.026)
    pen.text(0.5, 0.60, "33 1/3", ink, 0.022)
    pen.disc(0.5, 0.5, 0.012, grey(200))


def sleeve(rng: Rng, width_px: int) -> Image.Image:
    """Return a square record sleeve with printed art; no disc shows."""
    pen = Pen(width_px)
    paper = any_colour(rng, 40, 250)
    pen.box(0, 0, 1, 1, paper, radius=0.01, outline=shade(paper, 0.7))
    style = int(rng.integers(5))
    if style == 0:
        for at in np.linspace(0.1, 0.9, int(rng.integers(3, 8))):
            pen.line([(0, float(at)), (1, float(at) * 0.6 + 0.2)], any_colour(rng), 0.05)
    elif style == 1:
        x, y = rng.uniform(0.3, 0.7, 2).tolist()
        pen.disc(x, y, float(rng.uniform(0.12, 0.24)), any_colour(rng))
        pen.box(0, 0.72, 1, 0.99, any_colour(rng))
    elif style == 2:
        for _ in range(int(rng.integers(4, 9))):
            corners = [(float(x), float(y)) for x, y in rng.uniform(0.02, 0.98, (3, 2))]
            pen.polygon(corners, any_colour(rng))
    elif style == 3:
        sides = int(rng.integers(2, 5))
        for i in range(sides * sides):
            x, y = (i % sides) / sides, (i // sides) / sides
            pen.box(x, y, x + 1 / sides, y + 1 / sides, any_colour(rng))
    else:
        pen.box(0.14, 0.22, 0.86, 0.88, any_colour(rng))
        skin = any_colour(rng, 90, 230)
        pen.disc(0.5, 0.48, 0.15, skin)
        pen.polygon([(0.24, 0.88), (0.36, 0.64), (0.64, 0.64), (0.76, 0.88)], any_colour(rng))
    ink = grey(20) if sum(paper) > 380 else grey(240)
    pen.text(0.5, 0.09, str(rng.choice(SLEEVE_WORDS)), ink, float(rng.uniform(0.07, 0.12)))
    return pen.image


def record_in_sleeve(rng: Rng, width_px: int, colour: str = "black") -> Image.Image:
    """Return a record that looks half out of its sleeve; one and a half as wide as high."""
    out = float(rng.uniform(0.30, 0.62))
    cover = sleeve(rng, round(width_px / (1 + out)))
    pen = Pen(width_px, cover.width / width_px)
    side = cover.width / width_px
    disc = record(rng, round(cover.width * 0.96), colour)
    pen.paste(disc, out * side + side * 0.48, side / 2, side * 0.96)
    pen.paste(cover, side / 2, side / 2, side)
    return pen.image


def turntable(
    rng: Rng, width_px: int, plinth: str = "silver", on_platter: Image.Image | None = None
) -> Image.Image:
    """Return a turntable from above: plinth, platter, tonearm, pitch fader and buttons.

    With no record on it the platter shows its mat.
    """
    pen = Pen(width_px, 0.78)
    body = PLINTH_COLOURS[plinth]
    light = sum(body) > 380
    pen.box(0, 0, 1, 0.78, body, radius=float(rng.uniform(0.01, 0.05)), outline=shade(body, 0.6))
    if plinth == "wooden":
        for at in np.linspace(0.03, 0.75, 20):
            y = float(at + rng.normal(0, 0.006))
            pen.line([(0.01, y), (0.99, y + float(rng.normal(0, 0.01)))], shade(body, 0.86), 0.004)
    x, y, radius = 0.405, 0.39, float(rng.uniform(0.325, 0.35))
    _platter(rng, pen, x, y, radius)
    if on_platter is not None:
        pen.paste(on_platter, x, y, 2 * (radius - 0.018))
    pen.disc(x, y, 0.007, grey(225))
    _controls(rng, pen, grey(45) if light else grey(190), body)
    _tonearm(rng, pen, (x, y), radius, playing=on_platter is not None and rng.random() < 0.7)
    return pen.image


def _platter(rng: Rng, pen: Pen, x: float, y: float, radius: float) -> None:
    metal = grey(float(rng.uniform(130, 205)))
    pen.disc(x, y, radius + 0.012, shade(metal, 0.45))
    pen.disc(x, y, radius, metal)
    if rng.random() < 0.6:
        for step in range(72):
            turn = 2 * math.pi * step / 72
            dot_x, dot_y = math.cos(turn) * (radius - 0.009), math.sin(turn) * (radius - 0.009)
            pen.disc(x + dot_x, y + dot_y, 0.004, shade(metal, 0.4))
    inner = radius - 0.02
    style = int(rng.integers(4))
    if style == 0:  # ribbed rubber
        rubber = grey(float(rng.uniform(48, 96)))
        pen.disc(x, y, inner, rubber)
        for ring in np.linspace(0.08, inner - 0.02, 6):
            pen.disc(x, y, float(ring), outline=shade(rubber, 0.72), line=0.008)
    elif style == 1:  # felt with a printed sign
        felt = any_colour(rng, 50, 225)
        pen.disc(x, y, inner, felt)
        sign = shade(felt, 1.6 if sum(felt) < 380 else 0.5)
        pen.text(x, y - 0.10, str(rng.choice(["DECK", "LOOP", "SLIP", "45"])), sign, 0.09)
        pen.line([(x - 0.16, y + 0.1), (x + 0.16, y + 0.1)], sign, 0.02)
    elif style == 2:  # cork
        cork = (176, 132, 86)
        pen.disc(x, y, inner, cork)
        for _ in range(160):
            far, turn = inner * math.sqrt(rng.random()) * 0.97, rng.uniform(0, 2 * math.pi)
            spot = shade(cork, float(rng.uniform(0.65, 1.2)))
            pen.disc(x + far * math.cos(turn), y + far * math.sin(turn), 0.005, spot)
    else:  # bare metal or glass
        glass = shade(metal, float(rng.uniform(0.8, 1.15)))
        pen.disc(x, y, inner, glass)
        pen.disc(x, y, inner * 0.55, outline=shade(glass, 0.8), line=0.01)
        pen.disc(x, y, inner * 0.2, shade(glass, 0.7))


def _controls(rng: Rng, pen: Pen, ink: Colour, body: Colour) -> None:
    if rng.random() < 0.75:  # pitch fader
        low, high = 0.46, 0.72
        pen.box(0.895, low, 0.945, high, shade(body, 0.7), radius=0.006)
        pen.line([(0.92, low + 0.015), (0.92, high - 0.015)], grey(15), 0.008)
        at = float(rng.uniform(low + 0.04, high - 0.04))
        pen.box(0.9, at - 0.014, 0.94, at + 0.014, ink, radius=0.004)
    if rng.random() < 0.7:  # start and stop
        pen.box(0.03, 0.66, 0.115, 0.745, shade(ink, 0.85), radius=0.008, outline=shade(body, 0.5))
        pen.box(0.13, 0.715, 0.18, 0.745, ink, radius=0.005)
        pen.box(0.19, 0.715, 0.24, 0.745, ink, radius=0.005)
    else:  # a knob
        pen.disc(0.07, 0.70, 0.032, shade(ink, 0.8))
        pen.line([(0.07, 0.70), (0.07, 0.675)], body, 0.006)
    if rng.random() < 0.6:
        pen.disc(0.055, 0.06, 0.018, (220, 40, 30))
    if rng.random() < 0.5:
        pen.text(0.84, 0.745, str(rng.choice(["DIRECT", "MK2", "AUTO", "HI-FI"])), ink, 0.028)


def _tonearm(
    rng: Rng, pen: Pen, centre: tuple[float, float], radius: float, *, playing: bool
) -> None:
    pivot_x, pivot_y = float(rng.uniform(0.85, 0.88)), float(rng.uniform(0.14, 0.19))
    metal = grey(float(rng.uniform(170, 235))) if rng.random() < 0.75 else grey(30)
    if playing:
        turn = float(rng.uniform(0.35, 0.85))
        far = radius * float(rng.uniform(0.5, 0.92))
        head_x, head_y = centre[0] + math.cos(turn) * far, centre[1] + math.sin(turn) * far
    else:
        head_x, head_y = float(rng.uniform(0.79, 0.83)), float(rng.uniform(0.56, 0.62))
    pen.disc(pivot_x, pivot_y, 0.085, shade(metal, 0.55))
    pen.disc(pivot_x, pivot_y, 0.07, shade(metal, 0.8))
    along_x, along_y = head_x - pivot_x, head_y - pivot_y
    length = math.hypot(along_x, along_y)
    unit_x, unit_y = along_x / length, along_y / length
    back = (pivot_x - unit_x * 0.10, pivot_y - unit_y * 0.10)
    bend = float(rng.choice([0.0, 0.035]))
    path = [back, (pivot_x, pivot_y)]
    for part in np.linspace(0.1, 1, 12):
        sway = math.sin(float(part) * 2 * math.pi) * bend
        path.append(
            (
                pivot_x + along_x * float(part) - unit_y * sway,
                pivot_y + along_y * float(part) + unit_x * sway,
            )
        )
    pen.line([(px + 0.012, py + 0.014) for px, py in path], shade(metal, 0.25), 0.010)
    pen.line(path, metal, 0.016)
    weight = (pivot_x - unit_x * 0.055, pivot_y - unit_y * 0.055)
    pen.line([back, weight], grey(40), 0.055)
    pen.disc(pivot_x, pivot_y, 0.026, shade(metal, 0.7))
    turn_x, turn_y = unit_x * 0.9 - unit_y * 0.35, unit_y * 0.9 + unit_x * 0.35
    pen.line([(head_x, head_y), (head_x + turn_x * 0.075, head_y + turn_y * 0.075)], grey(28), 0.04)
