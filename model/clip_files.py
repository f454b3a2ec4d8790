"""Which CLIP is meant: from `EncoderConfig` to an architecture, a weights file and an id.

Quick for a checkpoint folder, where torch is not even imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model.errors import ModelError

Backend = Literal["auto", "torch", "onnx", "onnx-int8", "torch-bf16"]
Precision = Literal["fp32", "int8", "bf16"]

_CONFIG_NAME = "open_clip_config.json"
# Names that say nothing about the model; everyone's checkpoint is called this.
_GENERIC_NAMES = {"model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"}


class EncoderUnavailable(ModelError):
    """The encoder cannot be loaded; the message is one sentence: what, which, and what to do."""


class EncoderMismatch(ModelError):
    """Vectors of two different encoders were about to be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which CLIP model, and what runs its image tower.

    The model is given in one of three forms, all others are refused by `load_encoder`:

    - `model` and `pretrained`: an open_clip architecture and one of its tags, downloaded by
      open_clip on first use ("ViT-B-32", "laion2b_s34b_b79k");
    - `checkpoint`, a folder: `open_clip_config.json` (with `model_cfg` and, unless open_clip's
      defaults are meant, `preprocess_cfg`) beside one `*.safetensors`;
    - `model` and `checkpoint`, a file: weights for the named architecture, with open_clip's default
      preprocessing.

    `backend` is one of

    - "torch": open_clip's own code on the CPU, float32; the reference;
    - "onnx": ONNX Runtime on the CPU, float32; the same vectors to 1e-4, so the same encoder id;
    - "onnx-int8": the same with weights and products of 8 bits; other vectors, another id;
    - "torch-bf16": open_clip's code on a CUDA device in bfloat16; other vectors, another id;
    - "auto": the fastest of these that agrees with the reference. It has to be measured on
      pictures first (`model.backends.choose_backend`), because the id depends on it.

    `calibration` is for "onnx-int8" alone: a .npy file of pixels, uint8 (N, H, W, 3), on which the
    ranges of activations are measured beforehand (static quantisation, of convolutions too). Other
    pictures give other vectors, so they are part of the id. Without it ranges are found as pictures
    come (dynamic quantisation, of matrix products alone).

    `cache` is where exported models are kept, a folder for each encoder id. `threads` is how many
    of the CPU's cores the tower may take; None for all that this process may run on.
    """

    model: str = ""
    pretrained: str | None = None
    checkpoint: Path | None = None
    backend: Backend = "torch"
    calibration: Path | None = None
    cache: Path = Path.home() / ".cache" / "cratedig" / "encoders"
    threads: int | None = None


_PRECISION_OF: dict[Backend, Precision] = {
    "torch": "fp32",
    "onnx": "fp32",
    "onnx-int8": "int8",
    "torch-bf16": "bf16",
}


def precision_of(backend: Backend) -> Precision:
    """Return the family of vectors that a backend makes; raises EncoderUnavailable for "auto"."""
    try:
        return _PRECISION_OF[backend]
    except KeyError:
        raise EncoderUnavailable(
            f"encoder backend {backend!r} does not say which vectors are meant: measure with "
            f"`choose_backend` first, or name one of {', '.join(_PRECISION_OF)}"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An `EncoderConfig` with everything found: what open_clip is to build, and from which file."""

    open_clip_name: str  # an architecture's name, or "local-dir:FOLDER"
    shown: str  # the model in an error message
    slug: str
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path

    def id(self, precision: Precision, calibration: Path | None = None) -> str:
        """Return the encoder id: what the vectors depend on, and nothing else.

        Raises EncoderUnavailable when the calibration cannot be read.
        """
        digest = hashlib.sha256()
        # A change of how int8 models are made is a change of their vectors: count the recipe up.
        recipe = "int8-1" if precision == "int8" else precision
        settings = [self.architecture, self.preprocessing, recipe]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        files = [self.weights]
        if precision == "int8" and calibration is not None:
            if not calibration.exists():
                raise EncoderUnavailable(
                    f"calibration {calibration} does not exist: without it leave the setting out"
                )
            files.append(calibration)
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        family = "" if precision == "fp32" else f"-{precision}"
        return f"{self.slug}{family}-{digest.hexdigest()[:12]}"


def resolve(config: EncoderConfig) -> Clip:
    """Return the model that `config` names; raises EncoderUnavailable as `load_encoder` does."""
    if config.checkpoint is None:
        if not config.model:
            raise EncoderUnavailable(
                "no encoder is named: give model with pretrained, or checkpoint, under [encoder]"
            )
        if not config.pretrained:
            raise EncoderUnavailable(
                f"encoder {config.model} has no weights: give pretrained (a tag) or checkpoint"
            )
        return _resolve_tag(config.model, config.pretrained)
    if config.pretrained:
        raise EncoderUnavailable(
            f"encoder has both pretrained ({config.pretrained}) and checkpoint "
            f"({config.checkpoint}): give one of them"
        )
    if config.checkpoint.is_dir():
        if config.model:
            raise EncoderUnavailable(
                f"encoder has both model ({config.model}) and a checkpoint folder "
                f"({config.checkpoint}), which names its own model: leave model out"
            )
        return _resolve_folder(config.checkpoint)
    if not config.checkpoint.exists():
        raise EncoderUnavailable(
            f"checkpoint {config.checkpoint} does not exist: give a weights file, "
            f"or a folder with {_CONFIG_NAME} beside a .safetensors file"
        )
    if not config.model:
        raise EncoderUnavailable(
            f"checkpoint {config.checkpoint} is a file, so model must name its architecture; "
            f"or give a folder that holds it beside {_CONFIG_NAME}"
        )
    return _resolve_file(config.model, config.checkpoint)


def _resolve_folder(folder: Path) -> Clip:
    config_path = folder / _CONFIG_NAME
    try:
        document = json.loads(config_path.read_text(encoding="utf-8"))
        architecture = document["model_cfg"]
        preprocessing = dict(document.get("preprocess_cfg", {}))
        complete = {"embed_dim", "vision_cfg", "text_cfg"} <= architecture.keys()
    except FileNotFoundError:
        raise EncoderUnavailable(
            f"checkpoint folder {folder} has no {_CONFIG_NAME}: "
            "put open_clip's config of the model there"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise EncoderUnavailable(
            f"{config_path} is not an open_clip config with a model_cfg: {said(error)}"
        ) from error
    if not complete:
        raise EncoderUnavailable(
            f"model_cfg in {config_path} needs embed_dim, vision_cfg and text_cfg"
        )
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise EncoderUnavailable(
            f"checkpoint folder {folder} holds {len(found)} .safetensors files: "
            "leave exactly one there"
        )
    (weights,) = found
    return Clip(
        open_clip_name=f"local-dir:{folder}",
        shown=f"the model in {config_path}",
        slug="clip" if weights.stem in _GENERIC_NAMES else _slug(weights.stem),
        architecture=architecture,
        preprocessing=preprocessing,
        weights=weights,
    )


def _resolve_file(model: str, weights: Path) -> Clip:
    return Clip(
        open_clip_name=model,
        shown=f"model {model}",
        slug=_slug(model),
        architecture=_named_architecture(model),
        preprocessing={},
        weights=weights,
    )


def _resolve_tag(model: str, tag: str) -> Clip:
    architecture = _named_architecture(model)
    import open_clip

    tag_config = open_clip.get_pretrained_cfg(model, tag)
    if not tag_config:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise EncoderUnavailable(
            f"encoder {model} has no pretrained weights {tag!r}: open_clip knows {known}"
        )
    # open_clip only warns here, and the embeddings would be quietly worse than the model's.
    if bool(tag_config.get("quick_gelu")) != bool(architecture.get("quick_gelu")):
        other = model.removesuffix("-quickgelu") if "quickgelu" in model else f"{model}-quickgelu"
        raise EncoderUnavailable(
            f"pretrained {tag!r} was trained with another activation than {model} has: "
            f"use model {other}"
        )
    try:
        weights = open_clip.download_pretrained(tag_config)
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderUnavailable(
            f"the weights {tag!r} of {model} could not be downloaded "
            f"({said(error)}): check the network, or give a checkpoint file"
        ) from error
    keys = open_clip.transform.PreprocessCfg.__dataclass_fields__
    return Clip(
        open_clip_name=model,
        shown=f"model {model}",
        slug=_slug(model),
        architecture=architecture,
        preprocessing={key: value for key, value in tag_config.items() if key in keys},
        weights=Path(weights),
    )


def _named_architecture(model: str) -> dict[str, Any]:
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        import difflib

        near = difflib.get_close_matches(model, known, n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()"
        raise EncoderUnavailable(f"open_clip has no model {model!r}: {advice}")
    architecture: dict[str, Any] = open_clip.get_model_config(model)
    return architecture


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "clip"


def said(error: BaseException) -> str:
    """Return what `error` says, without torch's headings, cut to what fits in a sentence."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = next((line for line in lines if line and not line.endswith(":")), "")
    if not telling or isinstance(error, KeyError):
        telling = f"{type(error).__name__} {telling}".strip()
    return telling if len(telling) <= 160 else f"{telling[:160]}..."
