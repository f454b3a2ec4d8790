"""Vectors that are kept in memory are always those of the table as it is."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from flows.catalog import Catalog
from flows.held_vectors import HELD_TABLES, Vectors, widened
from flows.objects import ObjectStore
from flows.tables import Table
from tests.flows.catalog_rows import sha


@pytest.fixture
def catalog(object_store: ObjectStore) -> Catalog:
    """A catalogue with three vectors of encoder "a", not stored in the order of their ids."""
    catalog = Catalog(object_store)
    catalog.add_embeddings("a", [sha(2), sha(0), sha(1)], np.eye(3, 8)[[2, 0, 1]])
    return catalog


def held(catalog: Catalog, encoder_id: str = "a") -> Vectors:
    vectors = catalog.held_embeddings(encoder_id)
    assert vectors is not None
    return vectors


def test_ranking_is_by_cosine_and_then_by_id() -> None:
    vectors_ND = np.array([[0.6, 0.8], [1, 0], [0.6, 0.8]], np.float16)
    vectors = Vectors(sha256s=("a", "b", "c"), vectors_ND=vectors_ND)
    ranked = list(vectors.ranked(np.array([0, 1], np.float32)))
    assert [sha256 for sha256, _ in ranked] == ["a", "c", "b"]
    assert [cosine for _, cosine in ranked] == pytest.approx([0.8, 0.8, 0], abs=1e-3)


def test_all_finite_numbers_of_16_bits_are_widened_exactly() -> None:
    """Signs, zeros of both signs, and those too small for a leading one, too."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = numbers[np.isfinite(numbers)].reshape(-1, 2)
    wide = widened(finite)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide.view(np.int32), finite.astype(np.float32).view(np.int32))


def test_vectors_are_read_once_and_have_16_bits(catalog: Catalog) -> None:
    vectors = held(catalog)
    assert vectors.vectors_ND.dtype == np.float16
    assert held(catalog) is vectors


def test_what_another_process_adds_is_there_at_the_next_use(
    catalog: Catalog, object_store: ObjectStore
) -> None:
    """Put where its id belongs, among those that were held."""
    held(catalog)
    Catalog(object_store).add_embeddings("a", [sha(3)], np.eye(8)[[3]])
    assert list(held(catalog).sha256s) == sorted(map(sha, range(4)))
    for number in range(4):
        assert next(held(catalog).ranked(np.eye(8, dtype=np.float32)[number])) == (sha(number), 1.0)


def test_what_another_process_deletes_is_gone_at_the_next_use(
    catalog: Catalog, object_store: ObjectStore
) -> None:
    """Also once the table has been packed."""
    held(catalog)
    table = Table(object_store, "embeddings/a", None)
    table.delete(["sha256"], lambda record: record["sha256"] == sha(1))
    assert list(held(catalog).sha256s) == sorted([sha(0), sha(2)])
    table.vacuum(timedelta(0))
    assert list(held(catalog).sha256s) == sorted([sha(0), sha(2)])


def test_an_index_makes_no_vector_be_read_again(catalog: Catalog) -> None:
    """It changes the version of the table, and none of its rows."""
    rows = np.random.default_rng(0).normal(size=(300, 8))
    catalog.add_embeddings("a", [sha(number) for number in range(3, 303)], rows)
    Table(catalog._store, "embeddings/a", None).vacuum(timedelta(0))
    vectors = held(catalog)
    before = catalog.versions()
    assert catalog.index_embeddings("a")
    assert catalog.versions() != before
    assert held(catalog) is vectors


def test_too_many_are_not_held(catalog: Catalog) -> None:
    """The bound of memory; they are read where they are needed, and are the same."""
    assert catalog.held_embeddings("a", below=3) is None
    assert catalog.held_embeddings("a", below=4) is not None


def test_only_the_last_used_tables_are_held(catalog: Catalog) -> None:
    names = [f"other-{number}" for number in range(HELD_TABLES)]
    for name in names:
        catalog.add_embeddings(name, [sha(0)], np.ones((1, 8)))
    first = held(catalog)
    others = [held(catalog, name) for name in names]
    assert all(held(catalog, name) is each for name, each in zip(names, others, strict=True))
    assert held(catalog) is not first


def test_an_encoder_that_has_embedded_nothing_holds_nothing(catalog: Catalog) -> None:
    assert list(held(catalog, "new").ranked(np.ones(8, np.float32))) == []
