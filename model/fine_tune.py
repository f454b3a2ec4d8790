"""Fine-tuning: the image tower itself learns the labels, beginning from a head on what it says now.

The head is fitted first and the tower moved after (Kumar et al. 2022): a fresh head would pull the
tower's features apart before it knew what it wants. The loss is the head's own: every label's yes
and no weigh the same, and what is unreviewed counts for nothing. AdamW, with a warm-up, a cosine
down to nothing and clipped gradients. Some pictures are only watched: by the loss on them it is
decided when to stop, and which weights are kept; if none are better than the first, none are.

The same pictures, settings and seed give the same weights, bit for bit on one machine. What is
random (order, augmentation) is drawn afresh from seed and step, so that a state of weights, optimiser
and step number is all that a run has to be carried on from. Batch norms keep their statistics.

Shapes: N pictures, B of a batch, L labels, D embedding, C = 3 channels; h, w prepared, H, W tower.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from model.augment import augment
from model.classifier import MultiLabelHead
from model.clip_files import EncoderConfig, resolve
from model.encoder import built
from model.fine_tune_config import Estimate, FineTuneConfig, Look
from model.fine_tune_state import State
from model.preprocess import Preprocessing
from model.towers import ClipModel, channel_constants
from model.trainable import merge, unfreeze

ROOM = 1.25
"""Pictures to be cropped are prepared this many times larger than the tower's, on each side."""

_MEASURED_STEPS = 3
_MOST_STEPS_BETWEEN_LOOKS = 500
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """Pixels, uint8 (N, height, width, C), which may lie on disk, and targets (N, L), nan unreviewed."""

    pixels: NDArray[np.uint8]
    targets_NL: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineTuned:
    """What came of it: the model with the best weights, and the way there.

    `looks` begins with step 0, the encoder as it was; `best` is that one when nothing was better.
    """

    model: ClipModel
    best: Look
    looks: tuple[Look, ...]

    @property
    def improved(self) -> bool:
        """Whether any weights were better on the watched pictures than the first."""
        return self.best.step > 0


def prepared(preprocessing: Preprocessing) -> Preprocessing:
    """Return how pictures to be fitted on are prepared: as the tower's, with room for cropping."""
    height, width = preprocessing.size
    return dataclasses.replace(preprocessing, size=(round(height * ROOM), round(width * ROOM)))


def fine_tune(
    encoder: EncoderConfig,
    fitted: Pictures,
    watched: Pictures,
    head: MultiLabelHead,
    config: FineTuneConfig,
    *,
    state: Path,
    on_estimate: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[int, int, object], None] | None = None,
    save_every_s: float = _SAVE_EVERY_S,
) -> FineTuned:
    """Return the encoder's model, its image tower fine-tuned; the text tower is as it was.

    `fitted` are prepared by `prepared(preprocessing)`, `watched` by the encoder's own preprocessing;
    `head` was fitted on the encoder's embeddings of the former. The file `state` is written now and
    then, whole or not at all; a run that finds its own there is carried on, to the same weights.
    Runs on the CUDA device if there is one, in bfloat16, else in float32.
    Raises FineTuneUnsupported, and EncoderUnavailable as `load_encoder` does.
    """
    clip = resolve(encoder)
    model, preprocessing, _ = built(clip)
    asked = {
        "encoder": clip.id("fp32"),
        "config": dataclasses.asdict(config),
        "head": hashlib.sha256(head.weight_LD.tobytes() + head.bias_L.tobytes()).hexdigest(),
        "targets": [
            hashlib.sha256(each.targets_NL.tobytes()).hexdigest() for each in (fitted, watched)
        ],
    }
    run = _Run(model, preprocessing, fitted, watched, head, config)
    kept = State.read(state, json.dumps(asked, sort_keys=True))
    with _deterministic(kept.threads if kept else torch.get_num_threads()):
        if kept:
            run.restore(kept)
        else:
            run.look()
        writer = _Writer(state, json.dumps(asked, sort_keys=True), save_every_s)
        run.go(writer, on_estimate or (lambda _: None), on_progress or (lambda *_: None))
        return run.result()


class _Writer:
    """Writes the state: when it is long ago, and when it is told to."""

    def __init__(self, path: Path, asked: str, every_s: float) -> None:
        self._path, self._asked, self._every_s = path, asked, every_s
        self._last = time.monotonic()

    def offer(self, state: Callable[[], State], *, now: bool = False) -> None:
        if now or time.monotonic() - self._last >= self._every_s:
            state().write(self._path, self._asked)
            self._last = time.monotonic()


class _Run:
    """One run's weights and where it is."""

    def __init__(
        self,
        model: ClipModel,
        preprocessing: Preprocessing,
        fitted: Pictures,
        watched: Pictures,
        head: MultiLabelHead,
        config: FineTuneConfig,
    ) -> None:
        self._model, self._config = model, config
        self._fitted, self._watched = fitted, watched
        self._size = preprocessing.size
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._visual = model.visual.to(self._device)
        mean, std = channel_constants(preprocessing)
        self._mean, self._std = mean.to(self._device), std.to(self._device)
        unfreeze(
            self._visual, config.mode, blocks=config.blocks, rank=config.rank, seed=config.seed
        )
        # Copies: what is trained in place is not the caller's.
        self._weight_LD = torch.nn.Parameter(torch.tensor(head.weight_LD, device=self._device))
        self._bias_L = torch.nn.Parameter(torch.tensor(head.bias_L, device=self._device))
        tower = [each for each in self._visual.parameters() if each.requires_grad]
        heads = [self._weight_LD, self._bias_L]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": tower, "weight_decay": config.weight_decay},
                {"params": heads, "weight_decay": 0.0},
            ]
        )
        self._rates = (config.rate, config.head_learning_rate)
        self._in_epoch = math.ceil(len(fitted.targets_NL) / config.batch_size)
        self._steps = config.epochs * self._in_epoch
        self._step, self._looks, self._losses = 0, list[Look](), list[float]()
        self._best: dict[str, torch.Tensor] = {}
        self._watched_weight_NL = _class_weights(watched.targets_NL)
        self._fitted_weight_NL = _class_weights(fitted.targets_NL)

    def go(
        self,
        writer: _Writer,
        on_estimate: Callable[[Estimate], None],
        on_progress: Callable[[int, int, object], None],
    ) -> None:
        """Take all steps that are left, and look whenever it is time."""
        every = min(self._in_epoch, _MOST_STEPS_BETWEEN_LOOKS)
        begun_at, begun, looking_s = self._step, time.perf_counter(), 0.0
        looked = 0
        while self._step < self._steps and not self._stale():
            self._take_step()
            if self._step % every == 0 or self._step == self._steps:
                before = time.perf_counter()
                self.look()
                looking_s, looked = looking_s + time.perf_counter() - before, looked + 1
                writer.offer(self.state, now=True)
            else:
                writer.offer(self.state)
            on_progress(self._step, self._steps, self._looks[-1])
            if self._step - begun_at == _MEASURED_STEPS:
                step_s = (time.perf_counter() - begun - looking_s) / _MEASURED_STEPS
                left = self._steps - self._step
                share = len(self._watched.pixels) / self._config.batch_size
                # A look is all watched pictures, forward alone: about a third of a step's work.
                look_s = looking_s / looked if looked else step_s * share / 3
                on_estimate(
                    Estimate(steps=left, step_s=step_s, looks=-(-left // every), look_s=look_s)
                )
        writer.offer(self.state, now=True)

    def look(self) -> None:
        """Judge the weights on the watched pictures, and keep them if they are the best."""
        size = self._config.batch_size
        logits = []
        with torch.no_grad():
            for start in range(0, len(self._watched.pixels), size):
                image_BCHW = self._images(self._watched.pixels[start : start + size])
                logits.append(self._logits(image_BCHW))
        loss = _loss(
            torch.cat(logits),
            self._on_device(self._watched.targets_NL),
            self._on_device(self._watched_weight_NL),
        )
        fitted = float(np.mean(self._losses)) if self._losses else None
        look = Look(step=self._step, fitted_loss=fitted, watched_loss=float(loss))
        if not self._looks or look.watched_loss < self._best_look().watched_loss:
            self._best = {name: each.detach().cpu().clone() for name, each in self._trainable()}
        self._looks.append(look)
        self._losses.clear()

    def state(self) -> State:
        """Return all that the rest of the run depends on."""
        return State(
            step=self._step,
            threads=torch.get_num_threads(),
            looks=list(self._looks),
            losses=list(self._losses),
            weights={name: each.detach() for name, each in self._trainable()},
            best=self._best,
            optimizer=self._optimizer.state_dict(),
        )

    def restore(self, state: State) -> None:
        """Go back to where `state` was taken."""
        self._step, self._looks, self._losses = state.step, list(state.looks), list(state.losses)
        self._best = state.best
        self._put(state.weights)
        self._optimizer.load_state_dict(state.optimizer)

    def result(self) -> FineTuned:
        """Return the model with the best weights as plain ones, on the CPU."""
        self._put(self._best)
        merge(self._visual)
        self._visual.requires_grad_(requires_grad=False).to("cpu")
        return FineTuned(model=self._model, best=self._best_look(), looks=tuple(self._looks))

    def _take_step(self) -> None:
        epoch, number = divmod(self._step, self._in_epoch)
        order = torch.randperm(
            len(self._fitted.targets_NL), generator=self._generator("order", epoch)
        )
        size = self._config.batch_size
        rows = order[number * size : (number + 1) * size].numpy()
        image_BChw = self._on_device(self._fitted.pixels[rows]).permute(0, 3, 1, 2).float() / 255
        generator = self._generator("augmentation", self._step)
        image_BCHW = augment(image_BChw, self._size, generator, flip=self._config.flip)
        logits_BL = self._logits((image_BCHW - self._mean) / self._std)
        targets_BL, weight_BL = (
            self._on_device(each[rows])
            for each in (self._fitted.targets_NL, self._fitted_weight_NL)
        )
        loss = _loss(logits_BL, targets_BL, weight_BL)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_([each for _, each in self._trainable()], 1.0)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._share_of_rate()
        self._optimizer.step()
        self._losses.append(loss.item())
        self._step += 1

    def _share_of_rate(self) -> float:
        warm = max(1, round(self._config.warm_up * self._steps))
        if self._step < warm:
            return (self._step + 1) / warm
        return (1 + math.cos(math.pi * (self._step - warm) / max(1, self._steps - warm))) / 2

    def _logits(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        on_cuda = self._device.type == "cuda"
        # On a CPU bfloat16 is slower than float32 unless it has AMX: model/NOTES.md.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=on_cuda):
            embedding_BD = self._visual(image_BCHW)
        return normalize(embedding_BD.float(), dim=-1) @ self._weight_LD.T + self._bias_L

    def _images(self, pixels_BHWC: NDArray[np.uint8]) -> torch.Tensor:
        image_BCHW = self._on_device(pixels_BHWC).permute(0, 3, 1, 2).float() / 255
        return (image_BCHW - self._mean) / self._std

    def _on_device(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
        # Copied: pixels may be a read-only map of a file.
        return torch.from_numpy(np.array(array)).to(self._device)

    def _trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        tower = [
            (name, each) for name, each in self._visual.named_parameters() if each.requires_grad
        ]
        return [*tower, ("head.weight_LD", self._weight_LD), ("head.bias_L", self._bias_L)]

    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, each in self._trainable():
                each.copy_(weights[name])

    def _best_look(self) -> Look:
        return min(self._looks, key=lambda each: (each.watched_loss, each.step))

    def _stale(self) -> bool:
        worse = len(self._looks) - 1 - self._looks.index(self._best_look())
        return worse >= self._config.patience

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self._config.seed} {purpose} {number}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _class_weights(targets_NL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights (N, L) by which a label's yes and no weigh the same, all labels the same; 0 for nan."""
    weight_NL = np.zeros(targets_NL.shape, np.float32)
    for answer in (0, 1):
        of_kind_NL = targets_NL == answer
        weight_NL += of_kind_NL * (len(targets_NL) / 2 / of_kind_NL.sum(0).clip(min=1))
    return weight_NL


def _loss(
    logits_BL: torch.Tensor, targets_BL: torch.Tensor, weight_BL: torch.Tensor
) -> torch.Tensor:
    return binary_cross_entropy_with_logits(logits_BL, targets_BL.nan_to_num(), weight=weight_BL)


@contextlib.contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Have torch refuse what is not deterministic, on as many threads as sums were split over before."""
    # cuBLAS reads it when it is first used, and is not deterministic without.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        torch.set_num_threads(before[1])
