"""Which backend an encoder should run on, measured on the machine and the pictures at hand.

Shapes: N images, L labels, D embedding; H, W, C height, width, channels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.clip_files import Backend, EncoderConfig, EncoderUnavailable
from model.encoder import ClipEncoder, load_encoder
from model.labels import Taxonomy
from model.prelabel import embed_prompts, prelabel

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)

LEAST_COSINE = 0.99
"""Mean cosine between a backend's vectors and the reference's that still counts as agreeing."""

MOST_FLIPPED = 0.005
"""Share of pre-labels that may be on another side of 0.5 than the reference's."""

_MEASURE_S = 1.0
_CALIBRATION_IMAGES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One backend, tried: how fast, how like the reference, and why not if it cannot be taken."""

    backend: Backend
    calibrated: bool
    encoder_id: str = ""
    images_per_s: float = 0.0
    cosine: float = 0.0
    """Mean over the pictures."""
    flipped: float = 1.0
    """Share of (picture, label) on another side of 0.5."""
    refused: str = ""

    @property
    def agrees(self) -> bool:
        """Whether its vectors may stand in for the reference's."""
        return not self.refused and self.cosine >= LEAST_COSINE and self.flipped <= MOST_FLIPPED

    def __str__(self) -> str:
        """Return a line for the log."""
        name = f"{self.backend}, calibrated" if self.calibrated else self.backend
        if self.refused:
            return f"{name}: not to be had here ({self.refused})"
        verdict = "agrees" if self.agrees else "does not agree"
        return (
            f"{name}: {self.images_per_s:.1f} images/s, cosine {self.cosine:.4f}, "
            f"{self.flipped:.2%} of pre-labels flipped, {verdict}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and everything that was tried."""

    config: EncoderConfig
    encoder_id: str
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        """Return what was chosen and why, in a line."""
        tried = "; ".join(map(str, self.trials))
        return f"backend {self.config.backend} is the fastest that agrees with torch ({tried})"


def choose_backend(
    config: EncoderConfig,
    images: Sequence[Image.Image],
    taxonomy: Taxonomy,
    *,
    only_id: str | None = None,
) -> Choice:
    """Return `config` with the fastest backend that agrees with the reference on `images`.

    Agreeing is a mean cosine of LEAST_COSINE or more and at most MOST_FLIPPED of the pre-labels for
    `taxonomy` on the other side of 0.5; `images` should be some dozens of the project's own, and
    there must be one at least. Encoding takes about a second for all backends together; exporting,
    the first time, some tens of them. With `only_id`, only backends with that encoder id are
    looked at: for a project that has vectors already.

    Calibration pictures of the choice lie in `config.cache`. What was tried is logged. Raises
    EncoderUnavailable as `load_encoder` does for the reference, and when nothing has `only_id`.
    """
    reference = load_encoder(dataclasses.replace(config, backend="torch", calibration=None))
    pixels_NHWC = np.stack([reference.preprocessing.pixels(image) for image in images])
    vectors_ND = _encoded(reference, pixels_NHWC)
    # The text tower is the same for all.
    prompts = embed_prompts(reference, taxonomy)
    answers_NL = prelabel(vectors_ND, prompts, encoder_id=reference.id) >= 0.5
    found: list[tuple[Trial, EncoderConfig]] = []
    for candidate in _candidates(config, pixels_NHWC[:_CALIBRATION_IMAGES]):
        try:
            encoder = load_encoder(candidate)
            if only_id is not None and encoder.id != only_id:
                continue
            theirs_ND = _encoded(encoder, pixels_NHWC)
            theirs_NL = prelabel(theirs_ND, prompts, encoder_id=reference.id) >= 0.5
            trial = Trial(
                backend=candidate.backend,
                calibrated=candidate.calibration is not None,
                encoder_id=encoder.id,
                images_per_s=_rate(encoder, pixels_NHWC),
                cosine=float((theirs_ND * vectors_ND).sum(axis=1).mean()),
                flipped=float((theirs_NL != answers_NL).mean()),
            )
        except EncoderUnavailable as error:
            trial = Trial(
                backend=candidate.backend,
                calibrated=candidate.calibration is not None,
                refused=str(error),
            )
        found.append((trial, candidate))
    agreeing = [each for each in found if each[0].agrees]
    if not agreeing:
        raise EncoderUnavailable(
            f"the project has vectors of {only_id}, and no backend here makes such: "
            "take the same checkpoint, backend and calibration as before"
        )
    best, chosen = max(agreeing, key=lambda each: each[0].images_per_s)
    choice = Choice(
        config=chosen, encoder_id=best.encoder_id, trials=tuple(trial for trial, _ in found)
    )
    _log.info("%s", choice)
    return choice


def _candidates(config: EncoderConfig, pixels_NHWC: NDArray[np.uint8]) -> list[EncoderConfig]:
    import torch

    calibration = _kept(pixels_NHWC, config.cache)
    plain: list[Backend] = ["torch", "onnx", "onnx-int8"]
    if torch.cuda.is_available():
        plain.append("torch-bf16")
    candidates = [
        dataclasses.replace(config, backend=backend, calibration=None) for backend in plain
    ]
    return [*candidates, dataclasses.replace(config, backend="onnx-int8", calibration=calibration)]


def _kept(pixels_NHWC: NDArray[np.uint8], cache: Path) -> Path:
    """Write calibration pictures to a file that is named for what is in it."""
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(pixels_NHWC.tobytes()).hexdigest()[:12]
    path = cache / f"calibration-{digest}.npy"
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
        np.save(file, pixels_NHWC)
    Path(file.name).replace(path)
    return path


def _encoded(encoder: ClipEncoder, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    size = encoder.batch_size
    starts = range(0, len(pixels_NHWC), size)
    return np.concatenate([encoder.encode_pixels(pixels_NHWC[at : at + size]) for at in starts])


def _rate(encoder: ClipEncoder, pixels_NHWC: NDArray[np.uint8]) -> float:
    """Return images a second of the best batch: what else the machine does only makes it slower."""
    batch = pixels_NHWC[: encoder.batch_size]
    best_s = float("inf")
    until = time.monotonic() + _MEASURE_S / 4
    while best_s == float("inf") or time.monotonic() < until:
        started = time.perf_counter()
        encoder.encode_pixels(batch)
        best_s = min(best_s, time.perf_counter() - started)
    return len(batch) / best_s
