"""The project's encoder as the studio's pages share it: loaded once, when one first asks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flows.studio.reader import Reader

if TYPE_CHECKING:  # torch is imported when the encoder is loaded, not when the studio starts
    from numpy.typing import NDArray
    from PIL import Image

    from flows.encoders import EncoderSource
    from model.encoder import ClipEncoder


class EncoderShelf:
    """Gives the project's encoder to any number of threads; another one when project.toml names it.

    Loading takes seconds and an encoder some hundred megabytes, so there is never more than one.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._loading = threading.Lock()
        # Two pictures at once would share the cores and be no sooner.
        self._encoding = threading.Lock()
        self._made_for: object = None
        self._source: EncoderSource | None = None

    def get(self) -> ClipEncoder:
        """Return the encoder, loaded. Raises EncoderUnavailable, one sentence, when it cannot be."""
        with self._loading:
            return self._current().load()

    def id(self) -> str:
        """Return the encoder's id, without loading it. Raises as `get`."""
        with self._loading:
            return self._current().id()

    def source(self) -> EncoderSource:
        """Return what gives the encoder, its id and the prompts' embeddings."""
        with self._loading:
            return self._current()

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (N, D); one caller's pictures at a time."""
        encoder = self.get()
        with self._encoding:
            return encoder.encode_images(images)

    def encode_pixels(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D), of what the preprocessing has made, likewise."""
        encoder = self.get()
        with self._encoding:
            size = encoder.batch_size
            parts = [
                encoder.encode_pixels(pixels_BHWC[start : start + size])
                for start in range(0, len(pixels_BHWC), size)
            ]
        return np.concatenate(parts)

    def _current(self) -> EncoderSource:
        from flows.encoders import EncoderSource

        workspace = self._reader.workspace()
        # What the encoder and its id depend on: an edit of anything else reloads nothing.
        wanted = (workspace.project.encoder_config(), workspace.settings)
        if self._source is None or wanted != self._made_for:
            self._source = None  # the old one's memory goes before the new one comes
            self._source, self._made_for = EncoderSource(workspace), wanted
        return self._source
