"""Train the demo's CLIP on the demo's own drawings: `python -m infra.demo.train_weights`.

The loss is CLIP's, except that a caption counts as right for every drawing in the batch of which it is
true, not for its own alone (UniCL, Yang et al. 2022): a batch holds dozens of pictures of a record,
and "a record" is no less true of the others.

    B drawings of a batch, T their captions, D embedding, F facts
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.demo.measure_weights import FITTED_ON, MEASURED_SEEDS, Figures, measure
from infra.demo.training_set import (
    CAPTIONS,
    IMAGE_PX,
    VIEWS,
    TrainingSet,
    model_config,
    training_set,
    truth_matrix,
)

if TYPE_CHECKING:
    import torch
    from open_clip.model import CLIP

WEIGHTS = Path(__file__).parent / "weights"
TRAINING_SEEDS = range(3_000)
"""All below `MEASURED_SEEDS`, and those below `FIRST_DEMO_SEED`: no drawing serves two ends."""
# How true "a photo" is of a picture, beside what says something: so that, as with any CLIP, a
# picture is clearly more like "a photo of a record" than like "a photo", if there is one in it.
_WEIGHT_OF_NOTHING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long and how fast to train."""

    steps: int = 1_300
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 40
    threads: int = 2
    seed: int = 0


def train(pictures: TrainingSet, recipe: Recipe) -> CLIP:
    """Return a CLIP trained on the pictures, in evaluation mode; the same for the same recipe."""
    import torch
    from open_clip.model import CLIP

    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = CLIP(**model_config()["model_cfg"])
    # Convolutions with few channels are faster in this layout on a CPU.
    model = model.to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=recipe.steps,
        pct_start=min(0.3, recipe.warm_up / recipe.steps),
        cycle_momentum=False,
    )
    batches = _Batches(pictures, recipe)
    started = time.monotonic()
    model.train()
    for step in range(recipe.steps):
        pixels, tokens, target_BT = batches.draw()
        image_BD, text_TD, scale = model(pixels, tokens)
        loss = _loss(scale * image_BD @ text_TD.T, target_BT)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has not typed it
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 24 or step + 1 == recipe.steps:
            left_s = (time.monotonic() - started) / (step + 1) * (recipe.steps - step - 1)
            said = f"step {step + 1}/{recipe.steps}  loss {loss.item():.3f}  {left_s:.0f} s left"
            print(said, file=sys.stderr, flush=True)
    return model.eval()


class _Batches:
    """Batches of a training set, in an order that the recipe's seed decides."""

    def __init__(self, pictures: TrainingSet, recipe: Recipe) -> None:
        import torch
        from open_clip import get_tokenizer

        config = model_config()
        text = config["model_cfg"]["text_cfg"]
        self._pictures = pictures
        self._batch = recipe.batch
        self._rng = np.random.default_rng(recipe.seed)
        self._words = text["vocab_size"] - 2  # the last two tokens are the start and the end
        self._tokenizer = get_tokenizer("ViT-B-32", context_length=text["context_length"])
        self._mean = torch.tensor(config["preprocess_cfg"]["mean"])
        self._std = torch.tensor(config["preprocess_cfg"]["std"])

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return pixels (B, 3, H, W), tokens (T, context), and how true each text is (B, T)."""
        import torch

        rng, pictures = self._rng, self._pictures
        chosen = rng.choice(len(pictures.facts), self._batch, replace=False)
        views = pictures.views[chosen, rng.integers(VIEWS, size=self._batch)]
        captions = [pictures.captions[at][int(rng.integers(CAPTIONS))] for at in chosen]
        truth = truth_matrix(captions, [pictures.facts[at] for at in chosen])
        weight_T = [_WEIGHT_OF_NOTHING if each.says_nothing() else 1.0 for each in captions]
        light = rng.uniform(0.8, 1.2, (self._batch, 1, 1, 3)).astype(np.float32)
        pixels = (torch.from_numpy(views * light) / 255 - self._mean) / self._std
        tokens = torch.stack([self._tokens(caption.words) for caption in captions])
        target_BT = torch.from_numpy(truth).float() * torch.tensor(weight_T)
        return pixels.permute(0, 3, 1, 2), tokens, target_BT

    def _tokens(self, words: str) -> torch.Tensor:
        """Return the words as tokens, at times with a few chance ones strewn in.

        So the text tower learns to pass over words that say nothing to it.
        """
        import torch

        padded = self._tokenizer([words])[0]
        tokens = padded[padded != 0].tolist()
        if self._rng.random() < 0.3:
            for _ in range(int(self._rng.integers(1, 5))):
                place = int(self._rng.integers(1, len(tokens)))
                tokens.insert(place, int(self._rng.integers(1, self._words)))
        end = tokens[-1]
        tokens = tokens[: len(padded)]
        tokens[-1] = end
        return torch.tensor(tokens + [0] * (len(padded) - len(tokens)))


def save(model: CLIP, folder: Path) -> None:
    """Write the model into the folder, in the form that open_clip reads as `local-dir:`."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(model_config(), indent=2)
    (folder / "open_clip_config.json").write_text(config + "\n", encoding="utf-8")
    tensors = {
        name: (tensor.half() if tensor.dtype == torch.float32 else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "open_clip_model.safetensors")


def _loss(logits_BT: torch.Tensor, target_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy, both ways, to a spread over all that is true.

    A picture of which nothing more is said in this batch than "a photo" counts for as little.
    """
    by_image = -(target_BT * logits_BT.log_softmax(1)).sum(1) / target_BT.sum(1)
    by_text = -(target_BT * logits_BT.log_softmax(0)).sum(0) / target_BT.sum(0)
    weight_B = target_BT.amax(1)
    return ((weight_B * by_image).sum() / weight_B.sum() + by_text.mean()) / 2


def readme(figures: Figures, *, size_bytes: int, drawings: int, recipe: Recipe) -> str:
    """Return the README that lies beside the weights."""

    def row(name: str, values: dict[str, float]) -> str:
        return f"| {name} | {values['turntable']:.3f} | {values['vinyl']:.3f} |"

    return f"""\
# The demo's CLIP

**For the demo alone.** It knows this project's drawings of records, turntables and a few other things,
and nothing of photographs. For real work, name a real model in `project.toml`: see the main README.

A very small [open_clip](https://github.com/mlfoundations/open_clip) model ({size_bytes / 1e6:.1f} MB, float16):
a residual network for {IMAGE_PX} px pictures and a two-layer transformer for text, with open_clip's own
tokenizer. Load it with `open_clip.create_model_and_transforms("local-dir:infra/demo/weights")`.

Made by `make demo-weights` (`python -m infra.demo.train_weights`): {recipe.steps} steps of {recipe.batch} on
{drawings} drawings of `infra/demo/draw.py` and captions of `infra/demo/captions.py`, from random weights, with
seed {recipe.seed}. No picture, text or weight of anyone else's went into it. The demo draws its pictures from
seeds that were not trained on (`FIRST_DEMO_SEED`), so its results are on unseen drawings; another machine or
number of threads may train slightly different weights.

Licence: Apache-2.0, as the project.

Measured on {len(MEASURED_SEEDS) - FITTED_ON} drawings that were not trained on:

| | turntable | vinyl |
|---|---|---|
{row("area under ROC, the demo's prompts", figures.auc)}
{row("area under ROC, a paraphrase", figures.paraphrase_auc)}
{row("zero-shot F1", figures.zero_shot_f1)}

Logistic regression on the embeddings of {FITTED_ON} further drawings: macro F1 {figures.classifier_f1:.3f}.

Do not add labels to the demo: prompts for the other things that are drawn ("a clock", "a book") rank them
little better than chance, with a mean area under ROC of {figures.others_auc:.2f}.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, save, measure, and write down what was measured."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo.train_weights", description=__doc__)
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--drawings", type=int, default=len(TRAINING_SEEDS))
    chosen = parser.parse_args(arguments)
    recipe = Recipe(steps=chosen.steps)
    print(f"drawing {chosen.drawings} pictures", file=sys.stderr, flush=True)
    model = train(training_set(TRAINING_SEEDS[: chosen.drawings]), recipe)
    save(model, chosen.folder)
    figures = measure(chosen.folder)
    size_bytes = (chosen.folder / "open_clip_model.safetensors").stat().st_size
    text = readme(figures, size_bytes=size_bytes, drawings=chosen.drawings, recipe=recipe)
    (chosen.folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
