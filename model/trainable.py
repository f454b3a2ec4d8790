"""Which weights of an image tower are fine-tuned: those of its last blocks, or low-rank additions.

Block lists are found by where open_clip's towers keep them:

    transformer.resblocks              open_clip's own ViT
    trunk.blocks, trunk.stages         timm's (ViT, EfficientNet; ConvNeXt, FastViT)
    layer1 ... layer4, also in trunk   residual networks; a block is a stage
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from model.errors import ModelError
from model.fine_tune_config import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTS = (("transformer", "resblocks"), ("trunk", "blocks"), ("trunk", "stages"))
_RESIDUAL_STAGES = ("layer1", "layer2", "layer3", "layer4")
_LORA_SCALE = 2.0
"""What the product of the two factors is multiplied by; Hu et al. call it alpha / r."""


class FineTuneUnsupported(ModelError):
    """The image tower has no part that could be fine-tuned so; the message says what to do."""


class LowRank(nn.Module):
    """W -> W + scale * up @ down: LoRA (Hu et al. 2021), which begins as nothing, since `up` is 0."""

    def __init__(self, weight: torch.Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        rank = min(rank, rows, columns)
        down = torch.randn(rank, columns, generator=generator) / math.sqrt(columns)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight with its addition."""
        return weight + _LORA_SCALE * (self.up @ self.down)


def unfreeze(visual: nn.Module, mode: Mode, *, blocks: int, rank: int, seed: int) -> None:
    """Leave those parameters of an image tower trainable that `mode` names, and no others.

    "last_blocks": the last `blocks` of its blocks (of a convolutional tower, its stages) and what
    comes after them. "lora": additions of `rank` to every matrix of attention and MLP in all
    blocks, drawn by `seed`; `merge` makes plain weights of them. Raises FineTuneUnsupported.
    """
    visual.requires_grad_(requires_grad=False)
    found, after = _blocks(visual)
    if mode == "last_blocks":
        for module in (*found[-blocks:], *after):
            module.requires_grad_()
        proj = getattr(visual, "proj", None)
        if isinstance(proj, nn.Parameter):  # open_clip's ViT has it beside its modules
            proj.requires_grad_()
        return
    generator = torch.Generator().manual_seed(seed)
    matrices = [each for block in found for each in _matrices(block)]
    if not matrices:
        raise FineTuneUnsupported(
            f"LoRA adds to matrices of attention and MLP, and {type(visual).__name__} has none in "
            'its blocks: set fine_tune = "last_blocks"'
        )
    for module, name in matrices:
        addition = LowRank(getattr(module, name), rank, generator)
        parametrize.register_parametrization(module, name, addition)


def merge(visual: nn.Module) -> None:
    """Make plain weights of what `unfreeze` has added: the tower has its own class and names again."""
    for module in list(visual.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type] # a ModuleDict
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _matrices(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in block.modules():
        if isinstance(module, nn.Linear):
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"


def _blocks(visual: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the blocks in order, and the modules that come after them."""
    for holder_name, list_name in _LISTS:
        holder = getattr(visual, holder_name, None)
        blocks = getattr(holder, list_name, None)
        if isinstance(holder, nn.Module) and isinstance(blocks, nn.Sequential | nn.ModuleList):
            after = [*_children_after(holder, list_name), *_children_after(visual, holder_name)]
            return list(blocks), after
    for holder in (visual, getattr(visual, "trunk", None)):
        if isinstance(holder, nn.Module) and all(
            hasattr(holder, name) for name in _RESIDUAL_STAGES
        ):
            after = _children_after(holder, _RESIDUAL_STAGES[-1])
            if holder is not visual:
                after += _children_after(visual, "trunk")
            return [getattr(holder, name) for name in _RESIDUAL_STAGES], after
    raise FineTuneUnsupported(
        f"the image tower is a {type(visual).__name__}, in which no list of blocks is known: "
        'leave fine_tune "off", or take another encoder'
    )


def _children_after(module: nn.Module, name: str) -> list[nn.Module]:
    names = [each for each, _ in module.named_children()]
    return [child for _, child in list(module.named_children())[names.index(name) + 1 :]]
