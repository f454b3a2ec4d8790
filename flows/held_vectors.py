"""An encoder's vectors in memory, kept between uses for as long as its table has no others.

Shapes: N vectors of a table, M of them that are asked for, D embedding.
"""

from __future__ import annotations

import bisect
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.tables import Table

HELD_ROWS = 100_000
"""Tables of so many vectors or more are not held.

So many of 512 numbers are 98 MiB, and their ids 12; those of one table are there twice while new
ones are put between them.
"""

HELD_TABLES = 2
"""Most tables that are held: the project's encoder, and the one that was fine-tuned from it."""

_ROWS_AT_ONCE = 1024
"""So many are made float32 at a time: 2 MiB of 512 numbers each, which stay in the cache."""

_KEPT_BITS = np.uint32(0x8FFF_E000).view(np.int32)
"""Sign, 5 bits of exponent and 10 of fraction; three more are copies of the sign."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """All N vectors of a table at one moment, in the order of their ids."""

    sha256s: Sequence[str]
    vectors_ND: NDArray[np.float16]

    def of(self, sha256s: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids asked for, less those without a vector, and their vectors (M, D); or all."""
        if sha256s is None:
            return list(self.sha256s), widened(self.vectors_ND)
        rows = [row for sha256 in sha256s if (row := self._row(sha256)) is not None]
        return [self.sha256s[row] for row in rows], widened(self.vectors_ND[rows])

    def ranked(self, vector_D: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
        """Yield every id with its cosine with a unit vector, highest first, equal ones by their ids."""
        if not self.sha256s:
            return
        # Not `@`, whose threads wait for each other at every part: ten times as long on busy cores.
        parts = [
            np.vecdot(widened(self.vectors_ND[start : start + _ROWS_AT_ONCE]), vector_D)
            for start in range(0, len(self.sha256s), _ROWS_AT_ONCE)
        ]
        cosine_N = np.concatenate(parts)
        for row in np.argsort(-cosine_N, kind="stable"):
            yield self.sha256s[row], float(cosine_N[row])

    def _row(self, sha256: str) -> int | None:
        row = bisect.bisect_left(self.sha256s, sha256)
        return row if row < len(self.sha256s) and self.sha256s[row] == sha256 else None


class HeldVectors:
    """Keeps the vectors of the tables that were used last; safe to share between threads.

    With `outside_index`, of each table only those that its index does not hold.
    """

    def __init__(self, *, outside_index: bool = False) -> None:
        self._index_of = "vector" if outside_index else None
        self._reading = threading.Lock()
        self._held: OrderedDict[str, tuple[frozenset[str], Vectors]] = OrderedDict()

    def get(self, table: Table, *, below: int = HELD_ROWS) -> Vectors | None:
        """Return the vectors of a table as it is now; None where they are `below` or more.

        Of a table that has grown only the new rows are read. Raises as `Table` does.
        """
        # One at a time: two that ask for the same would each read it.
        with self._reading:
            known, before = self._held.pop(table.name, (frozenset[str](), None))
            since = table.since(["sha256", "vector"], known, outside_index_of=self._index_of)
            if since.rows >= min(below, HELD_ROWS):
                return None
            vectors = before
            if before is None or since.pieces != known:
                vectors = _joined(None if since.whole else before, list(since.batches))
            assert vectors is not None  # noqa: S101 - for the type checker
            self._held[table.name] = since.pieces, vectors
            while len(self._held) > HELD_TABLES:
                self._held.popitem(last=False)
            return vectors


def widened(vectors_ND: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite numbers of 16 bits in 32, as `astype` does in four times as long (numpy 2.4).

    The bits of exponent and fraction are moved to where float32 has them; then only the offset of
    the exponent is another, by 127 - 15. Infinities, which no stored vector has, would become 65536.
    """
    bits_ND = vectors_ND.view(np.int16).astype(np.int32)
    bits_ND <<= 13
    bits_ND &= _KEPT_BITS
    wide_ND: NDArray[np.float32] = bits_ND.view(np.float32)
    wide_ND *= np.float32(2.0**112)
    return wide_ND


def vectors_of(batch: pa.RecordBatch) -> NDArray[np.float16]:
    """Return the vectors of a batch with the column "vector", (M, D)."""
    column = batch.column("vector")
    # flatten, unlike values, leaves out what a filter or an offset has left out.
    flat: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, column.type.list_size)


def _joined(before: Vectors | None, batches: Sequence[pa.RecordBatch]) -> Vectors:
    ids = [] if before is None else list(before.sha256s)
    parts = [] if before is None else [before.vectors_ND]
    for batch in batches:
        ids += batch.column("sha256").to_pylist()
        parts.append(vectors_of(batch))
    if not parts:
        return Vectors(sha256s=(), vectors_ND=np.empty((0, 0), np.float16))
    order = sorted(range(len(ids)), key=ids.__getitem__)
    vectors_ND = np.empty((len(ids), parts[0].shape[1]), np.float16)
    to_row = np.empty(len(ids), np.intp)
    to_row[order] = np.arange(len(ids))
    at = 0
    for part in parts:
        vectors_ND[to_row[at : at + len(part)]] = part
        at += len(part)
    return Vectors(sha256s=tuple(ids[row] for row in order), vectors_ND=vectors_ND)
