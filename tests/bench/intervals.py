"""How often 95 % intervals hold the truth: samples of pictures whose population is known.

Scores are those of two normal classes in log odds, overconfident twofold; kin settings draw every
picture with a copy that is nearly itself. `--trials 100` for a quick look.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.metrics import LabelMetrics, evaluate
from tests.bench.report import Row, write

MEASURES = ("precision", "recall", "f1", "average_precision", "roc_auc", "calibration_error")
CONFIDENCE = 2.0
"""Log odds are so many times too large: at 1 the calibration error is 0, the end of its range."""

SETTINGS = (
    # pictures, share of yes, d', kin of each
    (60, 0.5, 2.0, 1),
    (80, 0.3, 2.0, 1),
    (200, 0.1, 2.5, 1),
    (400, 0.3, 1.5, 1),
    (160, 0.3, 2.0, 2),
)


def sample(
    rng: np.random.Generator, number: int, share: float, separation: float, kin: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Draw scores (N, 1), targets (N, 1) and the group of each."""
    target = np.repeat(rng.random(number // kin) < share, kin)
    noise = np.repeat(rng.normal(size=number // kin), kin) * 0.95 + 0.3 * rng.normal(size=number)
    noise = noise / np.hypot(0.95, 0.3)
    odds = CONFIDENCE * separation * (separation * (target - 0.5) + noise)
    groups = [str(row // kin) for row in range(number)]
    return expit(odds)[:, None], target[:, None].astype(float), groups


def measure(
    rng: np.random.Generator, number: int, share: float, separation: float, kin: int, resamples: int
) -> LabelMetrics:
    """Return the measures of one sample at a threshold of 0.6."""
    scores, targets, groups = sample(rng, number, share, separation, kin)
    evaluation = evaluate(
        scores, targets, 0.6, labels=["a"], groups=groups, seed=0, resamples=resamples
    )
    return evaluation.labels[0]


def coverage(setting: tuple[int, float, float, int], trials: int) -> dict[str, float]:
    """Return the share of trials in percent whose interval holds the population's value."""
    _, *kind = setting
    share, separation, kin = kind[0], kind[1], int(kind[2])
    truth = measure(np.random.default_rng(0), 200_000, share, separation, kin, 1)
    inside = dict.fromkeys(MEASURES, 0)
    for trial in range(trials):
        found = measure(np.random.default_rng(trial + 1), setting[0], share, separation, kin, 300)
        for name in MEASURES:
            interval = getattr(found, name)
            inside[name] += interval.low <= getattr(truth, name).value <= interval.high
    return {name: 100 * count / trials for name, count in inside.items()}


def main() -> None:
    """Measure, print the table, and write `.bench/intervals.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    rows = []
    for setting in SETTINGS:
        number, share, separation, kin = setting
        for name, value in coverage(setting, trials).items():
            said = f"{name}, {number} pictures, {share:.0%} yes, d' {separation}, kin {kin}"
            rows.append(Row(name=said, unit="%", value=value, target=93))
            rows.append(Row(name=said, unit="%", value=value, target=97, at_least=False))
    write("intervals", rows, runs=trials, notes="coverage of 95 % intervals; target 93 to 97")


if __name__ == "__main__":
    main()
