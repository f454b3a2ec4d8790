"""How often drift is seen where there is none, and where there is: on photographs' embeddings.

The pictures of `clothing_small`, as the stand-in encoder sees them, drawn with replacement and
blurred a little so that no two are the same; n of them a side. False alarms: both sides are drawn
alike. Power: a share of the new side comes from `playing_cards_multilabel` instead. A level of 5 %.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from model.drift import mmd
from tests.bench.photographs import photo_set
from tests.bench.report import Row, cpu_seconds, write

LEVEL = 0.05
FOREIGN = 0.1
"""The share of the new pictures that are of another kind."""
LARGE = 500
"""A side: as many as nights compare, unless project.toml says otherwise."""
BLUR = 0.3


def drawn(
    rng: np.random.Generator, pictures: NDArray[np.float32], number: int
) -> NDArray[np.float32]:
    """Return unit rows drawn from the pictures, each turned a little its own way."""
    rows = pictures[rng.integers(len(pictures), size=number)]
    noise = rng.normal(size=rows.shape) * BLUR / np.sqrt(rows.shape[1])
    rows = rows + noise.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def alarms(trials: int, number: int, foreign: float) -> float:
    """Return the share of trials in percent in which drift is seen."""
    home, away = (
        photo_set(name).embeddings for name in ("clothing_small", "playing_cards_multilabel")
    )
    seen = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        others = round(foreign * number)
        now = np.concatenate([drawn(rng, home, number - others), drawn(rng, away, others)])
        seen += mmd(now, drawn(rng, home, number), seed=trial, permutations=200).p <= LEVEL
    return 100 * seen / trials


def main() -> None:
    """Measure, print the table, and write `.bench/drift.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--number", type=int, default=100)
    arguments = parser.parse_args()
    number = arguments.number
    false = alarms(arguments.trials, number, 0.0)
    trials = max(arguments.trials // 5, 1)
    small, power = (alarms(trials, each, FOREIGN) for each in (number, LARGE))
    rng = np.random.default_rng(0)
    home = photo_set("clothing_small").embeddings
    sides = drawn(rng, home, LARGE), drawn(rng, home, LARGE)
    before = cpu_seconds()
    mmd(*sides)
    seconds = cpu_seconds() - before
    name = f"false alarms, {number} a side"
    rows = [
        Row(name=name, unit="%", value=false, target=3),
        Row(name=name, unit="%", value=false, target=7, at_least=False),
        Row(name=f"power, {FOREIGN:.0%} of {number} are foreign", unit="%", value=small),
        Row(name=f"power, {FOREIGN:.0%} of {LARGE} are foreign", unit="%", value=power, target=90),
        Row(name=f"one test, n = {LARGE}, CPU", unit="s", value=seconds, target=2, at_least=False),
    ]
    write("drift", rows, runs=arguments.trials, notes="stand-in embeddings, not CLIP's")


if __name__ == "__main__":
    main()
