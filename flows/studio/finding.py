"""What the Images page searches for: words, a picture of the dataset, or one that was dropped."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from flows.errors import NotFound
from flows.studio.encoders import EncoderShelf
from flows.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_FOUND = 300
"""The nearest pictures of the whole dataset; what a filter lets through of them is shown."""

DROPPED_KEPT = 64
"""Vectors of dropped pictures in memory, of some 2 kB each; an older one has to be dropped again."""


class Finder:
    """Searches through `flows.search`; safe to use from several threads."""

    def __init__(self, encoders: EncoderShelf) -> None:
        self._encoders = encoders
        self._lock = threading.Lock()
        self._dropped: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def drop(self, data: bytes) -> str:
        """Take a picture to search by; return the id to search for it by.

        Raises ImageRejected for bytes that are no picture, EncoderUnavailable.
        """
        from crawler.decode import decode

        vector_D = self._encoders.encode_images([decode(data)])[0]
        picture_id = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._dropped[picture_id] = vector_D
            while len(self._dropped) > DROPPED_KEPT:
                self._dropped.popitem(last=False)
        return picture_id

    def find(
        self, workspace: Workspace, *, words: str = "", like: str = "", limit: int = MOST_FOUND
    ) -> dict[str, float]:
        """Return the ids nearest to words, to a picture, or to both together, with their cosines.

        The nearest come first. `like` is an id of the dataset, or one that `drop` gave. Raises
        NotFound for one that is neither, EncoderUnavailable, or what the store raises.
        """
        import numpy as np

        from flows.search import nearest_permitted, query_vector

        source = self._encoders.source()
        parts = []
        if words:
            parts.append(query_vector(source, words=words))
        if like:
            parts.append(self._vector_of(workspace, like))
        sum_D = np.sum(parts, axis=0)
        vector_D = np.asarray(sum_D / np.linalg.norm(sum_D), np.float32)
        return dict(nearest_permitted(workspace, source, vector_D, limit=limit))

    def _vector_of(self, workspace: Workspace, like: str) -> NDArray[np.float32]:
        with self._lock:
            if like in self._dropped:
                return self._dropped[like]
        sha256s, stored_ND = workspace.catalog.embeddings(self._encoders.id(), [like])
        if sha256s:
            stored_D: NDArray[np.float32] = stored_ND[0]
            return stored_D
        try:
            data = workspace.catalog.read_image_bytes(like)
        except NotFound:
            raise NotFound(
                "the picture to search by is not here any longer: drop it again"
            ) from None
        self.drop(data)  # of the dataset, but not embedded yet: its id is the hash of its bytes
        with self._lock:
            return self._dropped[like]
