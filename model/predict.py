"""Answers of a trained head for pictures, one at a time.

Shapes: N images, D embedding, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.classifier import MultiLabelHead

_BATCH = 4096  # pictures scored at once: 8 MiB of embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What model `version` says of one picture: a score in [0, 1] and an answer for every label."""

    sha256: str
    scores: Mapping[str, float]
    answers: Mapping[str, bool]
    version: str


def predict(
    head: MultiLabelHead,
    version: str,
    sha256s: Sequence[str],
    embeddings_ND: NDArray[np.float32],
) -> Iterator[Prediction]:
    """Yield the prediction of every image, in order; row n of the embeddings is image n.

    An answer is yes where the score reaches the label's threshold. ValueError is raised, before
    the first, when the rows are not as many as the images or not of the head's width.
    """
    if len(sha256s) != len(embeddings_ND):
        raise ValueError(f"{len(sha256s)} images come with {len(embeddings_ND)} embeddings")
    head.scores(embeddings_ND[:0])  # refuses another encoder's width
    return _predictions(head, version, sha256s, embeddings_ND)


def _predictions(
    head: MultiLabelHead,
    version: str,
    sha256s: Sequence[str],
    embeddings_ND: NDArray[np.float32],
) -> Iterator[Prediction]:
    for start in range(0, len(sha256s), _BATCH):
        scores_NL = head.scores(embeddings_ND[start : start + _BATCH])
        answers_NL = scores_NL >= head.thresholds_L
        rows = zip(sha256s[start:], scores_NL.tolist(), answers_NL.tolist(), strict=False)
        for sha256, scores, answers in rows:
            yield Prediction(
                sha256=sha256,
                scores=dict(zip(head.labels, scores, strict=True)),
                answers=dict(zip(head.labels, answers, strict=True)),
                version=version,
            )
