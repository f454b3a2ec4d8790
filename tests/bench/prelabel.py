"""How well calibrated pre-labels are after so many decisions, on real photographs.

With the stand-in weights and two plain prompts a label, on each set of ../shared/data: decisions are
drawn at random, the calibration is fitted on them, and the error is measured on all others. The
figure is the expected calibration error over 10 bins, all labels and draws of a set together (one
draw alone has too few pictures: even perfect probabilities would show 0.06 to 0.1). The stand-in is
not CLIP, and these are not CLIP's figures.

The constants of `model/calibration.py` were set while looking at TUNED_ON; the other sets were not
looked at.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.calibration import expected_calibration_error, fit_calibration
from model.encoder import ClipEncoder, EncoderConfig, load_encoder
from model.labels import LabelPrompt, Taxonomy
from model.prelabel import embed_prompts, margins, prior_calibrations
from tests.bench.report import FOLDER, Row, shared_folder, write

TUNED_ON = ("turntable_vinyl", "fruit_multilabel", "hymenoptera")
SETS = (*TUNED_ON, "clothing_small", "playing_cards_multilabel")
DECISIONS = (0, 10, 20, 50, 100)
TARGET_DECISIONS = 50
TARGET = 0.05
DRAWS = 12


def main() -> None:
    """Measure, print the table and write `.bench/prelabel.json`."""
    shared = shared_folder()
    encoder = load_encoder(
        EncoderConfig(
            checkpoint=shared / "weights" / "standin", backend="onnx", cache=FOLDER / "encode"
        )
    )
    rows = []
    for name in SETS:
        curve = _curve(encoder, shared / "data" / name)
        rows += [
            Row(
                name=f"{name}, {count} decisions a label",
                unit="ECE",
                value=error,
                target=TARGET if count == TARGET_DECISIONS else None,
                at_least=False,
            )
            for count, error in curve.items()
        ]
    write(
        "prelabel",
        rows,
        runs=DRAWS,
        notes=f"stand-in weights, not CLIP; constants set on {', '.join(TUNED_ON)}",
    )


def _curve(encoder: ClipEncoder, folder: Path) -> dict[int, float]:
    with (folder / "labels.csv").open(newline="") as file:
        files = {row["filename"]: row["labels"].split(";") for row in csv.DictReader(file)}
    embeddings_ND = np.concatenate([_embedded(encoder, folder / "images" / name) for name in files])
    labels = sorted({label for each in files.values() for label in each if label})
    truth_NL = np.array([[label in each for label in labels] for each in files.values()])
    taxonomy = Taxonomy(
        labels=tuple(
            LabelPrompt(label=label, prompts=(f"a photo of a {_word(label)}", _word(label)))
            for label in labels
        )
    )
    prompts = embed_prompts(encoder, taxonomy)
    margin_NL = margins(embeddings_ND, prompts, encoder_id=encoder.id)
    random = np.random.default_rng(0)
    found = {}
    for count in DECISIONS:
        scores: list[NDArray[np.float32]] = []
        answers: list[NDArray[np.bool_]] = []
        for _ in range(DRAWS):
            order = random.permutation(len(truth_NL))
            decided, held_out = order[:count], order[count:]
            for column, prior in enumerate(prior_calibrations(prompts)):
                margin_N, yes_N = margin_NL[:, column], truth_NL[:, column]
                fitted = fit_calibration(prior, margin_N, margin_N[decided], yes_N[decided])
                scores.append(fitted.probabilities(margin_N[held_out]))
                answers.append(yes_N[held_out])
        found[count] = expected_calibration_error(np.concatenate(scores), np.concatenate(answers))
    return found


def _embedded(encoder: ClipEncoder, path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        return encoder.encode_images([image.convert("RGB")])


def _word(label: str) -> str:
    return label.removesuffix("s").replace("-", " ").replace("_", " ")


if __name__ == "__main__":
    main()
