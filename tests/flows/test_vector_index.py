"""The index over stored vectors: it is used, loses no row, sees what came since, and is kept up."""

from __future__ import annotations

from datetime import timedelta

import lance
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.catalog import Catalog
from flows.objects import ObjectStore
from flows.tables import Table
from tests.flows.catalog_rows import sha

ENCODER, ROWS, DIM = "clip-1", 10_000, 32


def vectors(rows: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors around forty centres, as pictures of a few subjects are."""
    random = np.random.default_rng(seed)
    centre_CD = np.random.default_rng(7).normal(size=(40, DIM))
    drawn = centre_CD[random.integers(0, 40, rows)] + 0.7 * random.normal(size=(rows, DIM))
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit.astype(np.float32)


def ids(start: int, stop: int) -> list[str]:
    return [sha(number) for number in range(start, stop)]


@pytest.fixture
def catalog(object_store: ObjectStore) -> Catalog:
    """A catalogue with ROWS vectors and an index over them."""
    catalog = Catalog(object_store)
    catalog.add_embeddings(ENCODER, ids(0, ROWS), vectors(ROWS))
    assert catalog.index_embeddings(ENCODER)
    return catalog


def found(catalog: Catalog, vector_D: NDArray[np.float32], limit: int) -> list[str]:
    return [sha256 for sha256, _ in catalog.nearest(ENCODER, vector_D, limit=limit)]


def test_few_vectors_have_no_index(object_store: ObjectStore) -> None:
    """Below the threshold nothing is made, and a search compares all rows."""
    catalog = Catalog(object_store)
    catalog.add_embeddings(ENCODER, ids(0, 200), vectors(200))
    assert not catalog.index_embeddings(ENCODER, from_rows=201)
    assert len(found(catalog, vectors(1)[0], 500)) == 200


def test_the_index_is_used(catalog: Catalog) -> None:
    """A search for all rows gets only those of the partitions that it looks into."""
    assert 0 < len(found(catalog, vectors(1)[0], ROWS)) < ROWS


def test_no_row_is_lost(catalog: Catalog) -> None:
    """Each of the stored vectors finds its own picture, with cosine 1."""
    rows, vector_ND = range(0, ROWS, 200), vectors(ROWS)
    nearest = [catalog.nearest(ENCODER, vector_ND[row], limit=1)[0] for row in rows]
    assert [sha256 for sha256, _ in nearest] == [sha(row) for row in rows]
    np.testing.assert_allclose([cosine for _, cosine in nearest], 1, atol=0.01)


def test_neighbours_are_those_of_comparing_all(catalog: Catalog) -> None:
    """Recall of the ten nearest is 0.95 or more."""
    vector_ND, right = vectors(ROWS), 0
    for query_D in vectors(40, seed=1):
        expected = np.argsort(-(vector_ND @ query_D))[:10]
        right += len({sha(int(row)) for row in expected} & set(found(catalog, query_D, 10)))
    assert right >= 0.95 * 400


def test_a_search_sees_what_came_after_the_index(catalog: Catalog) -> None:
    """And so does one from another process's point of view, through a session that is warm."""
    before = found(catalog, vectors(1)[0], 5)
    added = vectors(30, seed=2)
    Catalog(catalog._store).add_embeddings(ENCODER, ids(ROWS, ROWS + 30), added)
    assert [found(catalog, each, 1)[0] for each in added] == ids(ROWS, ROWS + 30)
    assert found(catalog, vectors(1)[0], 1) == before[:1]


def test_a_few_new_rows_stay_outside_and_many_are_added(catalog: Catalog) -> None:
    """All are found either way, and the index keeps its partitions."""
    catalog.add_embeddings(ENCODER, ids(ROWS, ROWS + 30), vectors(30, seed=2))
    assert not catalog.index_embeddings(ENCODER)
    more = vectors(300, seed=3)
    catalog.add_embeddings(ENCODER, ids(ROWS + 30, ROWS + 330), more)
    assert catalog.index_embeddings(ENCODER)
    assert not catalog.index_embeddings(ENCODER)
    assert [found(catalog, each, 1)[0] for each in more[::20]] == ids(ROWS + 30, ROWS + 330)[::20]
    assert len(found(catalog, vectors(1)[0], 2 * ROWS)) < ROWS


def test_an_index_of_another_kind_is_made_anew(catalog: Catalog, object_store: ObjectStore) -> None:
    """Until then a search compares all: nothing is taken from one whose scale is another."""
    uri = object_store.uri(f"tables/embeddings/{ENCODER}.lance")
    dataset = lance.dataset(uri, storage_options=object_store.lance_options())
    dataset.create_index(
        "vector",
        index_type="IVF_SQ",
        name="vector_index",
        metric="cosine",
        replace=True,
        num_partitions=4,
    )
    cosine_N = vectors(ROWS) @ vectors(1, seed=1)[0]
    nearest = catalog.nearest(ENCODER, vectors(1, seed=1)[0], limit=5)
    assert [sha256 for sha256, _ in nearest] == [sha(row) for row in np.argsort(-cosine_N)[:5]]
    assert [cosine for _, cosine in nearest] == pytest.approx(sorted(cosine_N)[:-6:-1], abs=1e-3)
    assert catalog.index_embeddings(ENCODER)
    assert not catalog.index_embeddings(ENCODER)
    assert len(found(catalog, vectors(1)[0], ROWS)) < ROWS


def test_vectors_of_an_odd_width_are_searched_without_an_index(object_store: ObjectStore) -> None:
    catalog = Catalog(object_store)
    odd_ND = vectors(300)[:, :12] / np.linalg.norm(vectors(300)[:, :12], axis=1, keepdims=True)
    catalog.add_embeddings(ENCODER, ids(0, 300), odd_ND)
    assert not catalog.index_embeddings(ENCODER)
    assert [found(catalog, odd_ND[row], 1)[0] for row in (0, 299)] == [sha(0), sha(299)]


def test_too_many_outside_the_index_are_compared_by_lance(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not held in memory are found all the same, and with the same cosines."""
    catalog.add_embeddings(ENCODER, ids(ROWS, ROWS + 30), vectors(30, seed=2))
    query_D = vectors(30, seed=2)[7]
    held = catalog.nearest(ENCODER, query_D, limit=10)
    monkeypatch.setattr("flows.held_vectors.HELD_ROWS", 30)
    by_lance = catalog.nearest(ENCODER, query_D, limit=10)
    assert by_lance[0][0] == sha(ROWS + 7)
    assert len({sha256 for sha256, _ in held} & {sha256 for sha256, _ in by_lance}) >= 9
    for sha256, cosine in by_lance:
        assert dict(held).get(sha256, cosine) == pytest.approx(cosine, abs=0.01)


def test_an_index_that_was_made_for_far_fewer_rows_is_made_anew(object_store: ObjectStore) -> None:
    """Its few partitions would each hold too many rows."""
    catalog = Catalog(object_store)
    catalog.add_embeddings(ENCODER, ids(0, 200), vectors(200))
    catalog.index_embeddings(ENCODER)
    catalog.add_embeddings(ENCODER, ids(200, ROWS), vectors(ROWS - 200, seed=4))
    assert catalog.index_embeddings(ENCODER)
    assert len(found(catalog, vectors(1)[0], ROWS)) < ROWS
    assert found(catalog, vectors(ROWS - 200, seed=4)[5], 1) == [sha(205)]


def test_a_forgotten_row_is_not_found_and_packing_the_table_keeps_the_others(
    catalog: Catalog, object_store: ObjectStore
) -> None:
    table = Table(object_store, f"embeddings/{ENCODER}", None)
    gone = ids(0, ROWS)[::10]
    table.delete(["sha256"], lambda record: record["sha256"] in gone)
    table.vacuum(timedelta(0))
    assert found(catalog, vectors(ROWS)[10], 1) != [sha(10)]
    assert [found(catalog, vectors(ROWS)[row], 1)[0] for row in (11, 555)] == [sha(11), sha(555)]
