"""The head against scikit-learn's logistic regression, a Tip-Adapter-style cache and zero-shot.

All on the same stand-in embeddings of the photographs in CRATEDIG_SHARED; mean average precision in
points of 100, of which the head may lose half a one to the better of zero-shot and logistic
regression. Each set and number of shots gets 20 draws, or as many as its share of the time allows,
but two at least: `--minutes 60` for all of them everywhere.
"""

from __future__ import annotations

import argparse
import time
from statistics import fmean

from model.train import TrainConfig, fit
from tests.bench.photographs import SETS, PhotoSet, photo_set
from tests.bench.photographs.shots import (
    SHOTS,
    Method,
    draw,
    logistic_regression,
    mean_average_precision,
    tip_adapter,
    zero_shot,
)
from tests.bench.report import Row, write

FEWEST_DRAWS = 2

RIVALS: dict[str, Method] = {
    "zero-shot": zero_shot,
    "logistic regression": logistic_regression,
    "cache": tip_adapter,
}


def main() -> None:
    """Measure, print the table for model/NOTES.md, and write `.bench/few-shot.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=4.0, help="of all draws together")
    asked = parser.parse_args()
    seeds, share_s = asked.seeds, 60 * asked.minutes / (len(SETS) * len(SHOTS))
    rows = []
    print("| set | shots | pictures | draws | head | zero-shot | logistic regression | cache |")
    print("|---|---|---|---|---|---|---|---|")
    for name in SETS:
        photos = photo_set(name)
        smaller = 0
        for shots in SHOTS:
            pictures = round(fmean(len(draw(photos, shots, seed)[0]) for seed in range(seeds)))
            if pictures == smaller:
                continue  # the pool holds no more of any label
            smaller = pictures
            found, draws = measure(photos, shots, seeds, share_s)
            said = "all" if shots is None else str(shots)
            figures = " | ".join(f"{value:.1f}" for value in found.values())
            print(f"| {name} | {said} | {pictures} | {draws} | {figures} |", flush=True)
            better = max(found["zero-shot"], found["logistic regression"])
            rows.append(
                Row(
                    name=f"{name}, {said} shots, {draws} draws, less the better rival's {better:.1f}",
                    unit="mAP points",
                    value=found["head"] - better,
                    target=-0.5,
                )
            )
    write("few_shot", rows, runs=seeds, notes="means, not medians; stand-in embeddings, not CLIP's")


def measure(
    photos: PhotoSet, shots: int | None, seeds: int, within_s: float
) -> tuple[dict[str, float], int]:
    """Return the mean over the draws for the head and every rival, and how many draws there were."""
    found: dict[str, list[float]] = {name: [] for name in ("head", *RIVALS)}
    started = time.monotonic()
    for seed in range(seeds):
        if seed >= FEWEST_DRAWS and time.monotonic() - started > within_s:
            break
        train, test = draw(photos, shots, seed)
        head = fit(
            photos.embeddings[train],
            photos.targets[train],
            labels=photos.labels,
            encoder_id="standin",
            config=TrainConfig(seed=seed),
            text_LD=photos.text,
            groups=[photos.groups[row] for row in train],
        )
        scores = {"head": head.scores(photos.embeddings[test])}
        scores |= {name: method(photos, train, test) for name, method in RIVALS.items()}
        for each, score in scores.items():
            found[each].append(mean_average_precision(score, photos.targets[test]))
    return {name: fmean(values) for name, values in found.items()}, len(found["head"])


if __name__ == "__main__":
    main()
