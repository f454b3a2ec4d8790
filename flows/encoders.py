"""The project's encoder, loaded only when something really has to be embedded.

Loading a CLIP model takes seconds; training, scoring and predicting from stored embeddings need only
its id and the embeddings of the prompts, which are kept in the bucket:

    prompts/<encoder>/<taxonomy>.npz

With backend = "auto" the choice is the project's, not a machine's, because vectors of two
precisions must not meet; it is measured once, on the project's own pictures, and kept:

    encoders/<id in float32>.json             the backend, and what was tried
    encoders/calibration-<...>.npy            the pictures that an int8 model was calibrated on
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from crawler.decode import decode
from crawler.rejections import ImageRejected
from flows.errors import Corrupt, NotFound
from flows.workspace import Workspace
from model.encoder import ClipEncoder, EncoderConfig, encoder_id, load_encoder
from model.labels import Taxonomy
from model.prelabel import PromptEmbeddings, embed_prompts

_MEASURED_ON = 48
"""Pictures of the project that backends are compared on."""


class EncoderSource:
    """Gives the encoder's id, the encoder, and the embeddings of prompts, each when asked for."""

    seen: frozenset[str] = frozenset()
    """Pictures of the project that it was fitted on: it may not be judged on them."""

    def __init__(self, workspace: Workspace) -> None:
        self._store = workspace.store
        self._workspace = workspace
        self._given = dataclasses.replace(
            workspace.project.encoder_config(), cache=workspace.root / ".cratedig" / "encoders"
        )
        self._chosen: EncoderConfig | None = None
        self._id: str | None = None
        self._encoder: ClipEncoder | None = None

    def id(self) -> str:
        """Return the encoder's id, without loading it. Raises EncoderUnavailable.

        With backend "auto", the first call of a project measures, which takes up to a minute.
        """
        if self._id is None:
            self._id = encoder_id(self.config())
        return self._id

    def kin_id(self) -> str:
        """Return the id of the encoder by whose vectors pictures are kin."""
        return self.id()

    def load(self) -> ClipEncoder:
        """Return the encoder, loaded once. Raises EncoderUnavailable with what to do."""
        if self._encoder is None:
            self._encoder = load_encoder(self.config())
        return self._encoder

    def prompts(self, taxonomy: Taxonomy) -> PromptEmbeddings:
        """Return the embeddings of the taxonomy's prompts, from the bucket when it has them."""
        key = f"prompts/{self.id()}/{taxonomy.id}.npz"
        if self._store.head(key) is None:
            self._store.put_once(key, _to_npz(embed_prompts(self.load(), taxonomy)))
        return _from_npz(self._store.get(key))

    def config(self) -> EncoderConfig:
        """Return what to load; its backend is never "auto" where there is a picture to measure on."""
        if self._given.backend != "auto":
            return self._given
        if self._chosen is None:
            reference = dataclasses.replace(self._given, backend="torch")
            key = f"encoders/{encoder_id(reference)}.json"
            if self._store.head(key) is None and not self._choose(reference, key):
                return reference  # there is no picture to measure on yet, nor a vector to differ
            self._chosen = self._recalled(key)
        return self._chosen

    def _choose(self, reference: EncoderConfig, key: str) -> bool:
        """Measure and record the choice; False when there is nothing to measure on."""
        from model.backends import choose_backend

        images = list(itertools.islice(self._pictures(), _MEASURED_ON))
        if not images:
            return False
        # A project that has vectors of the reference's kind keeps to them.
        there = self._workspace.catalog.embedding_count(encoder_id(reference)) > 0
        choice = choose_backend(
            reference,
            images,
            self._workspace.project.taxonomy(),
            only_id=encoder_id(reference) if there else None,
        )
        calibration = choice.config.calibration
        if calibration is not None:
            self._store.put_once(f"encoders/{calibration.name}", calibration.read_bytes())
        record = {
            "backend": choice.config.backend,
            "calibration": None if calibration is None else calibration.name,
            "why": str(choice),
        }
        # Of two processes that measure at once, the first one's choice stands.
        self._store.put_once(key, json.dumps(record, indent=2).encode())
        return True

    def _recalled(self, key: str) -> EncoderConfig:
        record = json.loads(self._store.get(key))
        calibration = None
        if record["calibration"] is not None:
            calibration = self._given.cache / record["calibration"]
            if not calibration.exists():
                self._given.cache.mkdir(parents=True, exist_ok=True)
                unfinished = calibration.with_suffix(f".{os.getpid()}")
                unfinished.write_bytes(self._store.get(f"encoders/{calibration.name}"))
                unfinished.replace(calibration)
        return dataclasses.replace(self._given, backend=record["backend"], calibration=calibration)

    def _pictures(self) -> Iterator[Image.Image]:
        catalog = self._workspace.catalog
        for sha256 in sorted(catalog.permitted()):
            try:
                yield decode(catalog.read_image_bytes(sha256))
            except (ImageRejected, NotFound, Corrupt):
                continue  # embedding it will make it a row with a reason


def _to_npz(prompts: PromptEmbeddings) -> bytes:
    buffer = io.BytesIO()
    fields = dataclasses.asdict(prompts)
    np.savez(
        buffer, allow_pickle=False, **{name: np.asarray(value) for name, value in fields.items()}
    )
    return buffer.getvalue()


def _from_npz(data: bytes) -> PromptEmbeddings:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return PromptEmbeddings(
            taxonomy_id=str(arrays["taxonomy_id"]),
            encoder_id=str(arrays["encoder_id"]),
            labels=tuple(map(str, arrays["labels"])),
            positive_LD=arrays["positive_LD"],
            negative_LD=arrays["negative_LD"],
            offset_L=arrays["offset_L"],
            logit_scale=float(arrays["logit_scale"]),
        )
