"""How the demo's things are drawn flat, laid into a scene in perspective, and photographed.

H, W pixels of a picture
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Rng = np.random.Generator

# Things are drawn and turned at twice their size, then averaged down: smooth edges.
_OVERSAMPLE = 2
_CAMERA_DISTANCE = 3.2
"""In widths of the thing that is looked at; nearer means stronger perspective."""


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor < 1) or lighter (> 1), clipped to 0..255."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue


def grey(level: float) -> Colour:
    """Return a grey of that level, 0..255."""
    return shade((255, 255, 255), level / 255)


def any_colour(rng: Rng, low: int = 30, high: int = 235) -> Colour:
    """Return a colour with each channel in low..high."""
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


class Pen:
    """Draws in a flat picture whose width is 1.0, whatever its pixels; y runs down to `aspect`."""

    def __init__(self, width_px: int, aspect: float = 1.0) -> None:
        self.width_px = width_px
        self.image = Image.new("RGBA", (width_px, max(1, round(width_px * aspect))), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: Colour,
        *,
        radius: float = 0.0,
        outline: Colour | None = None,
    ) -> None:
        """Fill a rectangle with rounded corners of that radius."""
        self._draw.rounded_rectangle(
            self._px(x0, y0, x1, y1),
            radius=radius * self.width_px,
            fill=fill,
            outline=outline,
            width=max(1, self.width_px // 160),
        )

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        fill: Colour | None = None,
        *,
        outline: Colour | None = None,
        line: float = 0.006,
    ) -> None:
        """Fill or ring a circle about (x, y)."""
        self._draw.ellipse(
            self._px(x - radius, y - radius, x + radius, y + radius),
            fill=fill,
            outline=outline,
            width=max(1, round(line * self.width_px)),
        )

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """Draw a line through the points, with round joints."""
        self._draw.line(
            [(x * self.width_px, y * self.width_px) for x, y in points],
            fill=fill,
            width=max(1, round(width * self.width_px)),
            joint="curve",
        )

    def polygon(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * self.width_px, y * self.width_px) for x, y in points], fill=fill)

    def text(self, x: float, y: float, words: str, fill: Colour, size: float) -> None:
        """Write words centred on (x, y), letters of that height, in Pillow's built-in font."""
        font = ImageFont.load_default(size=max(4.0, size * self.width_px))
        self._draw.text(
            (x * self.width_px, y * self.width_px), words, fill=fill, font=font, anchor="mm"
        )

    def paste(self, picture: Image.Image, x: float, y: float, width: float) -> None:
        """Lay a picture with its middle on (x, y), scaled to that width."""
        width_px = max(2, round(width * self.width_px))
        height_px = max(2, round(width_px * picture.height / picture.width))
        scaled = picture.resize((width_px, height_px), Image.Resampling.BILINEAR)
        corner = (round(x * self.width_px - width_px / 2), round(y * self.width_px - height_px / 2))
        self.image.alpha_composite(scaled, (max(0, corner[0]), max(0, corner[1])))

    def _px(self, *units: float) -> list[float]:
        return [unit * self.width_px for unit in units]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How a flat thing lies before the camera; degrees."""

    spin: float = 0.0
    """About the axis that stands on the thing: a turn on the table."""
    tilt: float = 0.0
    """Away from the camera: 0 is seen from straight above, 60 is nearly from the side."""
    thickness: float = 0.0
    """Height of its edge, in widths of the thing."""


def lay(
    scene: Image.Image,
    thing: Image.Image,
    centre: tuple[float, float],
    width_px: float,
    pose: Pose,
    *,
    shadow: float = 0.5,
) -> None:
    """Draw the thing (RGBA) into the scene (RGB), in perspective, with its shadow.

    The centre is in pixels of the scene, and may lie so that the thing is cut off at its edge.
    Shadow is its darkness in 0..1.
    """
    corners = _project(thing.height / thing.width, pose) * width_px
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 2.0
    size = np.ceil(high - low + 2 * margin).astype(int)
    seen = thing.transform(
        (int(size[0]) * _OVERSAMPLE, int(size[1]) * _OVERSAMPLE),
        Image.Transform.PERSPECTIVE,
        _perspective((corners - low + margin) * _OVERSAMPLE, thing.width, thing.height),
        Image.Resampling.BILINEAR,
    ).reduce(_OVERSAMPLE)
    left = round(centre[0] + float(low[0]) - margin)
    top = round(centre[1] + float(low[1]) - margin)
    alpha = seen.getchannel("A")
    height_px = round(pose.thickness * width_px * math.sin(math.radians(pose.tilt)))
    if shadow > 0:
        _cast_shadow(scene, alpha, left, top + height_px, width_px, shadow)
    if height_px > 0:
        edge = Image.new("RGB", seen.size, _edge_colour(seen))
        for lower in range(height_px, 0, -1):
            scene.paste(edge, (left, top + lower), alpha)
    scene.paste(seen.convert("RGB"), (left, top), alpha)


def photograph(rng: Rng, scene: Image.Image) -> Image.Image:
    """Return the scene under uneven light of some tint, with a camera's softness and noise."""
    width, height = scene.size
    x_W = np.linspace(-1, 1, width, dtype=np.float32)
    y_H1 = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    direction = rng.uniform(0, 2 * math.pi)
    slope = rng.uniform(0.0, 0.28)
    light_HW = 1 + slope * math.cos(direction) * x_W + slope * math.sin(direction) * y_H1
    darker = rng.uniform(0.0, 0.16)
    light_HW -= darker * x_W**2 + darker * y_H1**2
    lamp_x, lamp_y = rng.uniform(-1, 1, 2).tolist()
    narrow = rng.uniform(1.0, 4.0)
    lamp_HW = np.exp(-narrow * (x_W - lamp_x) ** 2) * np.exp(-narrow * (y_H1 - lamp_y) ** 2)
    light_HW += rng.uniform(0.0, 0.35) * lamp_HW
    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1 + rng.normal(0, 0.015), 1 - warmth], dtype=np.float32)
    soft = scene.filter(ImageFilter.GaussianBlur(max(0.0, rng.normal(0.25, 0.45))))
    picture = np.asarray(soft, dtype=np.float32)
    picture = (picture - 128) * rng.uniform(0.8, 1.1) + 128
    picture *= light_HW[..., None]
    picture *= tint * np.float32(rng.uniform(0.78, 1.1))
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    picture += grain * rng.uniform(1.0, 7.0)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _project(aspect: float, pose: Pose) -> NDArray[np.float64]:
    """Return where the thing's corners land, for a thing one wide: (4, 2), clockwise from top left."""
    half = aspect / 2
    flat = np.array([[-0.5, -half], [0.5, -half], [0.5, half], [-0.5, half]])
    spin, tilt = math.radians(pose.spin), math.radians(pose.tilt)
    turn = np.array([[math.cos(spin), -math.sin(spin)], [math.sin(spin), math.cos(spin)]])
    turned = flat @ turn.T
    x, y = turned[:, 0], turned[:, 1] * math.cos(tilt)
    depth = _CAMERA_DISTANCE - turned[:, 1] * math.sin(tilt)
    corners: NDArray[np.float64] = np.stack([x, y], axis=1) * (_CAMERA_DISTANCE / depth)[:, None]
    return corners


def _perspective(corners: NDArray[np.float64], width: int, height: int) -> list[float]:
    """Return Pillow's eight coefficients, which map a place in the scene to one in the thing."""
    source = [(0, 0), (width, 0), (width, height), (0, height)]
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(corners.tolist(), source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solved = np.linalg.solve(np.array(rows), np.array(source, dtype=np.float64).reshape(8))
    return [float(value) for value in solved]


def _cast_shadow(
    scene: Image.Image, alpha: Image.Image, left: int, top: int, width_px: float, darkness: float
) -> None:
    """Darken the scene beside where the thing stands, softly."""
    spread = max(2, round(width_px * 0.035))
    grown = Image.new("L", (alpha.width + 4 * spread, alpha.height + 4 * spread))
    grown.paste(alpha, (2 * spread, 2 * spread))
    mask = grown.filter(ImageFilter.GaussianBlur(spread * 0.8))
    mask = ImageChops.multiply(mask, Image.new("L", mask.size, round(255 * darkness)))
    at = (left - 2 * spread + spread // 2, top - 2 * spread + spread)
    scene.paste((8, 8, 12), (at[0], at[1], at[0] + mask.width, at[1] + mask.height), mask)


def _edge_colour(seen: Image.Image) -> Colour:
    """Return the thing's mean colour, darkened: what its side looks like."""
    pixels = np.asarray(seen)
    opaque = pixels[pixels[..., 3] > 128][:, :3]
    red, green, blue = (float(channel) for channel in opaque.mean(axis=0))
    return shade((round(red), round(green), round(blue)), 0.55)
