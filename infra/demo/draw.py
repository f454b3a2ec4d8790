"""Drawings of records and turntables, and of what is neither: the demo's pictures.

Everything is drawn by this project's code, so the demo needs no network and no licence but its own.
A drawing is decided by its seed and kind alone, on any machine with the same Pillow and NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from infra.demo import backdrops, gear
from infra.demo.canvas import Pose, Rng, lay, photograph
from infra.demo.captions import Contents, describe
from infra.demo.lookalikes import LOOKALIKES

Kind = Literal["vinyl", "turntable", "both", "neither"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FIRST_DEMO_SEED = 1_000_000
"""The demo draws from here up; its CLIP is trained on lower seeds, so it has seen none of them."""

_LABELS: dict[Kind, tuple[str, ...]] = {
    "vinyl": ("vinyl",),
    "turntable": ("turntable",),
    "both": ("turntable", "vinyl"),
    "neither": (),
}
_SIZES = (
    (480, 360),
    (512, 384),
    (560, 420),
    (640, 480),
    (600, 400),
    (540, 405),
    (480, 480),
    (420, 560),
    (400, 533),
)
# Things are drawn finer than they are seen, for smooth edges, but no wider than this, for speed.
_FINER = 1.6
_WIDEST_PX = 560
_HUNG = ("clock", "poster")
_SMALL = ("mug", "cassette", "cd", "book", "plate", "camera")
# In the room of a music lover: what lies about, a little more often than chance would have it.
_CLUTTER = (*LOOKALIKES, "sleeve", "cd", "cassette", "speaker", "mug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A picture and what is true of it."""

    image: Image.Image
    """RGB, 400 to 640 pixels wide, 360 to 560 high."""
    labels: tuple[str, ...]
    """"turntable", "vinyl", both in that order, or none."""
    caption: str
    seed: int
    contents: Contents
    """All that is in it, for further captions."""


def draw(seed: int, kind: Kind) -> Drawing:
    """Return the drawing of that seed and kind: the same pixels every time.

    Seeds below `FIRST_DEMO_SEED` are for training, the others for the demo. Raises ValueError for
    another kind, or a seed below 0.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, and should be one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    stage = _Stage(rng, width, height)
    contents = _COMPOSERS[kind](stage)
    caption = describe(rng, contents)
    return Drawing(
        image=photograph(rng, stage.image),
        labels=_LABELS[kind],
        caption=caption.words,
        seed=seed,
        contents=contents,
    )


class _Stage:
    """A backdrop and what has been put before it; places are fractions of its width and height."""

    def __init__(self, rng: Rng, width: int, height: int) -> None:
        self.rng = rng
        self.side = min(width, height)
        self.in_room = rng.random() < 0.42
        self.things: list[str] = []
        self._spin = (
            float(rng.uniform(-180, 180)) if rng.random() < 0.4 else float(rng.normal(0, 14))
        )
        if self.in_room:
            self.image, edge_row = backdrops.room(rng, width, height)
            self.edge = edge_row / height
            self.place, self.view = "room", "angle"
            self.tilt = float(rng.uniform(44, 64))
        else:
            self.image, self.place = backdrops.from_above(rng, width, height)
            self.edge = 0.0
            self.tilt = float(rng.uniform(0, 38)) if rng.random() < 0.6 else 0.0
            self.view = "above" if self.tilt < 25 else "angle"

    def flat(
        self, thing: Image.Image, x: float, y: float, size: float, *, thickness: float = 0.012
    ) -> None:
        """Lay a thing down; its size is in shorter sides of the picture."""
        spin = self._spin + float(self.rng.normal(0, 12))
        if self.in_room:  # nobody puts a player with its back to the room
            spin = float(self.rng.normal(0, 16))
            size *= 0.85
            y = self.edge + (1 - self.edge) * min(1.0, max(0.15, y))
        self._lay(thing, x, y, size, Pose(spin=spin, tilt=self.tilt, thickness=thickness))

    def standing(self, thing: Image.Image, x: float, foot: float, size: float) -> None:
        """Stand a thing on its lower edge, or lean it on the wall; foot is where it ends."""
        height = size * self.side * thing.height / thing.width
        lean = Pose(spin=float(self.rng.normal(0, 2.5)), tilt=float(self.rng.uniform(0, 14)))
        self._lay(thing, x, foot - height / 2 / self.image.height, size, lean)

    def drawn_px(self, size: float) -> int:
        """Return how wide to draw a thing that will lie there in that size."""
        return round(min(_WIDEST_PX, _FINER * size * self.side))

    def put(self, name: str, x: float, y: float, size: float) -> None:
        """Put a lookalike where such a thing goes, and remember it."""
        thing = LOOKALIKES[name].make(self.rng, self.drawn_px(size))
        self.things.append(name)
        if not self.in_room or not LOOKALIKES[name].upright:
            self.flat(thing, x, y, size, thickness=0.02)
        elif name in _HUNG:
            self._lay(thing, x, y * self.edge, size, Pose(spin=float(self.rng.normal(0, 2))))
        else:
            foot = self.edge + (1 - self.edge) * float(self.rng.uniform(0.1, 0.45))
            self.standing(thing, x, foot, size)

    def clutter(self, most: int) -> None:
        """Put up to that many things round the edge of the picture."""
        for _ in range(int(self.rng.integers(0, most + 1))):
            x = float(
                self.rng.choice([self.rng.uniform(-0.02, 0.25), self.rng.uniform(0.75, 1.02)])
            )
            name = str(self.rng.choice(_CLUTTER))
            self.put(name, x, float(self.rng.uniform(0, 1)), float(self.rng.uniform(0.18, 0.36)))

    def hide_a_little(self) -> None:
        """At times, put something small in front, low in the picture and off its middle."""
        if self.rng.random() < 0.25:
            x = float(self.rng.choice([self.rng.uniform(0.1, 0.3), self.rng.uniform(0.7, 0.9)]))
            name = str(self.rng.choice(_SMALL))
            self.put(
                name, x, float(self.rng.uniform(0.8, 1.0)), float(self.rng.uniform(0.14, 0.24))
            )

    def middle(self, spread: float = 0.16) -> tuple[float, float]:
        """Return a place about the middle."""
        x, y = self.rng.uniform(0.5 - spread, 0.5 + spread, 2).tolist()
        return x, y

    def _lay(self, thing: Image.Image, x: float, y: float, size: float, pose: Pose) -> None:
        centre = (x * self.image.width, y * self.image.height)
        darkness = float(self.rng.uniform(0.3, 0.65))
        lay(self.image, thing, centre, size * self.side, pose, shadow=darkness)


def _records(stage: _Stage) -> Contents:
    rng = stage.rng
    stage.clutter(3)
    colour = gear.pick(rng, gear.RECORD_COLOURS, first=0.72)
    arrangement = str(rng.choice(["", "half out", "several"], p=[0.4, 0.35, 0.25]))
    x, y = stage.middle()
    if arrangement == "half out":
        size = float(rng.uniform(0.6, 1.05))
        thing = gear.record_in_sleeve(rng, stage.drawn_px(size), colour)
        _lay_or_lean(stage, thing, x, y, size)
    elif arrangement == "several":
        for _ in range(int(rng.integers(2, 5))):
            place = stage.middle(0.34)
            size = float(rng.uniform(0.36, 0.62))
            disc = gear.record(rng, stage.drawn_px(size), colour)
            stage.flat(disc, *place, size, thickness=0.01)
    else:
        if rng.random() < 0.3:
            size = float(rng.uniform(0.5, 0.7))
            cover = gear.sleeve(rng, stage.drawn_px(size))
            stage.things.append("sleeve")
            stage.flat(cover, x + float(rng.uniform(-0.3, 0.3)), y, size)
        size = float(rng.uniform(0.45, 1.1))
        disc = gear.record(rng, stage.drawn_px(size), colour)
        _lay_or_lean(stage, disc, x, y, size)
    stage.hide_a_little()
    return _contents(stage, "vinyl", arrangement=arrangement, record_colour=colour)


def _empty_turntable(stage: _Stage) -> Contents:
    rng = stage.rng
    stage.clutter(3)
    plinth = gear.pick(rng, gear.PLINTH_COLOURS)
    _set_turntable(stage, plinth, None, float(rng.uniform(0.6, 1.15)))
    stage.hide_a_little()
    return _contents(stage, "turntable", plinth_colour=plinth)


def _turntable_with_record(stage: _Stage) -> Contents:
    rng = stage.rng
    stage.clutter(2)
    plinth = gear.pick(rng, gear.PLINTH_COLOURS)
    colour = gear.pick(rng, gear.RECORD_COLOURS, first=0.72)
    if rng.random() < 0.68:
        arrangement = "on the platter"
        size = float(rng.uniform(0.62, 1.15))
        disc = gear.record(rng, stage.drawn_px(0.7 * size), colour)
        _set_turntable(stage, plinth, disc, size)
    else:
        arrangement = "beside"
        side = float(rng.choice([-1, 1]))
        _set_turntable(stage, plinth, None, float(rng.uniform(0.55, 0.75)), -0.2 * side)
        size = float(rng.uniform(0.36, 0.52))
        make = gear.record_in_sleeve if rng.random() < 0.4 else gear.record
        x, y = 0.5 + side * float(rng.uniform(0.22, 0.32)), float(rng.uniform(0.35, 0.8))
        stage.flat(make(rng, stage.drawn_px(size), colour), x, y, size)
    stage.hide_a_little()
    return _contents(
        stage,
        "turntable",
        "vinyl",
        arrangement=arrangement,
        record_colour=colour,
        plinth_colour=plinth,
    )


def _neither(stage: _Stage) -> Contents:
    rng = stage.rng
    names = [str(name) for name in rng.choice(list(LOOKALIKES), int(rng.integers(1, 4)), False)]
    stage.clutter(2)
    for at, name in reversed(list(enumerate(names))):
        spread = 0.14 if at == 0 else 0.36
        high = 0.95 if at == 0 else 0.5
        if LOOKALIKES[name].upright and stage.in_room:
            high = min(high, 0.6)
        stage.put(name, *stage.middle(spread), float(rng.uniform(0.32, high)))
    return _contents(stage, *reversed(stage.things))


_COMPOSERS = {
    "vinyl": _records,
    "turntable": _empty_turntable,
    "both": _turntable_with_record,
    "neither": _neither,
}


def _set_turntable(
    stage: _Stage, plinth: str, disc: Image.Image | None, size: float, aside: float = 0.0
) -> None:
    x, y = stage.middle(0.12)
    deck = gear.turntable(stage.rng, stage.drawn_px(size), plinth, disc)
    stage.flat(deck, x + aside, y, size, thickness=float(stage.rng.uniform(0.06, 0.14)))


def _lay_or_lean(stage: _Stage, thing: Image.Image, x: float, y: float, size: float) -> None:
    if stage.in_room and stage.rng.random() < 0.5:
        foot = stage.edge + (1 - stage.edge) * float(stage.rng.uniform(0.15, 0.5))
        stage.standing(thing, x, foot, size * 0.75)
    else:
        stage.flat(thing, x, y, size)


def _contents(
    stage: _Stage,
    *subjects: str,
    arrangement: str = "",
    record_colour: str = "",
    plinth_colour: str = "",
) -> Contents:
    """Return what is on the stage, each thing once, the subjects first."""
    return Contents(
        things=tuple(dict.fromkeys((*subjects, *stage.things))),
        arrangement=arrangement,
        record_colour=record_colour,
        plinth_colour=plinth_colour,
        place=stage.place,
        view=stage.view,
    )
