"""The [fine_tune] table of project.toml: how the encoder learns, where [train] lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from model.fine_tune_config import FineTuneConfig, Mode


FineTune = Annotated[
    Literal["off", "last_blocks", "lora"], Field(description='"off", "last_blocks" or "lora"')
]


class FineTuneSettings(BaseModel):
    """How much of the encoder learns, for how long; `model.fine_tune_config` has the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    blocks: int = Field(default=2, ge=1, description="a whole number, 1 or more")
    """How many of the last blocks learn with "last_blocks"."""
    rank: int = Field(default=8, ge=1, description="a whole number, 1 or more")
    """Of the additions to each matrix with "lora"."""
    epochs: int = Field(default=20, ge=1, description="a whole number, 1 or more")
    """How often every picture is seen at most; it stops early when nothing gets better."""
    batch_size: int = Field(default=32, ge=1, description="a whole number, 1 or more")
    """Pictures a step; fewer where memory is short."""
    flip: bool = Field(default=True, description="true or false")
    """Whether pictures may be mirrored; not where left and right matter to a label."""

    def config(self, mode: Mode, seed: int) -> FineTuneConfig:
        """Return what `model.fine_tune` is asked for."""
        from model.fine_tune_config import FineTuneConfig

        return FineTuneConfig(mode=mode, seed=seed, **self.model_dump())
