"""What is asked of fine-tuning, and what it says on the way; torch is not needed to read either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["last_blocks", "lora"]

_RATE: dict[Mode, float] = {"last_blocks": 1e-4, "lora": 5e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig:
    """How an image tower is fine-tuned.

    `blocks` is for "last_blocks" and `rank` for "lora" (`model.trainable`). `learning_rate` None is
    1e-4 or 5e-4 for them; the head's own is `head_learning_rate`. `warm_up` is a share of all steps.
    `patience` is after how many looks at the watched pictures without a better one it stops.
    `flip` false is for labels that a mirror changes.
    """

    mode: Mode = "last_blocks"
    blocks: int = 2
    rank: int = 8
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float | None = None
    head_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    warm_up: float = 0.1
    patience: int = 5
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.blocks, self.rank, self.epochs, self.batch_size, self.patience)
        rates = (self.rate, self.head_learning_rate)
        if min(counts) < 1 or min(rates) <= 0 or not 0 <= self.warm_up < 1 or self.seed < 0:
            raise ValueError(f"a setting of fine-tuning is out of range: {self}")

    @property
    def rate(self) -> float:
        """The tower's highest learning rate."""
        return self.learning_rate or _RATE[self.mode]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the watched pictures: loss on them, and the mean on the fitted ones since the last.

    `fitted_loss` is None before the first step; a loss is nan where the weights have diverged.
    """

    step: int
    fitted_loss: float | None
    watched_loss: float

    def __str__(self) -> str:
        """Return it for a progress line."""
        return f"loss {self.watched_loss:.3f} on the watched pictures at step {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long a run will take at most, from its first steps; it may stop early."""

    steps: int
    step_s: float
    looks: int
    look_s: float

    @property
    def seconds(self) -> float:
        """Of what is left."""
        return self.steps * self.step_s + self.looks * self.look_s

    def __str__(self) -> str:
        """Return a sentence for whoever waits."""
        left = self.seconds
        said = f"{left / 60:.0f} minutes" if left >= 90 else f"{left:.0f} s"
        return (
            f"fine-tuning takes {said} at most: {self.steps} steps of {self.step_s:.2f} s, "
            f"{self.looks} looks of {self.look_s:.1f} s at the watched pictures"
        )
