"""How many answers `model.active.choose` saves: against asking about pictures in random order.

The photographs in CRATEDIG_SHARED, as the stand-in encoder sees them; the head of model/classifier,
fitted anew after every batch of answers, a batch a label: 4 answers, then about 1.3 times as many
each time. A third of each set, kin never parted, is for measuring. Needed are the answers a label
at which the mean average precision reaches 95 % of what all answers of the pool give, in the mean
over the draws. The rival
draws with the same seed and batches. `--seeds 3` for a quick look.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.active import choose
from model.classifier import FittingProblem
from model.train import DEFAULT_STRENGTH
from tests.bench.photographs import SETS, PhotoSet, photo_set
from tests.bench.photographs.shots import draw, mean_average_precision
from tests.bench.report import Row, cpu_seconds, write

SHARE = 0.95
FIRST = 4
GROWTH = 1.3
POOL, WIDTH, ASKED = 100_000, 512, 200
"""The size at which one call is timed."""

Asker = Callable[
    [NDArray[np.float32], NDArray[np.float64], NDArray[np.float32], int, int], list[int]
]
"""From the pool's embeddings, its scores, what is decided, a count and a seed to rows to ask."""


def by_choice(
    pool: NDArray[np.float32],
    scores: NDArray[np.float64],
    decided: NDArray[np.float32],
    count: int,
    seed: int,
) -> list[int]:
    """Ask as cratedig does."""
    picks = choose(pool, scores, decided_MD=decided, count=count, seed=seed)
    return [pick.index for pick in picks]


def at_random(
    pool: NDArray[np.float32],
    scores: NDArray[np.float64],
    decided: NDArray[np.float32],
    count: int,
    seed: int,
) -> list[int]:
    """Ask in an order that knows of nothing."""
    rng = np.random.default_rng([seed, len(decided)])
    return [int(row) for row in rng.permutation(len(pool))[:count]]


def learning_curve(photos: PhotoSet, seed: int, ask: Asker) -> list[tuple[int, float]]:
    """Return, after each batch, the answers a label so far and the share of the whole pool's mAP."""
    pool, test = draw(photos, None, seed)
    told = np.flatnonzero(photos.targets[test].any(0) & photos.targets[pool].any(0))
    asked = np.zeros((len(pool), len(photos.labels)), bool)
    scores = photos.zero_shot[pool].astype(np.float64)
    reached = [(0, mean_average_precision(photos.zero_shot[test], photos.targets[test]))]
    while reached[-1][0] < len(pool):
        before = reached[-1][0]
        size = min(len(pool), max(FIRST, before + 2, int(before * GROWTH)))
        for label in told:
            left, done = np.flatnonzero(~asked[:, label]), np.flatnonzero(asked[:, label])
            rows = ask(
                photos.embeddings[pool[left]],
                scores[left, label],
                photos.embeddings[pool[done]],
                size - len(done),
                seed * len(photos.labels) + int(label),
            )
            asked[left[rows], label] = True
        weight, bias = _fitted(photos, pool, asked)
        scores = expit(photos.embeddings[pool] @ weight.T + bias)
        shown = photos.embeddings[test] @ weight.T + bias
        reached.append((size, mean_average_precision(shown, photos.targets[test])))
    return [(size, value / reached[-1][1]) for size, value in reached]


def answers_needed(photos: PhotoSet, seeds: Sequence[int], ask: Asker) -> float:
    """Return the answers a label at which the mean over the draws reaches the share that is wanted.

    Of the mean, because a single curve is so uneven that it is often above by luck, for one batch.
    """
    curves = [learning_curve(photos, seed, ask) for seed in seeds]
    sizes = sorted({size for curve in curves for size, _ in curve})
    drawn = [
        np.interp(sizes, [size for size, _ in curve], [value for _, value in curve])
        for curve in curves
    ]
    mean = np.mean(drawn, axis=0)
    for (fewer, worse), (more, better) in itertools.pairwise(zip(sizes, mean, strict=True)):
        if better >= SHARE:
            return fewer + (more - fewer) * max(0.0, float((SHARE - worse) / (better - worse)))
    return sizes[-1]


def _fitted(
    photos: PhotoSet, pool: NDArray[np.intp], asked: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = np.flatnonzero(asked.any(1))
    targets = np.where(asked[rows], photos.targets[pool[rows]], np.nan).astype(np.float32)
    problem = FittingProblem.of(photos.embeddings[pool[rows]], targets, photos.text)
    return problem.solve_each([DEFAULT_STRENGTH] * len(photos.labels))


def seconds_a_call() -> float:
    """Return the CPU seconds of one call on a large pool."""
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(POOL, WIDTH)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    scores = rng.random(POOL)
    before = cpu_seconds()
    choose(pool, scores, decided_MD=pool[:5000], count=ASKED)
    return cpu_seconds() - before


def main() -> None:
    """Measure, print the table, and write `.bench/active.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    rows, shares = [], []
    for name in arguments.sets:
        photos = photo_set(name)
        ours, random = (answers_needed(photos, seeds, ask) for ask in (by_choice, at_random))
        if random == 0:  # the prompts alone are as good: there is nothing to save
            continue
        shares.append(100 * ours / random)
        rows += [
            Row(name=f"{name}, answers a label", unit="", value=ours, rival=random),
            Row(
                name=f"{name}, share of random's",
                unit="%",
                value=shares[-1],
                target=50,
                at_least=False,
            ),
        ]
        print(f"{name}: {ours:.1f} of {random:.1f}, {shares[-1]:.0f} %", flush=True)
    rows += [
        Row(
            name="mean share of random's", unit="%", value=fmean(shares), target=50, at_least=False
        ),
        Row(
            name=f"one call, {POOL:,} x {WIDTH}, {ASKED} picks, CPU",
            unit="s",
            value=seconds_a_call(),
            target=1,
            at_least=False,
        ),
    ]
    notes = (
        f"{SHARE:.0%} of the whole pool's mAP, of the mean curve; stand-in embeddings, not CLIP's"
    )
    write("active", rows, runs=arguments.seeds, notes=notes)


if __name__ == "__main__":
    main()
