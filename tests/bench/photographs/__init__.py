"""The real photographs as the stand-in encoder sees them, embedded once and kept under .bench/.

Not CLIP: these figures compare methods on the same embeddings, and say nothing of CLIP's own.
Shapes: N pictures, D embedding, L labels.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data import kin_groups
from model.encoder import EncoderConfig, encoder_id, load_encoder
from model.labels import LabelPrompt, Taxonomy
from model.prelabel import embed_prompts, prelabel
from tests.bench.report import FOLDER, shared_folder

SETS = (
    "turntable_vinyl",
    "fruit_multilabel",
    "playing_cards_multilabel",
    "clothing_small",
    "grocery",
    "hymenoptera",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSet:
    """One set: `embeddings` unit (N, D), `targets` 1 or 0 (N, L), kin `groups`, zero-shot scores.

    `text` (L, D) is what the zero-shot logit multiplies an embedding by.
    """

    name: str
    labels: tuple[str, ...]
    embeddings: NDArray[np.float32]
    targets: NDArray[np.float32]
    text: NDArray[np.float32]
    zero_shot: NDArray[np.float32]
    groups: tuple[str, ...]


def photo_files(name: str) -> list[Path]:
    """Return the pictures of the set `name`, in the order of its rows."""
    folder = shared_folder() / "data" / name
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return sorted(folder / "images" / row["filename"] for row in csv.DictReader(file))


def photo_set(name: str) -> PhotoSet:
    """Return the set `name` of `SETS`, embedded now if it is for the first time."""
    folder = shared_folder() / "data" / name
    config = EncoderConfig(checkpoint=shared_folder() / "weights" / "standin")
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        truth = {
            row["filename"]: set(filter(None, row["labels"].split(";")))
            for row in csv.DictReader(file)
        }
    files = sorted(truth)
    labels = tuple(sorted(set().union(*truth.values())))
    kept = FOLDER / "embeddings" / f"{name}-{encoder_id(config)}.npz"
    if not kept.exists():
        _embed(kept, config, folder / "images", files, labels)
    with np.load(kept, allow_pickle=False) as arrays:
        embeddings, text, zero_shot = (arrays[key] for key in ("embeddings", "text", "zero_shot"))
    targets = np.array([[label in truth[file] for label in labels] for file in files], np.float32)
    kin = kin_groups(files, embeddings, {})
    return PhotoSet(
        name=name,
        labels=labels,
        embeddings=embeddings,
        targets=targets,
        text=text,
        zero_shot=zero_shot,
        groups=tuple(kin[file] for file in files),
    )


def _embed(
    kept: Path, config: EncoderConfig, folder: Path, files: list[str], labels: tuple[str, ...]
) -> None:
    encoder = load_encoder(config)
    rows = []
    for start in range(0, len(files), 32):
        pictures = []
        for file in files[start : start + 32]:
            with Image.open(folder / file) as picture:
                pictures.append(picture.convert("RGB"))
        rows.append(encoder.encode_images(pictures))
    embeddings = np.concatenate(rows)
    asked = Taxonomy(
        labels=tuple(
            LabelPrompt(label=label, prompts=(f"a photo of a {label.replace('-', ' ').lower()}",))
            for label in labels
        )
    )
    prompts = embed_prompts(encoder, asked)
    kept.parent.mkdir(parents=True, exist_ok=True)
    half = kept.with_suffix(".half.npz")
    np.savez(
        half,
        embeddings=embeddings,
        text=prompts.logit_scale * (prompts.positive_LD - prompts.negative_LD),
        zero_shot=prelabel(embeddings, prompts, encoder_id=encoder.id),
    )
    half.replace(kept)
