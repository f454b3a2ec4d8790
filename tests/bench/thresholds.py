"""What thresholds chosen out of fold bring over a flat 0.5, on photographs thinned to imbalance.

Each label is a question of its own. Of its yes only so many are kept that they are 12 % of the
pictures, on both sides: two thirds train the head and choose its threshold, the last third, which
neither has seen, shows the F1 at that threshold and at 0.5. The figure is the mean over the labels
of a set and the draws. Sets whose labels are rare as they are stay as they are. Stand-in
embeddings, not CLIP's. `--seeds 3` for a quick look.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from model.data import Example, Snapshot, grouped_folds
from model.train import TrainConfig, train
from tests.bench.photographs import PhotoSet, photo_set
from tests.bench.report import Row, write

SHARE = 0.12
SETS = ("turntable_vinyl", "fruit_multilabel", "playing_cards_multilabel", "clothing_small")


def main() -> None:
    """Measure, print the table and write `.bench/thresholds.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = parser.parse_args().seeds
    rows, every = [], []
    for name in SETS:
        photos = photo_set(name)
        gains = [gain(photos, seed) for seed in range(seeds)]
        every += gains
        rows.append(
            Row(name=f"{name}, macro F1 over 0.5", unit="", value=fmean(gains), target=-0.01)
        )
    rows.append(Row(name="all sets, macro F1 over 0.5", unit="", value=fmean(every), target=0.03))
    write("thresholds", rows, runs=seeds, notes="means, not medians; stand-in embeddings")


def gain(photos: PhotoSet, seed: int) -> float:
    """Return the mean over the labels of F1 at the chosen threshold less F1 at 0.5."""
    test_N = grouped_folds(photos.targets, photos.groups, folds=3, seed=seed) == 0
    random = np.random.default_rng(seed)
    gains = []
    for column, label in enumerate(photos.labels):
        target_N = photos.targets[:, column]
        pool, test = (_thinned(part_N, target_N, random) for part_N in (~test_N, test_N))
        snapshot = Snapshot(
            labels=(label,),
            examples=tuple(
                Example(
                    sha256=f"{row:06d}",
                    group=photos.groups[row],
                    answers={label: bool(target_N[row])},
                )
                for row in pool
            ),
            encoder_id="standin",
            table_versions={},
            seed=seed,
        )
        head = train(
            snapshot,
            photos.embeddings[pool],
            config=TrainConfig(resamples=100),
            text_LD=photos.text[column : column + 1],
        ).head
        scores_N = head.scores(photos.embeddings[test])[:, 0]
        at_chosen, at_half = (
            _f1(scores_N >= threshold, target_N[test] == 1)
            for threshold in (head.thresholds_L[0], 0.5)
        )
        gains.append(at_chosen - at_half)
    return fmean(gains)


def _thinned(
    part_N: NDArray[np.bool_], target_N: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.intp]:
    """Return the rows of a part, with no more yes than make up `SHARE` of them, but three."""
    yes, no = (np.flatnonzero(part_N & (target_N == answer)) for answer in (1, 0))
    most = max(3, round(SHARE / (1 - SHARE) * len(no)))
    return np.sort(np.concatenate([random.permutation(yes)[:most], no]))


def _f1(yes_N: NDArray[np.bool_], positive_N: NDArray[np.bool_]) -> float:
    counted = int(yes_N.sum() + positive_N.sum())
    return 2 * int((yes_N & positive_N).sum()) / counted if counted else 0.0


if __name__ == "__main__":
    main()
