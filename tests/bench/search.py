"""Nearest neighbours among a million vectors in the object store: recall, and time a query.

Synthetic vectors of 512 dimensions in 16 bits, drawn around 2,000 centres of very unequal size, as
pictures of a crawl are. Their spectrum is that of real embeddings: of the variance of 2,042
photographs' (the stand-in's, all sets of ../shared/data) the first 1, 10, 50 and 200 directions hold
0.11, 0.41, 0.68 and 0.93, the participation ratio is 35; here 0.11, 0.45, 0.70 and 0.90, and 34.
Queries are drawn likewise and are not among them. Recall is against comparing all. The store is a
SeaweedFS of its own on loopback. Below the index's threshold all are compared in memory, where
`flows.held_vectors` keeps them; reading them there once is a figure of its own.

    make bench-search                    200,000 vectors: about a minute, and 1 GB of disk
    VECTORS=1000000 make bench-search    the issue's size, and what the targets are about: 4 GB
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.rows import embeddings_schema
from flows.search import INDEX_FROM
from flows.tables import Table
from tests.bench.report import Row, cpu_seconds, write
from tests.bench.stored import loopback_store

DIM, CENTRES, QUERIES, NEIGHBOURS = 512, 2000, 200, 10
CHUNK = 50_000
ADDED_SHARE = 0.01
"""Vectors that come after the index: half of what `flows.vector_index` lets be."""
EXACT_QUERIES = 20
WARM_UP = 20
"""Queries before the clock starts: a server that searches keeps what it has read of the index."""


class Spectrum:
    """Draws unit vectors like real embeddings: few directions hold most of what varies."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        variance_D = (np.arange(DIM) + 4.0) ** -1.5
        self._deviation_D = np.sqrt(variance_D / variance_D.sum()).astype(np.float32)
        self._centre_CD = self._normal(CENTRES)
        share_C = self._random.pareto(1.2, CENTRES) + 0.1
        self._share_C = share_C / share_C.sum()
        # Subjects differ in what varies within them.
        self._turns = [
            np.linalg.qr(self._random.normal(size=(DIM, DIM)))[0].astype(np.float32)
            for _ in range(8)
        ]

    def draw(self, rows: int) -> NDArray[np.float32]:
        """Return unit vectors, float32 (rows, DIM)."""
        chosen_N = self._random.choice(CENTRES, rows, p=self._share_C)
        vector_ND: NDArray[np.float32] = np.sqrt(np.float32(0.45)) * self._centre_CD[chosen_N]
        vector_ND += np.sqrt(np.float32(0.35)) * self._normal(rows)
        own_ND = np.sqrt(np.float32(0.2)) * self._normal(rows)
        for number, turn_DD in enumerate(self._turns):
            here_N = chosen_N % len(self._turns) == number
            vector_ND[here_N] += own_ND[here_N] @ turn_DD
        vector_ND /= np.linalg.norm(vector_ND, axis=1, keepdims=True)
        return vector_ND

    def _normal(self, rows: int) -> NDArray[np.float32]:
        drawn_ND: NDArray[np.float32] = self._random.standard_normal((rows, DIM), dtype=np.float32)
        drawn_ND *= self._deviation_D
        return drawn_ND


class Truth:
    """The nearest of all that was shown, by comparing all."""

    def __init__(self, queries_QD: NDArray[np.float32]) -> None:
        self._queries_QD = queries_QD
        self._best_QK = np.full((len(queries_QD), NEIGHBOURS), -2.0, np.float32)
        self.rows_QK = np.zeros((len(queries_QD), NEIGHBOURS), np.int64)

    def show(self, first_row: int, vector_ND: NDArray[np.float16]) -> None:
        """Look at rows `first_row` and on."""
        cosine_QN = self._queries_QD @ vector_ND.astype(np.float32).T
        rows_QN = np.broadcast_to(np.arange(first_row, first_row + len(vector_ND)), cosine_QN.shape)
        cosine = np.concatenate([self._best_QK, cosine_QN], axis=1)
        rows = np.concatenate([self.rows_QK, rows_QN], axis=1)
        top_QK = np.argpartition(-cosine, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        self._best_QK = np.take_along_axis(cosine, top_QK, axis=1)
        self.rows_QK = np.take_along_axis(rows, top_QK, axis=1)


def main() -> None:
    """Measure, print the table and write `.bench/search.json`."""
    count = int(os.environ.get("VECTORS", "200000"))
    with loopback_store() as (_, _, store):
        rows = _measure(store, count)
    write(
        "search",
        rows,
        runs=QUERIES,
        notes=f"{count:,} synthetic vectors of {DIM} dimensions, {ADDED_SHARE:.0%} more added "
        f"after the index; a query's time after {WARM_UP} others",
    )


def _measure(store: ObjectStore, count: int) -> list[Row]:
    catalog, spectrum = Catalog(store), Spectrum(0)
    queries_QD = spectrum.draw(QUERIES)
    truth = Truth(queries_QD[:EXACT_QUERIES])
    exact_rows = min(INDEX_FROM, count) - 1
    _add(store, "exact", spectrum, truth, range(exact_rows))
    started, started_cpu_s = time.perf_counter(), cpu_seconds()
    catalog.held_embeddings("exact")
    reading_s, reading_cpu_s = time.perf_counter() - started, cpu_seconds() - started_cpu_s
    exact = _searched(_compared(catalog, "exact"), queries_QD[:EXACT_QUERIES], truth)
    truth = Truth(queries_QD)
    _add(store, "indexed", spectrum, truth, range(count))
    started, started_cpu_s = time.perf_counter(), cpu_seconds()
    catalog.index_embeddings("indexed")
    making_s, making_cpu_s = time.perf_counter() - started, cpu_seconds() - started_cpu_s
    indexed = _searched(_indexed(catalog, "indexed"), queries_QD, truth)
    _add(store, "indexed", spectrum, truth, range(count, count + int(ADDED_SHARE * count)))
    added = _searched(_indexed(catalog, "indexed"), queries_QD, truth)
    return [
        Row(name=f"{exact_rows:,} read into memory", unit="s", value=reading_s),
        Row(name=f"{exact_rows:,} read into memory", unit="CPU s", value=reading_cpu_s),
        *_rows(f"{exact_rows:,} compared in memory", exact, recall=0.99, p95_ms=None),
        *_rows(f"{count:,} indexed", indexed, recall=0.95),
        *_rows("the same, and what came since", added, recall=0.95),
        Row(name="making the index", unit="s", value=making_s),
        Row(name="making the index", unit="CPU s", value=making_cpu_s),
    ]


def _add(store: ObjectStore, encoder: str, spectrum: Spectrum, truth: Truth, rows: range) -> None:
    schema = embeddings_schema(DIM)
    table = Table(store, f"embeddings/{encoder}", schema)
    for start in range(rows.start, rows.stop, CHUNK):
        vector_ND = spectrum.draw(min(CHUNK, rows.stop - start)).astype(np.float16)
        truth.show(start, vector_ND)
        ids = pa.array([f"{start + row:064x}" for row in range(len(vector_ND))])
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vector_ND.ravel()), DIM)
        table.append(pa.Table.from_arrays([ids, flat], schema=schema))


Search = Callable[[NDArray[np.float32]], list[tuple[str, float]]]


def _indexed(catalog: Catalog, encoder: str) -> Search:
    return lambda query_D: catalog.nearest(encoder, query_D, limit=NEIGHBOURS)


def _compared(catalog: Catalog, encoder: str) -> Search:
    def search(query_D: NDArray[np.float32]) -> list[tuple[str, float]]:
        held = catalog.held_embeddings(encoder)
        assert held is not None
        return list(itertools.islice(held.ranked(query_D), NEIGHBOURS))

    return search


def _searched(
    search: Search, queries_QD: NDArray[np.float32], truth: Truth
) -> tuple[float, NDArray[np.float64], float]:
    """Return recall, milliseconds of each query, and CPU milliseconds a query of this process."""
    for query_D in queries_QD[-WARM_UP:]:
        search(query_D)
    taken_ms, right, before = [], 0, cpu_seconds()
    for query_D, true_K in zip(queries_QD, truth.rows_QK, strict=True):
        started = time.perf_counter()
        found = search(query_D)
        taken_ms.append(1000 * (time.perf_counter() - started))
        right += len({int(sha256, 16) for sha256, _ in found} & set(true_K.tolist()))
    cpu_ms = 1000 * (cpu_seconds() - before) / len(queries_QD)
    return right / truth.rows_QK.size, np.array(taken_ms), cpu_ms


def _rows(
    name: str,
    measured: tuple[float, NDArray[np.float64], float],
    *,
    recall: float,
    p95_ms: float | None = 100,
) -> list[Row]:
    found, taken_ms, cpu_ms = measured
    return [
        Row(name=f"{name}: recall@{NEIGHBOURS}", unit="", value=found, target=recall),
        Row(
            name=f"{name}: a query, 95th percentile",
            unit="ms",
            value=float(np.percentile(taken_ms, 95)),
            target=p95_ms,
            at_least=False,
        ),
        Row(name=f"{name}: a query, median", unit="ms", value=float(np.median(taken_ms))),
        Row(name=f"{name}: a query", unit="CPU ms", value=cpu_ms),
    ]


if __name__ == "__main__":
    main()
