"""CLIP as this project uses it: pictures and texts to unit vectors in one space, by open_clip.

Importing this module is cheap. torch and open_clip, which take many seconds, are imported when an
encoder is loaded.

Shapes: B images of a call, T texts of a call, D embedding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Part of an encoder's id: the same weights in half precision give other embeddings.
_PRECISION = "fp32"
_CONFIG_NAME = "open_clip_config.json"
# Names that say nothing about the model; everyone's checkpoint is called this.
_GENERIC_NAMES = {"model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"}


class EncoderUnavailable(ModelError):
    """The encoder cannot be loaded; the message is one sentence: what, which, and what to do."""


class EncoderMismatch(ModelError):
    """Vectors of two different encoders were about to be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which CLIP model: one of three forms, all others are refused by `load_encoder`.

    - `model` and `pretrained`: an open_clip architecture and one of its tags, downloaded by
      open_clip on first use ("ViT-B-32", "laion2b_s34b_b79k");
    - `checkpoint`, a folder: `open_clip_config.json` (with `model_cfg` and, unless open_clip's
      defaults are meant, `preprocess_cfg`) beside one `*.safetensors`;
    - `model` and `checkpoint`, a file: weights for the named architecture, with open_clip's default
      preprocessing.
    """

    model: str = ""
    pretrained: str | None = None
    checkpoint: Path | None = None


class _Clip(Protocol):
    """What is used of open_clip's models, which differ in class."""

    logit_scale: torch.Tensor

    def encode_image(self, image: torch.Tensor, normalize: bool) -> torch.Tensor: ...
    def encode_text(self, text: torch.Tensor, normalize: bool) -> torch.Tensor: ...


class ClipEncoder:
    """An image tower and a text tower that share a space; made by `load_encoder`.

    `id` is safe in a path and names what the embeddings depend on: two encoders with the same id
    give the same vectors. `dim` is D. `logit_scale` is the factor on cosines that the model was
    trained with (exp already taken; 100 for most CLIPs).
    """

    def __init__(
        self,
        *,
        encoder_id: str,
        dim: int,
        model: _Clip,
        preprocess: Callable[[Image.Image], torch.Tensor],
        tokenizer: Callable[[list[str]], torch.Tensor],
    ) -> None:
        self.id = encoder_id
        self.dim = dim
        self.logit_scale = float(model.logit_scale.exp().item())
        self._model = model
        self._preprocess = preprocess
        self._tokenizer = tokenizer

    def encode_images(
        self, images: Sequence[Image.Image], *, batch_size: int = 8
    ) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D), one row an image, in order.

        Images of any size and mode are preprocessed as the checkpoint says; at most `batch_size` of
        them are held as tensors at a time (on a CPU, small batches stay in its caches and are faster).
        """
        import torch

        def encode(batch: Sequence[Image.Image]) -> torch.Tensor:
            pixels = torch.stack([self._preprocess(image) for image in batch])
            return self._model.encode_image(pixels, normalize=True)

        return self._encode(images, encode, batch_size)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Return unit vectors, float32 (T, D), one row a text, in order.

        A text that is longer than the model's context is cut off there, as open_clip does.
        """

        def encode(batch: Sequence[str]) -> torch.Tensor:
            return self._model.encode_text(self._tokenizer(list(batch)), normalize=True)

        return self._encode(texts, encode, batch_size)

    def _encode(
        self, items: Sequence[Any], encode: Callable[[Sequence[Any]], torch.Tensor], batch_size: int
    ) -> NDArray[np.float32]:
        import torch

        rows = np.empty((len(items), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(items), batch_size):
                batch = items[start : start + batch_size]
                rows[start : start + len(batch)] = encode(batch).float().numpy()
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """An `EncoderConfig` with everything found: what open_clip is to build, and from which file."""

    open_clip_name: str  # an architecture's name, or "local-dir:FOLDER"
    shown: str  # the model in an error message
    slug: str
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path

    def id(self) -> str:
        digest = hashlib.sha256()
        settings = [self.architecture, self.preprocessing, _PRECISION]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        with self.weights.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"{self.slug}-{digest.hexdigest()[:12]}"


def encoder_id(config: EncoderConfig) -> str:
    """Return the id that `load_encoder(config)` would have, without building the model.

    Quick for a checkpoint folder, where torch is not even imported; for a named model, open_clip is
    imported and may download the weights. Raises EncoderUnavailable as `load_encoder` does.
    """
    return _resolve(config).id()


def load_encoder(config: EncoderConfig) -> ClipEncoder:
    """Return the encoder that `config` names, on the CPU, in float32, ready to encode.

    Raises EncoderUnavailable for an unknown name or tag, a missing file or folder, a file that is
    not a checkpoint, weights that do not fit the architecture, and a download that failed.
    """
    resolved = _resolve(config)
    import open_clip
    import safetensors
    from PIL import Image

    with _quiet_open_clip():
        try:
            model = open_clip.create_model(
                resolved.open_clip_name,
                precision=_PRECISION,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=resolved.preprocessing,
            )
            tokenizer = open_clip.get_tokenizer(resolved.open_clip_name)
            preprocess = open_clip.transform.image_transform_v2(
                open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)),
                is_train=False,
            )
            preprocess(Image.new("RGB", (2, 2)))  # open_clip does not check a mean, say, until now
        except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
            raise EncoderUnavailable(
                f"open_clip cannot build {resolved.shown}: {_said(error)}; "
                "check its model_cfg and preprocess_cfg"
            ) from error
        try:
            open_clip.load_checkpoint(model, str(resolved.weights))
        except (
            RuntimeError,
            ValueError,
            KeyError,
            AttributeError,
            OSError,
            EOFError,
            StopIteration,
            pickle.UnpicklingError,
            safetensors.SafetensorError,
        ) as error:
            raise EncoderUnavailable(
                f"{resolved.weights} does not hold weights for {resolved.shown} "
                f"({_said(error)}); give the checkpoint that belongs to it"
            ) from error
    model.eval()
    return ClipEncoder(
        encoder_id=resolved.id(),
        dim=int(resolved.architecture["embed_dim"]),
        model=model,
        preprocess=preprocess,
        tokenizer=tokenizer,
    )


def _resolve(config: EncoderConfig) -> _Resolved:
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


def _resolve_folder(folder: Path) -> _Resolved:
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
            f"{config_path} is not an open_clip config with a model_cfg: {_said(error)}"
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
    return _Resolved(
        open_clip_name=f"local-dir:{folder}",
        shown=f"the model in {config_path}",
        slug="clip" if weights.stem in _GENERIC_NAMES else _slug(weights.stem),
        architecture=architecture,
        preprocessing=preprocessing,
        weights=weights,
    )


def _resolve_file(model: str, weights: Path) -> _Resolved:
    return _Resolved(
        open_clip_name=model,
        shown=f"model {model}",
        slug=_slug(model),
        architecture=_named_architecture(model),
        preprocessing={},
        weights=weights,
    )


def _resolve_tag(model: str, tag: str) -> _Resolved:
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
            f"({_said(error)}): check the network, or give a checkpoint file"
        ) from error
    keys = open_clip.transform.PreprocessCfg.__dataclass_fields__
    return _Resolved(
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


def _said(error: BaseException) -> str:
    """Return what `error` says, without torch's headings, cut to what fits in a sentence."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = next((line for line in lines if line and not line.endswith(":")), "")
    if not telling or isinstance(error, KeyError):
        telling = f"{type(error).__name__} {telling}".strip()
    return telling if len(telling) <= 160 else f"{telling[:160]}..."


@contextlib.contextmanager
def _quiet_open_clip() -> Iterator[None]:
    """Keep open_clip off the root logger, where it warns of weights not loaded (yet) by itself.

    Without a handler there, its calls would also install one that prints.
    """

    def is_not_open_clip(record: logging.LogRecord) -> bool:
        return "open_clip" not in Path(record.pathname).parts

    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(is_not_open_clip)
    try:
        yield
    finally:
        root.removeFilter(is_not_open_clip)
        root.removeHandler(handler)
