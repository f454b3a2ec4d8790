"""Words to pictures and picture to pictures, over every embedded picture that may be used.

Below INDEX_FROM rows every vector is compared, in memory (`flows.held_vectors`); beyond, Lance's
index finds the neighbours.

Shapes: D embedding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawler.decode import decode
from crawler.rejections import ImageRejected
from flows.catalog import Catalog
from flows.conditions import sql_in
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.held_vectors import HELD_ROWS
from flows.rows import Provenance
from flows.workspace import Workspace

INDEX_FROM = HELD_ROWS
"""Rows from which on the index is searched: fewer are held in memory and compared in some 0.1 s."""

_MOST_NEIGHBOURS = 10_000
"""Where not even so many neighbours hold enough usable pictures, those that do are all there is."""


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
    workspace: Workspace,
    source: EncoderSource,
    vector_D: NDArray[np.float32],
    *,
    limit: int = 20,
    index_from: int = INDEX_FROM,
) -> list[Hit]:
    """Return what `nearest_permitted` does, with thumbnails and where the pictures came from."""
    found = nearest_permitted(workspace, source, vector_D, limit=limit, index_from=index_from)
    if not found:
        return []
    where = sql_in("sha256", [sha256 for sha256, _ in found])
    rows = {row.sha256: row for row in workspace.catalog.images(where, thumbnails=True)}
    return [
        Hit(
            sha256=sha256,
            score=score,
            thumbnail=rows[sha256].thumbnail,
            provenance=rows[sha256].provenance,
        )
        for sha256, score in found
        if sha256 in rows  # not forgotten in between
    ]


def nearest_permitted(
    workspace: Workspace,
    source: EncoderSource,
    vector_D: NDArray[np.float32],
    *,
    limit: int,
    index_from: int = INDEX_FROM,
) -> list[tuple[str, float]]:
    """Return the ids of the `limit` pictures nearest to a unit vector, and their cosines, nearest first.

    Only distinct pictures that may be used, which are fewer than `limit` in a small dataset.
    """
    catalog = workspace.catalog
    held = catalog.held_embeddings(source.id(), below=index_from)
    if held is not None:
        return _permitted(catalog, held.ranked(vector_D), limit)
    count = catalog.embedding_count(source.id())
    # Duplicates and forbidden pictures are among the neighbours: ask for more than are wanted, and
    # for more again where most of them were.
    asked = 2 * limit
    while True:
        found = _permitted(catalog, catalog.nearest(source.id(), vector_D, limit=asked), limit)
        if len(found) == limit or asked >= min(count, _MOST_NEIGHBOURS):
            return found
        asked *= 4


def _permitted(
    catalog: Catalog, ranked: Iterable[tuple[str, float]], limit: int
) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    left = iter(ranked)
    while len(found) < limit and (part := list(itertools.islice(left, 2 * limit))):
        permitted = catalog.permitted_among(sha256 for sha256, _ in part)
        found += [each for each in part if each[0] in permitted]
    return found[:limit]
