"""CLIP as this project uses it: pictures and texts to unit vectors in one space, by open_clip.

Importing this module is cheap. torch and open_clip, which take many seconds, are imported when an
encoder is loaded.

Shapes: B images of a call, T texts of a call, D embedding; H, W, C height, width, channels.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.clip_files import (
    Backend,
    Clip,
    EncoderConfig,
    EncoderMismatch,
    EncoderUnavailable,
    precision_of,
    resolve,
    said,
)
from model.preprocess import Preprocessing
from model.towers import ClipModel, ImageTower, TorchTower

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = [
    "Backend",
    "ClipEncoder",
    "EncoderConfig",
    "EncoderMismatch",
    "EncoderUnavailable",
    "encoder_id",
    "load_encoder",
]


class ClipEncoder:
    """An image tower and a text tower that share a space; made by `load_encoder`.

    `id` is safe in a path and names what the embeddings depend on: two encoders with the same id
    give the same vectors. `dim` is D. `logit_scale` is the factor on cosines that the model was
    trained with (exp already taken; 100 for most CLIPs). `preprocessing` says what the image tower
    sees of a picture.

    The text tower is always torch's, in float32. The image tower is made with the first picture,
    so that words can be looked up where the backend for pictures is not there.
    """

    def __init__(
        self,
        *,
        encoder_id: str,
        dim: int,
        model: ClipModel,
        preprocessing: Preprocessing,
        tokenizer: Callable[[list[str]], torch.Tensor],
        make_tower: Callable[[], ImageTower],
    ) -> None:
        self.id = encoder_id
        self.dim = dim
        self.logit_scale = float(model.logit_scale.exp().item())
        self.preprocessing = preprocessing
        self._model = model
        self._tokenizer = tokenizer
        self._make_tower = make_tower
        self._made: ImageTower | None = None

    @property
    def batch_size(self) -> int:
        """How many pictures the image tower likes to be given at a time."""
        return self._tower().batch_size

    def encode_images(
        self, images: Sequence[Image.Image], *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D), one row an image, in order.

        Images of any size and mode are preprocessed as the checkpoint says; at most `batch_size` of
        them are held as tensors at a time. Raises EncoderUnavailable, at the first picture, when
        the backend cannot be had here.
        """
        size = batch_size or (self.batch_size if images else 1)
        rows = [
            self.encode_pixels(np.stack([self.preprocessing.pixels(image) for image in batch]))
            for batch in (images[start : start + size] for start in range(0, len(images), size))
        ]
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def encode_pixels(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D), of what `preprocessing` has made, as one batch."""
        return self._tower().encode(pixels_BHWC)

    def encode_in_turn(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield what `encode_pixels` gives for each batch, in order; an empty batch gives no rows.

        Where the tower is a GPU's, the next batch is on its way to it while one is computed: of
        `batches` one more is taken than has been yielded.
        """
        tower = self._tower()

        def encode(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
            if len(pixels_BHWC) == 0:
                return np.empty((0, self.dim), np.float32)
            return tower.encode(pixels_BHWC)

        if tower.at_once == 1:
            yield from map(encode, batches)
            return
        under_way: deque[Future[NDArray[np.float32]]] = deque()
        with ThreadPoolExecutor(tower.at_once) as pool:
            for batch in batches:
                under_way.append(pool.submit(encode, batch))
                if len(under_way) == tower.at_once:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Return unit vectors, float32 (T, D), one row a text, in order.

        A text that is longer than the model's context is cut off there, as open_clip does.
        """
        import torch

        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                tokens = self._tokenizer(list(texts[start : start + batch_size]))
                vectors = self._model.encode_text(tokens, normalize=True)
                rows[start : start + len(tokens)] = vectors.float().numpy()
        return rows

    def _tower(self) -> ImageTower:
        if self._made is None:
            self._made = self._make_tower()
        return self._made


def encoder_id(config: EncoderConfig) -> str:
    """Return the id that `load_encoder(config)` would have, without building the model.

    Quick for a checkpoint folder, where torch is not even imported; for a named model, open_clip is
    imported and may download the weights. Raises EncoderUnavailable as `load_encoder` does.
    """
    return resolve(config).id(precision_of(config.backend), config.calibration)


def load_encoder(config: EncoderConfig) -> ClipEncoder:
    """Return the encoder that `config` names, ready to encode.

    Raises EncoderUnavailable for an unknown name or tag, a missing file or folder, a file that is
    not a checkpoint, weights that do not fit the architecture, a download that failed, and the
    backend "auto", which has to be measured first.
    """
    precision = precision_of(config.backend)
    clip = resolve(config)
    model, preprocessing, tokenizer = built(clip)
    identity = clip.id(precision, config.calibration)

    def make_tower() -> ImageTower:
        if config.backend == "torch-bf16":
            from model.device_tower import cuda_tower

            return cuda_tower(model, preprocessing)
        if config.backend == "torch":
            return TorchTower(model, preprocessing)
        from model.onnx_tower import OnnxTower, exported, quantised

        path = exported(model, preprocessing, config.cache / clip.id("fp32"), clip.shown)
        if config.backend == "onnx-int8":
            path = quantised(path, config.cache / identity, config.calibration)
        return OnnxTower(path, threads=config.threads)

    return ClipEncoder(
        encoder_id=identity,
        dim=int(clip.architecture["embed_dim"]),
        model=model,
        preprocessing=preprocessing,
        tokenizer=tokenizer,
        make_tower=make_tower,
    )


def tower_file(config: EncoderConfig) -> Path:
    """Return the image tower of `config` as an ONNX file, made on first use and checked by torch.

    Its input "pixels" is uint8 (B, height, width, 3), its output "embedding" float32 (B, D), unit.
    Raises EncoderUnavailable as `load_encoder` does.
    """
    from model.onnx_tower import exported, quantised

    clip = resolve(config)
    model, preprocessing, _ = built(clip)
    path = exported(model, preprocessing, config.cache / clip.id("fp32"), clip.shown)
    if config.backend == "onnx-int8":
        path = quantised(path, config.cache / encoder_id(config), config.calibration)
    return path


def built(clip: Clip) -> tuple[ClipModel, Preprocessing, Callable[[list[str]], torch.Tensor]]:
    """Return open_clip's model with its weights, what pictures it wants, and its tokenizer."""
    import open_clip
    import safetensors

    with _quiet_open_clip():
        try:
            model = open_clip.create_model(
                clip.open_clip_name,
                precision="fp32",
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=clip.preprocessing,
            )
            tokenizer = open_clip.get_tokenizer(clip.open_clip_name)
            preprocessing = Preprocessing.of(open_clip.get_model_preprocess_cfg(model))
        except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
            raise EncoderUnavailable(
                f"open_clip cannot build {clip.shown}: {said(error)}; "
                "check its model_cfg and preprocess_cfg"
            ) from error
        try:
            open_clip.load_checkpoint(model, str(clip.weights))
        except (
            RuntimeError,
            ValueError,
            KeyError,
            AttributeError,
            AssertionError,  # a tower of another kind
            OSError,
            EOFError,
            StopIteration,
            pickle.UnpicklingError,
            safetensors.SafetensorError,
        ) as error:
            raise EncoderUnavailable(
                f"{clip.weights} does not hold weights for {clip.shown} "
                f"({said(error)}); give the checkpoint that belongs to it"
            ) from error
    model.eval()
    return model, preprocessing, tokenizer


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
