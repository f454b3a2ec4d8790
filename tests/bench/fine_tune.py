"""What fine-tuning brings against the head alone, on the photographs in CRATEDIG_SHARED.

A third of each set is held out, kin never parted; of the rest, a sixth is watched and the others are
fitted on. Both heads are fitted on all of the rest, on the embeddings before and after. Mean average
precision on the held-out third, in points of 100; intervals of 95 % by a bootstrap over kin groups,
the same resamples for all draws. The stand-in encoder, whose image tower is convolutional, so
"last_blocks" alone. Not CLIP's figures. `--sets` and `--seeds` for more, `--epochs` for less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score

from model.clip_files import resolve
from model.data import grouped_folds
from model.encoder import EncoderConfig, load_encoder
from model.fine_tune import Pictures, fine_tune, prepared
from model.fine_tune_config import FineTuneConfig
from model.fine_tune_state import write_encoder
from model.preprocess import Preprocessing
from model.train import TrainConfig, fit
from tests.bench.photographs import PhotoSet, photo_files, photo_set
from tests.bench.photographs.shots import draw
from tests.bench.report import Row, shared_folder, write

_RESAMPLES = 300


def main() -> None:
    """Measure, print the table for model/NOTES.md, and write `.bench/fine-tune.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["turntable_vinyl"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=FineTuneConfig().epochs)
    parser.add_argument("--rate", type=float, default=None)
    given = parser.parse_args()
    encoder = EncoderConfig(checkpoint=shared_folder() / "weights" / "standin")
    preprocessing = load_encoder(encoder).preprocessing
    rows = []
    print("| set | draws | head alone | fine-tuned | difference | CPU s a draw |")
    print("|---|---|---|---|---|---|")
    for name in given.sets:
        photos = photo_set(name)
        plain_N, roomy_N = (
            _pixels(name, each) for each in (preprocessing, prepared(preprocessing))
        )
        tests: list[NDArray[np.intp]] = []
        before: list[NDArray[np.float32]] = []
        after: list[NDArray[np.float32]] = []
        spent: list[float] = []
        for seed in range(given.seeds):
            config = FineTuneConfig(epochs=given.epochs, learning_rate=given.rate, seed=seed)
            pool, test = draw(photos, None, seed)
            began = time.process_time()
            tuned_ND = _tuned(encoder, photos, plain_N, roomy_N, pool, config)
            spent.append(time.process_time() - began)
            tests.append(test)
            for scores, embeddings_ND in ((before, photos.embeddings), (after, tuned_ND)):
                scores.append(_scores(photos, embeddings_ND, pool, test, seed))
        head, tuned = (_interval(photos, tests, [each]) for each in (before, after))
        gain = _interval(photos, tests, [after, before])
        print(
            f"| {name} | {given.seeds} | {_said(head)} | {_said(tuned)} | {_said(gain)} | {fmean(spent):.0f} |",
            flush=True,
        )
        rows += [
            Row(name=f"{name}: {what}", unit="mAP points", value=found[0])
            for what, found in (
                ("head alone", head),
                ("fine-tuned", tuned),
                ("difference", gain),
                ("difference, lower end", gain[1:]),
                ("difference, upper end", gain[2:]),
            )
        ]
        rows.append(Row(name=f"{name}: a draw", unit="CPU s", value=fmean(spent)))
    write("fine_tune", rows, runs=given.seeds, notes="means, not medians; stand-in, not CLIP")


def _pixels(name: str, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    pictures = []
    for path in photo_files(name):
        with Image.open(path) as picture:
            pictures.append(preprocessing.pixels(picture.convert("RGB")))
    return np.stack(pictures)


def _tuned(
    encoder: EncoderConfig,
    photos: PhotoSet,
    plain_N: NDArray[np.uint8],
    roomy_N: NDArray[np.uint8],
    pool: NDArray[np.intp],
    config: FineTuneConfig,
) -> NDArray[np.float32]:
    """Return the embeddings (N, D) of an encoder that was fine-tuned on the pool."""
    groups = [photos.groups[row] for row in pool]
    fold = grouped_folds(photos.targets[pool], groups, folds=6, seed=config.seed)
    watched, fitted = pool[fold == 0], pool[fold != 0]
    head = fit(
        photos.embeddings[fitted],
        photos.targets[fitted],
        labels=photos.labels,
        encoder_id="standin",
        config=TrainConfig(seed=config.seed),
        text_LD=photos.text,
        groups=[photos.groups[row] for row in fitted],
    )
    with tempfile.TemporaryDirectory() as folder:
        result = fine_tune(
            encoder,
            Pictures(pixels=roomy_N[fitted], targets_NL=photos.targets[fitted]),
            Pictures(pixels=plain_N[watched], targets_NL=photos.targets[watched]),
            head,
            config,
            state=Path(folder) / "state",
        )
        print(f"    {result.looks[0]}; best {result.best}; {result.looks[-1].step} steps")
        write_encoder(result.model, resolve(encoder), Path(folder) / "tuned")
        tuned = load_encoder(EncoderConfig(checkpoint=Path(folder) / "tuned"))
        parts = [tuned.encode_pixels(plain_N[at : at + 8]) for at in range(0, len(plain_N), 8)]
    return np.concatenate(parts)


def _scores(
    photos: PhotoSet,
    embeddings_ND: NDArray[np.float32],
    pool: NDArray[np.intp],
    test: NDArray[np.intp],
    seed: int,
) -> NDArray[np.float32]:
    head = fit(
        embeddings_ND[pool],
        photos.targets[pool],
        labels=photos.labels,
        encoder_id="any",
        config=TrainConfig(seed=seed),
        text_LD=photos.text,
        groups=[photos.groups[row] for row in pool],
    )
    return head.scores(embeddings_ND[test])


def _interval(
    photos: PhotoSet,
    tests: Sequence[NDArray[np.intp]],
    scores: Sequence[Sequence[NDArray[np.float32]]],
) -> tuple[float, float, float]:
    """Return the mean over the draws, and the ends of its interval; of two scores, of the first less the second."""
    _, group_N = np.unique(photos.groups, return_inverse=True)
    groups = int(group_N.max()) + 1
    rng = np.random.default_rng(0)
    found = []
    for resample in range(_RESAMPLES + 1):
        chosen = rng.integers(groups, size=groups) if resample else np.arange(groups)
        weight_N = np.bincount(chosen, minlength=groups)[group_N].astype(float)
        each = [
            [
                _mean_average_precision(one, photos.targets[test], weight_N[test])
                for one, test in zip(method, tests, strict=True)
            ]
            for method in scores
        ]
        found.append(fmean(each[0]) - (fmean(each[1]) if len(each) > 1 else 0.0))
    low, high = np.percentile(found[1:], [2.5, 97.5])
    return found[0], float(low), float(high)


def _mean_average_precision(
    scores_NL: NDArray[np.float32], targets_NL: NDArray[np.float32], weight_N: NDArray[np.float64]
) -> float:
    drawn = weight_N > 0
    return 100 * fmean(
        float(
            average_precision_score(
                targets_N[drawn], scores_N[drawn], sample_weight=weight_N[drawn]
            )
        )
        for scores_N, targets_N in zip(scores_NL.T, targets_NL.T, strict=True)
        if targets_N[drawn].any()
    )


def _said(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.1f} [{found[1]:.1f}, {found[2]:.1f}]"


if __name__ == "__main__":
    main()
