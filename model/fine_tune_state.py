"""Where a fine-tuning run is, as a file, and its result as a checkpoint that `load_encoder` takes."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file

from model.clip_files import Clip
from model.fine_tune_config import Look
from model.towers import ClipModel

CONFIG = "open_clip_config.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Weights, the best of them so far, the optimiser, the looks taken; random numbers go by `step`."""

    step: int
    threads: int
    looks: list[Look]
    losses: list[float]
    """On the fitted pictures, of the steps since the last look."""
    weights: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    optimizer: dict[str, Any]

    @classmethod
    def read(cls, path: Path, asked: str) -> Self | None:
        """Return the state in `path`; None when there is none, or one of a run that was asked otherwise."""
        if not path.exists():
            return None
        fields = torch.load(path, map_location="cpu", weights_only=True)
        if fields.pop("asked") != asked:
            return None
        return cls(**{**fields, "looks": [Look(*each) for each in fields["looks"]]})

    def write(self, path: Path, asked: str) -> None:
        """Write the state, whole or not at all, also if the power fails."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        fields["looks"] = [dataclasses.astuple(each) for each in self.looks]
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            torch.save({**fields, "asked": asked}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def write_encoder(model: ClipModel, clip: Clip, folder: Path) -> None:
    """Write a model that was made of `clip` as a checkpoint folder of its own; same weights, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": clip.architecture, "preprocess_cfg": clip.preprocessing}
    (folder / CONFIG).write_text(json.dumps(document, indent=2), encoding="utf-8")
    weights = {name: each.contiguous() for name, each in model.state_dict().items()}
    save_file(weights, folder / f"{clip.slug}-tuned.safetensors")
