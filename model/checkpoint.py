"""A trained model as files: weights in safetensors, its card and its out-of-fold scores in JSON.

The same model gives the same bytes: there is no clock in any of the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from model.card import CheckpointInvalid, ModelCard
from model.classifier import MultiLabelHead

FORMAT = 1
"""Raised when files change in a way that an older reader would misread."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A head, its card, and what it said of each picture while that picture was held out.

    `sha256s` are the pictures that were held out at some time: of many, a part. Row n of
    `out_of_fold_NL` (scores in [0, 1]) is image `sha256s[n]`; the score is the mean over
    the repeats. Its fold is `fold_N[n]`, and `fold_thresholds_FL` has the thresholds that were
    chosen without that fold.
    """

    head: MultiLabelHead
    card: ModelCard
    sha256s: tuple[str, ...]
    out_of_fold_NL: NDArray[np.float32]
    fold_N: NDArray[np.int64]
    fold_thresholds_FL: NDArray[np.float32]

    @property
    def out_of_fold_thresholds_NL(self) -> NDArray[np.float32]:  # noqa: N802 - shape suffix
        """The thresholds to judge each out-of-fold score by: none was chosen on its own picture."""
        return self.fold_thresholds_FL[self.fold_N]


def head_bytes(head: MultiLabelHead) -> bytes:
    """Return the head as safetensors; the same head gives the same bytes."""
    # safetensors writes metadata in the order of a hash table: one entry, so that there is no order.
    about = {"format": FORMAT, "labels": head.labels, "encoder_id": head.encoder_id}
    tensors = {"weight": head.weight_LD, "bias": head.bias_L, "thresholds": head.thresholds_L}
    return save(
        {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()},
        metadata={"cratedig": json.dumps(about)},
    )


def model_version(
    head: MultiLabelHead, snapshot_id: str, settings: Mapping[str, str | int | float]
) -> str:
    """Return 12 hex digits: same snapshot, seed and settings, same weights, same version."""
    asked = json.dumps([snapshot_id, dict(settings)], sort_keys=True)
    return hashlib.sha256(head_bytes(head) + asked.encode()).hexdigest()[:12]


def to_files(model: TrainedModel) -> dict[str, bytes]:
    """Return the model as named files: head.safetensors, card.json, out_of_fold.json."""
    out_of_fold = {
        "sha256s": model.sha256s,
        "scores": _decimals(model.out_of_fold_NL),
        "folds": model.fold_N.tolist(),
        "fold_thresholds": _decimals(model.fold_thresholds_FL),
    }
    return {
        "head.safetensors": head_bytes(model.head),
        "card.json": model.card.to_json().encode(),
        "out_of_fold.json": json.dumps(out_of_fold, separators=(",", ":")).encode(),
    }


def from_files(files: Mapping[str, bytes]) -> TrainedModel:
    """Return the model that `to_files` wrote.

    CheckpointInvalid is raised when a file is missing or damaged, or belongs to another model.
    """
    for name in ("head.safetensors", "card.json", "out_of_fold.json"):
        if name not in files:
            raise CheckpointInvalid(f"{name} is missing: the model was not copied whole")
    card = ModelCard.from_json(files["card.json"].decode(errors="replace"))
    head = _read_head(files["head.safetensors"])
    if model_version(head, card.snapshot_id, card.settings) != card.version:
        raise CheckpointInvalid(
            f"head.safetensors is not the head of version {card.version}: "
            "it was changed, or copied from another model"
        )
    try:
        fields = json.loads(files["out_of_fold.json"])
        return TrainedModel(
            head=head,
            card=card,
            sha256s=tuple(fields["sha256s"]),
            out_of_fold_NL=np.array(fields["scores"], np.float32),
            fold_N=np.array(fields["folds"], np.int64),
            fold_thresholds_FL=np.array(fields["fold_thresholds"], np.float32),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointInvalid(f"out_of_fold.json is damaged: {error}") from error


def _read_head(data: bytes) -> MultiLabelHead:
    try:
        tensors = load(data)
        # The format: eight bytes of length, little-endian, then that much JSON. safetensors gives
        # its metadata only of files on disk.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["cratedig"])
        if about["format"] != FORMAT:
            raise CheckpointInvalid(
                f"head.safetensors has format {about['format']}, and this version of cratedig "
                f"reads format {FORMAT}: read it with the version that wrote it, or train again"
            )
        return MultiLabelHead(
            labels=tuple(about["labels"]),
            weight_LD=tensors["weight"],
            bias_L=tensors["bias"],
            thresholds_L=tensors["thresholds"],
            encoder_id=about["encoder_id"],
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointInvalid(f"head.safetensors is damaged: {error!r}") from error


def _decimals(array: NDArray[np.float32]) -> list[list[float]]:
    """Return the shortest decimals that read back as the same float32."""
    decimals: list[list[float]] = array.astype(str).astype(np.float64).tolist()
    return decimals
