"""Embeddings as an encoder might give them, of pictures that do not exist: quick, and seeded."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from model.data import Example, Snapshot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Unit embeddings (N, D), their targets (N, L), and the text embeddings (L, D)."""

    embeddings: NDArray[np.float32]
    targets: NDArray[np.float32]
    text: NDArray[np.float32]


def draw_pictures(
    number: int, labels: int = 2, *, dim: int = 48, signal: float = 0.9, seed: int = 0
) -> Pictures:
    """Draw pictures of which each label fits about a third.

    A label moves a picture by `signal`, against noise of length 2 in all directions together: along
    the label's own direction that is signal * sqrt(dim) / 2 standard deviations.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(labels, dim)) / np.sqrt(dim)
    targets = rng.random((number, labels)) < 1 / 3
    raw = rng.normal(size=(number, dim)) / np.sqrt(dim) * 2 + signal * targets @ directions
    text = directions + 0.5 * rng.normal(size=directions.shape) / np.sqrt(dim)
    return Pictures(embeddings=_unit(raw), targets=targets.astype(np.float32), text=_unit(text))


def snapshot_of(targets: NDArray[np.float32], *, kin: int = 1, seed: int = 0) -> Snapshot:
    """Freeze targets (nan unreviewed) as a snapshot; `kin` neighbouring rows are one group."""
    labels = tuple(f"label{column}" for column in range(targets.shape[1]))
    return Snapshot(
        labels=labels,
        examples=tuple(
            Example(
                sha256=f"{row:06d}" + hashlib.sha256(str(row).encode()).hexdigest()[6:],
                group=f"group{row // kin}",
                answers={
                    label: bool(target)
                    for label, target in zip(labels, answers, strict=True)
                    if not np.isnan(target)
                },
            )
            for row, answers in enumerate(targets)
        ),
        encoder_id="synthetic",
        table_versions={"decisions": 3},
        seed=seed,
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit
