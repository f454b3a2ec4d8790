"""What CLIP says about each label before anyone has looked: one yes/no question a label.

    score = sigmoid(scale * (cos(image, positive) - cos(image, negative)) + offset)

`positive` is the mean of the label's prompts, `negative` the mean of what it is asked against, both
made unit again, as in CLIP's own zero-shot classifier (Radford et al. 2021, section 3.1.4). With
offset 0 and the model's own scale that is exactly CLIP's softmax over the two answers, so labels do
not compete, and a new one changes no other label's scores.

Two priors stand in for what nobody has measured yet on the user's pictures. `scale` is the factor
that the model was trained with. `offset` is the log odds that a picture has the label: even (0) when
the user wrote what to ask against, since those prompts draw the line; ONE_IN_TEN against the generic
background, because almost any concrete noun fits a picture a little better than "a photo" does, and
because most crawled pictures lack any given label. Until pictures are reviewed, scores rank; from
then on the decisions themselves fit scale and offset (`model.calibration`), on stored embeddings.

Shapes: N images, L labels, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.calibration import Calibration
from model.encoder import ClipEncoder, EncoderMismatch
from model.labels import Taxonomy

# What a label without `against` is asked against: a picture, and nothing said about what is on it.
BACKGROUND_PROMPTS = ("a photo", "a photograph", "a picture", "an image")
ONE_IN_TEN = math.log(1 / 9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptEmbeddings:
    """The prompts of a taxonomy as an encoder sees them; rows of unit vectors in label order.

    `positive_LD` and `negative_LD` are float32; `offset_L` float32 holds each label's prior log
    odds; `logit_scale` is the encoder's.
    """

    taxonomy_id: str
    encoder_id: str
    labels: tuple[str, ...]
    positive_LD: NDArray[np.float32]
    negative_LD: NDArray[np.float32]
    offset_L: NDArray[np.float32]
    logit_scale: float

    @property
    def zero_shot_LD(self) -> NDArray[np.float32]:  # noqa: N802 - shape suffix
        """What the logit of each label multiplies an image's embedding by, before its offset."""
        return np.float32(self.logit_scale) * (self.positive_LD - self.negative_LD)


def embed_prompts(encoder: ClipEncoder, taxonomy: Taxonomy) -> PromptEmbeddings:
    """Return the prompts of `taxonomy` embedded by `encoder`."""
    background_D = _mean_direction(encoder, BACKGROUND_PROMPTS)
    return PromptEmbeddings(
        taxonomy_id=taxonomy.id,
        encoder_id=encoder.id,
        labels=taxonomy.names,
        positive_LD=np.stack([_mean_direction(encoder, label.texts) for label in taxonomy.labels]),
        negative_LD=np.stack(
            [
                _mean_direction(encoder, label.against) if label.against else background_D
                for label in taxonomy.labels
            ]
        ),
        offset_L=np.array(
            [0.0 if label.against else ONE_IN_TEN for label in taxonomy.labels], dtype=np.float32
        ),
        logit_scale=encoder.logit_scale,
    )


def margins(
    embeddings_ND: NDArray[np.float32], prompts: PromptEmbeddings, *, encoder_id: str
) -> NDArray[np.float64]:
    """Return how much nearer each picture is to what a label is than to what it is not.

    float64 (N, L), in units of `logit_scale`, columns in the order of `prompts.labels`.
    `embeddings_ND` are unit vectors made by the encoder `encoder_id`; EncoderMismatch is raised when
    the prompts come from another one, or have another dimension.
    """
    if encoder_id != prompts.encoder_id:
        raise EncoderMismatch(
            f"the images were embedded by {encoder_id} and the prompts by {prompts.encoder_id}: "
            "embed both with the same encoder"
        )
    dim = prompts.positive_LD.shape[1]
    if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] != dim:
        raise EncoderMismatch(
            f"embeddings of {encoder_id} must have shape (N, {dim}), not {embeddings_ND.shape}"
        )
    contrast_LD = prompts.positive_LD - prompts.negative_LD
    margin_NL = np.empty((len(embeddings_ND), len(prompts.labels)))
    for column, contrast_D in enumerate(contrast_LD):
        # One product a label: in one for all, BLAS may round a column by how many stand beside it.
        margin_NL[:, column] = embeddings_ND @ contrast_D
    return prompts.logit_scale * margin_NL


def prior_calibrations(prompts: PromptEmbeddings) -> tuple[Calibration, ...]:
    """Return what stands in for decisions, one a label: the model's own scale, the prior's offset."""
    return tuple(Calibration(scale=1.0, offset=float(offset)) for offset in prompts.offset_L)


def prelabel(
    embeddings_ND: NDArray[np.float32],
    prompts: PromptEmbeddings,
    *,
    encoder_id: str,
    calibrations: Sequence[Calibration] | None = None,
) -> NDArray[np.float32]:
    """Return scores, float32 (N, L) in [0, 1], columns in the order of `prompts.labels`.

    `calibrations` are those fitted on decisions, one a label; without, the priors are taken. Raises
    EncoderMismatch as `margins` does.
    """
    margin_NL = margins(embeddings_ND, prompts, encoder_id=encoder_id)
    scores_NL = np.empty(margin_NL.shape, dtype=np.float32)
    for column, calibration in enumerate(calibrations or prior_calibrations(prompts)):
        scores_NL[:, column] = calibration.probabilities(margin_NL[:, column])
    return scores_NL


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The answer that a score suggests, and how sure it is."""

    answer: Literal["yes", "no"]
    sure: float
    """The probability of that answer, in [0.5, 1]."""


def suggest(score: float) -> Suggestion:
    """Return the likelier answer to a calibrated score in [0, 1]; yes where they are equal."""
    return Suggestion("yes", score) if score >= 0.5 else Suggestion("no", 1 - score)


def _mean_direction(encoder: ClipEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the unit mean (D,) of `texts`, embedded by themselves.

    In a batch with other labels' prompts, those could change its last bits.
    """
    mean_D = encoder.encode_texts(texts).mean(axis=0)
    direction_D: NDArray[np.float32] = mean_D / np.linalg.norm(mean_D)
    return direction_D
