"""Nearest neighbours among a million vectors in the object store: recall, and time a query.

Synthetic vectors of 512 dimensions in 16 bits, drawn around 2,000 centres of very unequal size, as
pictures of a crawl are; queries are drawn likewise and are not among them. Recall is against
comparing all. The store is a SeaweedFS of its own on loopback.

    make bench-search               1,000,000 vectors: 3 GB of disk, a while of indexing
    VECTORS=100000 make bench-search
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import SecretStr

from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.rows import embeddings_schema
from flows.settings import Settings
from flows.tables import Table
from infra.local import LocalStack
from tests.bench.report import Row, write

DIM, CENTRES, QUERIES, NEIGHBOURS = 512, 2000, 200, 10
CHUNK = 50_000
ENCODER = "synthetic"


def main() -> None:
    """Measure, print the table and write `.bench/search.json`."""
    count = int(os.environ.get("VECTORS", "1000000"))
    with tempfile.TemporaryDirectory() as folder:
        stack = LocalStack(Path(folder))
        try:
            address = stack.up(parts=("store",))["store"]
            access, secret = stack.keys()
            settings = Settings(
                endpoint=address,
                access_key=SecretStr(access),
                secret_key=SecretStr(secret),
                bucket="bench",
            )
            store = ObjectStore(settings, attempts=20)
            store.ensure_bucket()
            _measure(store, count)
        finally:
            stack.down()


def _measure(store: ObjectStore, count: int) -> None:
    catalog = Catalog(store)
    random = np.random.default_rng(0)
    centres_CD = random.normal(size=(CENTRES, DIM)).astype(np.float32)
    share_C = random.pareto(1.2, CENTRES) + 0.1
    share_C /= share_C.sum()

    def draw(rows: int) -> NDArray[np.float32]:
        chosen = random.choice(CENTRES, rows, p=share_C)
        vectors = centres_CD[chosen] + 0.8 * random.normal(size=(rows, DIM)).astype(np.float32)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    queries_QD = draw(QUERIES)
    best_QK = np.full((QUERIES, NEIGHBOURS), -2.0, np.float32)
    true_QK = np.zeros((QUERIES, NEIGHBOURS), np.int64)
    schema = embeddings_schema(DIM)
    table = Table(store, f"embeddings/{ENCODER}", schema)
    for start in range(0, count, CHUNK):
        vectors = draw(min(CHUNK, count - start)).astype(np.float16)
        ids = [f"{start + row:064x}" for row in range(len(vectors))]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        table.append(pa.Table.from_arrays([pa.array(ids), flat], schema=schema))
        cosine = np.concatenate([best_QK, queries_QD @ vectors.astype(np.float32).T], axis=1)
        known = np.concatenate(
            [
                true_QK,
                np.broadcast_to(np.arange(start, start + len(vectors)), (QUERIES, len(vectors))),
            ],
            axis=1,
        )
        top = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
        best_QK = np.take_along_axis(cosine, top, axis=1)
        true_QK = np.take_along_axis(known, top, axis=1)
    started = time.perf_counter()
    catalog.index_embeddings(ENCODER)
    indexing_s = time.perf_counter() - started
    taken_ms, right = [], 0
    for query, truth in zip(queries_QD, true_QK, strict=True):
        started = time.perf_counter()
        found = catalog.nearest(ENCODER, query, limit=NEIGHBOURS)
        taken_ms.append(1000 * (time.perf_counter() - started))
        right += len({int(sha256, 16) for sha256, _ in found} & set(truth.tolist()))
    write(
        "search",
        [
            Row(name=f"recall@{NEIGHBOURS}", unit="", value=right / true_QK.size, target=0.95),
            Row(
                name="a query, 95th percentile",
                unit="ms",
                value=float(np.percentile(taken_ms, 95)),
                target=100,
                at_least=False,
            ),
            Row(name="a query, median", unit="ms", value=float(np.median(taken_ms))),
            Row(name="making the index", unit="s", value=indexing_s),
        ],
        runs=QUERIES,
        notes=f"{count:,} synthetic vectors of {DIM} dimensions",
    )


if __name__ == "__main__":
    main()
