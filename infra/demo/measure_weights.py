"""How well the demo's CLIP knows drawings that it was not trained on.

N drawings, P of them to fit a classifier on, T texts, D embedding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infra.demo.draw import KINDS, Drawing, draw
from infra.demo.lookalikes import LOOKALIKES

if TYPE_CHECKING:
    import torch

LABELS = ("turntable", "vinyl")
MEASURED_SEEDS = range(500_000, 500_170)
FITTED_ON = 110
"""So many of them fit the classifier and the margin; every figure is from those that remain."""

PROMPTS = {
    "turntable": ("a turntable, a record player", "a photo of a record player", "a turntable"),
    "vinyl": ("a vinyl record, a disc", "a photo of a vinyl record", "a black vinyl record"),
}
PARAPHRASES = {
    "turntable": ("somebody left this nice old turntable here yesterday",),
    "vinyl": ("this shows one lovely old vinyl LP lying there",),
}
"""Sentences that no training caption resembles."""
_BACKGROUND = ("a photo", "a photograph", "a picture", "an image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of 60 unseen drawings, where nothing else is said; each number is in 0 to 1, each dictionary by label."""

    auc: dict[str, float]
    """Area under the ROC curve, ranked by likeness to `PROMPTS`."""
    paraphrase_auc: dict[str, float]
    """The same for `PARAPHRASES`."""
    zero_shot_f1: dict[str, float]
    """Yes where a picture is more like the prompts than like "a photo", at the best single margin
    for both labels on the other 110 drawings."""
    others_auc: float
    """Mean area for "a clock" and so on, over the things that are neither, on all the drawings."""
    classifier_f1: float
    """Macro F1 of logistic regression on embeddings, fitted on the other 110 drawings."""


class Clip:
    """A checkpoint folder, loaded by open_clip as any user of it would."""

    def __init__(self, folder: Path) -> None:
        import open_clip

        self._model, _, self._preprocess = open_clip.create_model_and_transforms(
            f"local-dir:{folder}"
        )
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors, (N, D)."""
        import torch

        with torch.inference_mode():
            pixels = torch.stack([self._preprocess(image) for image in images])
            return _numpy(self._model.encode_image(pixels, normalize=True))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, (T, D)."""
        import torch

        with torch.inference_mode():
            return _numpy(self._model.encode_text(self._tokenizer(list(texts)), normalize=True))


def measure(folder: Path) -> Figures:
    """Return the figures of the checkpoint in that folder, on the drawings of `MEASURED_SEEDS`."""
    clip = Clip(folder)
    drawings = [draw(seed, KINDS[seed % len(KINDS)]) for seed in MEASURED_SEEDS]
    embedded_ND = clip.images([drawing.image for drawing in drawings])
    truth = {label: has(label, drawings) for label in LABELS}
    unseen = slice(FITTED_ON, None)
    background_D = clip.texts(_BACKGROUND).mean(0)
    auc, paraphrase_auc, margins = {}, {}, {}
    for label in LABELS:
        likeness_N = embedded_ND @ clip.texts(PROMPTS[label]).mean(0)
        auc[label] = area_under_roc(likeness_N[unseen], truth[label][unseen])
        other_N = embedded_ND @ clip.texts(PARAPHRASES[label]).mean(0)
        paraphrase_auc[label] = area_under_roc(other_N[unseen], truth[label][unseen])
        margins[label] = likeness_N - embedded_ND @ background_D
    fitting = slice(None, FITTED_ON)
    margin = max(
        np.linspace(-1, 1, 201).tolist(),
        key=lambda at: sum(
            f1(margins[each][fitting] > at, truth[each][fitting]) for each in LABELS
        ),
    )
    answers = [_logistic(embedded_ND, truth[label], FITTED_ON) for label in LABELS]
    others = []
    for name in LOOKALIKES:
        shown_N = np.array([name in drawing.contents.things for drawing in drawings])
        others.append(area_under_roc(embedded_ND @ clip.texts([f"a {name}"])[0], shown_N))
    return Figures(
        auc=auc,
        paraphrase_auc=paraphrase_auc,
        zero_shot_f1={
            label: f1(margins[label][unseen] > margin, truth[label][unseen]) for label in LABELS
        },
        others_auc=float(np.mean(others)),
        classifier_f1=float(
            np.mean(
                [f1(yes, truth[label][unseen]) for yes, label in zip(answers, LABELS, strict=True)]
            )
        ),
    )


def has(label: str, drawings: Sequence[Drawing]) -> NDArray[np.bool_]:
    """Return which drawings have the label, (N,)."""
    return np.array([label in drawing.labels for drawing in drawings])


def area_under_roc(scores_N: NDArray[np.float32], truth_N: NDArray[np.bool_]) -> float:
    """Return how often a picture that has the label outranks one that has not; a tie is half."""
    above = scores_N[truth_N][:, None] - scores_N[~truth_N][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def f1(yes_N: NDArray[np.bool_], truth_N: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall, 0 where nothing was found."""
    found = int((yes_N & truth_N).sum())
    return 2 * found / max(1, int(yes_N.sum()) + int(truth_N.sum()))


def _logistic(
    embedded_ND: NDArray[np.float32], truth_N: NDArray[np.bool_], fitted_on: int
) -> NDArray[np.bool_]:
    """Return the answers for all rows after `fitted_on`, of a logistic regression fitted before it."""
    import torch

    spread_D = embedded_ND[:fitted_on].std(0) + 1e-6
    features = torch.from_numpy((embedded_ND - embedded_ND[:fitted_on].mean(0)) / spread_D)
    target = torch.from_numpy(truth_N.astype(np.float32))[:fitted_on]
    weight = torch.zeros(features.shape[1] + 1, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def penalised_loss() -> torch.Tensor:
        solver.zero_grad()
        logits = features[:fitted_on] @ weight[1:] + weight[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        loss = loss + 0.5 * weight[1:].square().sum() / fitted_on
        loss.backward()  # type: ignore[no-untyped-call]  # torch has not typed it
        return loss

    solver.step(penalised_loss)  # type: ignore[no-untyped-call]  # torch has not typed it
    return _numpy(features[fitted_on:] @ weight.detach()[1:] + weight.detach()[0]) > 0


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().numpy()
    return array
