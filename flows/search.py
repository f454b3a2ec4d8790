"""Words to pictures and picture to pictures, over every embedded picture that may be used.

Below INDEX_FROM rows every vector is compared; beyond, Lance's index finds the neighbours.

Shapes: N images, D embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawler.decode import decode
from crawler.rejections import ImageRejected
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.rows import ImageRow, Provenance
from flows.workspace import Workspace

INDEX_FROM = 100_000
"""Rows from which on an index is worth its making: 100,000 x 512 are compared in about 0.1 s."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One picture that was found."""

    sha256: str
    score: float
    """Cosine with what was asked for, in [-1, 1]."""
    thumbnail: bytes
    """JPEG."""
    provenance: tuple[Provenance, ...]


def query_vector(
    source: EncoderSource, words: str | None = None, picture: Path | None = None
) -> NDArray[np.float32]:
    """Return what to look for, a unit vector (D,): words, a picture in a file, or both together.

    Raises Permanent when neither is given, and for a file that is not there or does not decode.
    """
    parts = []
    if words is not None and words.strip():
        parts.append(source.load().encode_texts([words])[0])
    if picture is not None:
        try:
            image = decode(picture.read_bytes())
        except OSError as error:
            raise Permanent(f"{picture} cannot be read: {error.strerror}") from error
        except ImageRejected as error:
            raise Permanent(
                f"{picture} is not a picture that can be searched by: {error}"
            ) from error
        parts.append(source.load().encode_images([image])[0])
    if not parts:
        raise Permanent("there is nothing to search for: give words, or a picture, or both")
    sum_D = np.sum(parts, axis=0)
    return np.asarray(sum_D / np.linalg.norm(sum_D), np.float32)


def search(
    workspace: Workspace, source: EncoderSource, vector_D: NDArray[np.float32], *, limit: int = 20
) -> list[Hit]:
    """Return the `limit` pictures nearest to a unit vector, nearest first.

    Only distinct pictures that may be used, which are fewer than `limit` in a small dataset.
    """
    catalog = workspace.catalog
    if catalog.embedding_count(source.id()) < INDEX_FROM:
        sha256s, embeddings_ND = catalog.embeddings(source.id())
        ranked = rank(sha256s, embeddings_ND, vector_D) if sha256s else []
    else:
        # Duplicates and forbidden pictures are among the neighbours: ask for more than are wanted.
        ranked = catalog.nearest(source.id(), vector_D, limit=4 * limit)
    return _hits(workspace, ranked, limit)


def rank(
    sha256s: Sequence[str], embeddings_ND: NDArray[np.float32], vector_D: NDArray[np.float32]
) -> list[tuple[str, float]]:
    """Return every picture with its cosine, highest first; those alike in the order of their ids."""
    cosine_N = embeddings_ND @ vector_D
    order = np.lexsort((np.array(sha256s), -cosine_N))
    return [(sha256s[row], float(cosine_N[row])) for row in order]


def _hits(workspace: Workspace, ranked: Sequence[tuple[str, float]], limit: int) -> list[Hit]:
    found: list[Hit] = []
    for start in range(0, len(ranked), 4 * limit):
        part = ranked[start : start + 4 * limit]
        rows = _usable(workspace, [sha256 for sha256, _ in part])
        found += [
            Hit(
                sha256=sha256,
                score=score,
                thumbnail=rows[sha256].thumbnail,
                provenance=rows[sha256].provenance,
            )
            for sha256, score in part
            if sha256 in rows
        ]
        if len(found) >= limit:
            break
    return found[:limit]


def _usable(workspace: Workspace, sha256s: Sequence[str]) -> dict[str, ImageRow]:
    from flows.tables import sql_in

    where = f"{sql_in('sha256', sha256s)} AND duplicate_of IS NULL AND consent_allowed"
    return {row.sha256: row for row in workspace.catalog.images(where, thumbnails=True)}
