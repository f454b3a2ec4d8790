"""What an archive is asked: a score and an answer for each label, as a function of an embedding.

    score = low + (1 - low - high) * sigmoid(embedding . weight + bias),   yes where score >= threshold

That is a trained head with low and high 0, and a calibrated pre-label as it is (`model.calibration`).
It is written down once at the beginning of a run, so that all workers ask the same, whatever is
decided or promoted meanwhile.

Shapes: N pictures, D embedding, L labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flows.archive.places import Output
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.prelabel import calibrations
from flows.registry import Registry
from flows.tuned_encoders import source_of
from flows.workspace import Workspace
from model.prelabel import margins, prior_calibrations

Kind = Literal["pre-label", "trained"]

PROMPTS = "prompts"
"""As the name of a model: what the project's prompts say, and no classifier."""

PRODUCTION = "production"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """Labels, and what answers them; arrays are float32."""

    kind: Kind
    model: str
    """The version of the trained model, or the taxonomy's id."""
    encoder_id: str
    labels: tuple[str, ...]
    weight_LD: NDArray[np.float32]
    bias_L: NDArray[np.float32]
    low_L: NDArray[np.float32]
    high_L: NDArray[np.float32]
    thresholds_L: NDArray[np.float32]

    @property
    def id(self) -> str:
        """16 hex digits that change with any number or name in it."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def scores(self, embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores, float32 (N, L) in [0, 1]."""
        sigmoid_NL = expit(embeddings_ND @ self.weight_LD.T + self.bias_L)
        scores_NL: NDArray[np.float32] = self.low_L + (1 - self.low_L - self.high_L) * sigmoid_NL
        return scores_NL

    def to_json(self) -> bytes:
        """Return it as JSON; every float32 reads back as it was."""
        fields = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in (
                (each.name, getattr(self, each.name)) for each in dataclasses.fields(self)
            )
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return what `to_json` wrote."""
        fields = json.loads(data)
        arrays = {
            name: np.array(value, np.float32)
            for name, value in fields.items()
            if name.endswith(("_L", "_LD"))
        }
        return cls(**{**fields, **arrays, "labels": tuple(fields["labels"])})


def ask(workspace: Workspace, model: str | None) -> Question:
    """Return the question that `model` is: a version, "production", "prompts", or None.

    None is the model in production, or the prompts while there is none. Raises NotFound for a
    version that does not exist, Permanent for one whose encoder is neither the project's nor fine-tuned
    from it.
    """
    registry = Registry(workspace.store, workspace.project.name)
    version = model
    if model in (None, PRODUCTION):
        version = registry.production()
        if version is None and model == PRODUCTION:
            raise Permanent(
                "no model is in production yet: run `cratedig train` first, or label with "
                "`--model prompts`"
            )
    if version is None or version == PROMPTS:
        return _by_prompts(workspace, EncoderSource(workspace))
    head = registry.load(version).head
    source_of(workspace, head.encoder_id)  # refused now, if it is not to be had
    none_L = np.zeros(len(head.labels), np.float32)
    return Question(
        kind="trained",
        model=version,
        encoder_id=head.encoder_id,
        labels=head.labels,
        weight_LD=head.weight_LD,
        bias_L=head.bias_L,
        low_L=none_L,
        high_L=none_L,
        thresholds_L=head.thresholds_L,
    )


def _by_prompts(workspace: Workspace, source: EncoderSource) -> Question:
    prompts = source.prompts(workspace.project.taxonomy())
    fitted = list(prior_calibrations(prompts))
    sha256s, embeddings_ND = workspace.catalog.embeddings(source.id())
    if sha256s:
        margin_NL = margins(embeddings_ND, prompts, encoder_id=source.id())
        fitted = calibrations(workspace, prompts, sha256s, margin_NL)

    def column(name: str) -> NDArray[np.float32]:
        return np.array([getattr(each, name) for each in fitted], np.float32)

    return Question(
        kind="pre-label",
        model=prompts.taxonomy_id,
        encoder_id=prompts.encoder_id,
        labels=prompts.labels,
        weight_LD=column("scale")[:, None] * prompts.zero_shot_LD,
        bias_L=column("offset"),
        low_L=column("low"),
        high_L=column("high"),
        thresholds_L=np.full(len(prompts.labels), 0.5, np.float32),
    )


def keep(output: Output, question: Question) -> str:
    """Write the question down, unless it is; return its id."""
    output.put_once(_key(question.id), question.to_json())
    return question.id


def recall(output: Output, question_id: str) -> Question:
    """Return a question that was written down."""
    return Question.from_json(output.get(_key(question_id)))


def _key(question_id: str) -> str:
    return f"questions/{question_id}.json"
