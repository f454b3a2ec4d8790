"""The project's encoder, loaded only when something really has to be embedded.

Loading a CLIP model takes seconds; training, scoring and predicting from stored embeddings need only
its id and the embeddings of the prompts, which are kept in the bucket:

    prompts/<encoder>/<taxonomy>.npz
"""

from __future__ import annotations

import dataclasses
import io

import numpy as np

from flows.workspace import Workspace
from model.encoder import ClipEncoder, encoder_id, load_encoder
from model.labels import Taxonomy
from model.prelabel import PromptEmbeddings, embed_prompts


class EncoderSource:
    """Gives the encoder's id, the encoder, and the embeddings of prompts, each when asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._store = workspace.store
        self._config = workspace.project.encoder_config()
        self._id: str | None = None
        self._encoder: ClipEncoder | None = None

    def id(self) -> str:
        """Return the encoder's id, without loading it. Raises EncoderUnavailable."""
        if self._id is None:
            self._id = encoder_id(self._config)
        return self._id

    def load(self) -> ClipEncoder:
        """Return the encoder, loaded once. Raises EncoderUnavailable with what to do."""
        if self._encoder is None:
            self._encoder = load_encoder(self._config)
        return self._encoder

    def prompts(self, taxonomy: Taxonomy) -> PromptEmbeddings:
        """Return the embeddings of the taxonomy's prompts, from the bucket when it has them."""
        key = f"prompts/{self.id()}/{taxonomy.id}.npz"
        if self._store.head(key) is None:
            self._store.put_once(key, _to_npz(embed_prompts(self.load(), taxonomy)))
        return _from_npz(self._store.get(key))


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
