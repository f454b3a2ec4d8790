"""The catalogue on a real store: merging, reading, and many processes at once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta

import lance
import numpy as np
import pytest

from flows.catalog import Catalog
from flows.errors import (
    BucketMissing,
    Corrupt,
    NotFound,
    Permanent,
    SchemaTooNew,
    StoreRefused,
    StoreUnavailable,
)
from flows.objects import ObjectStore
from flows.rows import (
    IMAGES,
    SCHEMA_VERSION_KEY,
    PreLabelRow,
)
from flows.settings import Settings
from infra.store import free_ports
from tests.flows.catalog_rows import (
    START,
    add_overlapping,
    decision,
    image,
    link,
    sha,
    write_everything,
)


@pytest.fixture
def catalog(object_store: ObjectStore) -> Catalog:
    return Catalog(object_store)


# ---- images ----


def test_empty_catalogue_reads_as_empty(catalog: Catalog) -> None:
    """Nothing has to be set up before the first reading."""
    assert list(catalog.images()) == []
    assert catalog.image(sha(1)) is None
    assert catalog.embeddings("tiny")[0] == []
    assert catalog.latest_decisions() == {}
    assert catalog.versions() == {}
    assert set(catalog.counts().values()) == {0}


def test_image_reads_as_it_was_added(catalog: Catalog) -> None:
    """Hashes above 2**63, microseconds, provenance and thumbnail all come back."""
    assert catalog.add_images([image(1)]) == 1

    assert catalog.image(sha(1)) == image(1)


def test_images_leave_thumbnails_out(catalog: Catalog) -> None:
    """Reading many images reads no thumbnail unless it is asked for."""
    catalog.add_images([image(1)])

    assert list(catalog.images()) == [dataclasses.replace(image(1), thumbnail=b"")]
    assert list(catalog.images(thumbnails=True)) == [image(1)]


def test_images_can_be_chosen_by_a_condition(catalog: Catalog) -> None:
    catalog.add_images([image(1), dataclasses.replace(image(2), width=100)])

    assert [row.sha256 for row in catalog.images("width < 200")] == [sha(2)]


def test_batches_hold_the_columns_asked_for(catalog: Catalog) -> None:
    catalog.add_images([image(1)])

    (batch,) = catalog.image_batches(["sha256", "phash"])

    assert batch.to_pylist() == [{"sha256": sha(1), "phash": 2**64 - 2}]


def test_same_image_from_two_places_is_one_row(catalog: Catalog) -> None:
    """The second place is added to the first's row, and the image is not new."""
    catalog.add_images([image(1, url="https://a.org/x", minute=0)])

    assert catalog.add_images([image(1, url="https://b.org/y", minute=1)]) == 0

    (row,) = catalog.images()
    assert [place.url for place in row.provenance] == ["https://a.org/x", "https://b.org/y"]
    assert row.shard == "shards/0.tar"


def test_same_image_twice_in_one_call_is_one_row(catalog: Catalog) -> None:
    assert catalog.add_images([image(1, url="https://a.org"), image(1, url="https://b.org")]) == 1
    assert catalog.counts()["images"] == 1


def test_order_of_adding_does_not_matter(object_store: ObjectStore, bucket: Settings) -> None:
    """Three findings of two images, added in every order, one at a time: the same rows."""
    found = [
        image(1, url="https://a.org/x", minute=2),
        image(1, url="https://b.org/y", minute=1),
        image(2, url="https://a.org/x", minute=0),
    ]
    outcomes = []
    for number, order in enumerate(itertools.permutations(found)):
        store = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}/order-{number}"}))
        catalog = Catalog(store)
        for row in order:
            catalog.add_images([row])
        outcomes.append(sorted(catalog.images(thumbnails=True), key=lambda row: row.sha256))

    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(outcomes[0]) == 2


def test_adding_again_commits_nothing(catalog: Catalog) -> None:
    """A rerun that brings nothing new leaves the table's version as it is."""
    catalog.add_images([image(1), image(2)])
    before = catalog.versions()

    assert catalog.add_images([image(1)]) == 0
    assert catalog.versions() == before


def test_more_images_than_one_condition_holds(catalog: Catalog) -> None:
    """Keys are looked up a thousand at a time; none falls between two parts."""
    rows = [image(number) for number in range(1100)]
    catalog.add_images(rows[:1050])

    assert catalog.add_images(rows) == 50
    assert set(catalog.sha256s()) == {row.sha256 for row in rows}
    assert set(catalog.thumbnails(row.sha256 for row in rows)) == {row.sha256 for row in rows}


def test_fingerprints_are_those_of_the_rows(catalog: Catalog) -> None:
    catalog.add_images([image(1), image(2)])

    prints = {each.sha256: each for each in catalog.fingerprints()}

    assert prints.keys() == {sha(1), sha(2)}
    assert (prints[sha(1)].phash, prints[sha(1)].size_bytes) == (2**64 - 2, 1000)


def test_duplicates_are_marked_and_cleared(catalog: Catalog) -> None:
    """Marking anew clears the mark of an image that is no longer mentioned."""
    catalog.add_images([image(1), image(2), image(3)])

    assert catalog.set_duplicates({sha(2): (sha(1), "perceptual")}) == 1
    assert catalog.duplicates() == {sha(2): sha(1)}
    assert catalog.permitted() == {sha(1), sha(3)}

    assert catalog.set_duplicates({sha(3): (sha(1), "same pixels")}) == 2
    assert catalog.duplicates() == {sha(3): sha(1)}
    assert catalog.image(sha(2)) == image(2)


def test_marking_the_same_again_commits_nothing(catalog: Catalog) -> None:
    catalog.add_images([image(1), image(2)])
    catalog.set_duplicates({sha(2): (sha(1), "perceptual")})
    before = catalog.versions()

    assert catalog.set_duplicates({sha(2): (sha(1), "perceptual")}) == 0
    assert catalog.versions() == before


def test_found_again_a_duplicate_stays_one(catalog: Catalog) -> None:
    catalog.add_images([image(1), image(2)])
    catalog.set_duplicates({sha(2): (sha(1), "perceptual")})
    catalog.add_images([image(2, url="https://b.org/again")])

    assert catalog.duplicates() == {sha(2): sha(1)}


def test_forbidden_image_is_not_permitted(catalog: Catalog) -> None:
    catalog.add_images([image(1), dataclasses.replace(image(2), consent_allowed=False)])

    assert catalog.permitted() == {sha(1)}


def test_image_bytes_are_read_from_their_shard(catalog: Catalog, object_store: ObjectStore) -> None:
    object_store.put("shards/0.tar", b"headerORIGINALpadding")
    row = dataclasses.replace(
        image(1), sha256=hashlib.sha256(b"ORIGINAL").hexdigest(), offset=6, size=8
    )
    catalog.add_images([row])

    assert catalog.read_image_bytes(row.sha256) == b"ORIGINAL"


def test_damaged_bytes_are_not_given_out(catalog: Catalog, object_store: ObjectStore) -> None:
    object_store.put("shards/0.tar", b"x" * 2000)
    catalog.add_images([image(1)])

    with pytest.raises(Corrupt, match=f"image {sha(1)} is damaged"):
        catalog.read_image_bytes(sha(1))


def test_bytes_of_an_unknown_image_are_not_found(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match=f"no image {sha(1)}"):
        catalog.read_image_bytes(sha(1))


# ---- links ----


def test_link_keeps_its_last_outcome(catalog: Catalog) -> None:
    """What was seen later stands, even when it is recorded first."""
    late, early = link("https://a.org/'1", minute=1, reason="timeout"), link("https://a.org/'1")

    assert catalog.record_links([late]) == 1
    assert catalog.record_links([early]) == 0
    assert list(catalog.links()) == [late]


def test_link_of_two_sources_is_two_rows(catalog: Catalog) -> None:
    """Each source knows by itself what became of an address."""
    catalog.record_links([link("https://a.org/1"), link("https://a.org/1", source="forum")])

    assert [row.source for row in catalog.links("forum")] == ["forum"]
    assert catalog.counts()["links"] == 2


def test_very_long_addresses_are_recorded(catalog: Catalog) -> None:
    """An address that holds a whole picture is more than one condition should spell out."""
    urls = [f"data:image/png;base64,{letter * 600_000}" for letter in "abc"]

    assert catalog.record_links([link(url) for url in urls]) == 3
    assert {row.url for row in catalog.links()} == set(urls)


# ---- embeddings ----


def test_embeddings_come_back_in_the_order_asked(catalog: Catalog) -> None:
    """Vectors of 16 bits belong to their ids; ids without a vector are left out."""
    vectors = np.eye(3, 4, dtype=np.float32)
    assert catalog.add_embeddings("tiny", [sha(1), sha(2), sha(3)], vectors) == 3

    ids, found = catalog.embeddings("tiny", [sha(3), sha(9), sha(1)])

    assert ids == [sha(3), sha(1)]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors[[2, 0]])


def test_all_embeddings_come_in_the_order_of_ids(catalog: Catalog) -> None:
    catalog.add_embeddings("tiny", [sha(2)], np.full((1, 4), 2.0))
    catalog.add_embeddings("tiny", [sha(1)], np.full((1, 4), 1.0))

    ids, found = catalog.embeddings("tiny")

    assert ids == sorted([sha(1), sha(2)])
    assert [row[0] for row in found] == [1.0 if each == sha(1) else 2.0 for each in ids]


def test_image_has_one_embedding(catalog: Catalog) -> None:
    """Embedding an image again, by a run that was killed, stores nothing twice."""
    catalog.add_embeddings("tiny", [sha(1)], np.ones((1, 4)))

    assert catalog.add_embeddings("tiny", [sha(1), sha(2), sha(2)], np.zeros((3, 4))) == 1
    assert catalog.embedding_count("tiny") == 2
    np.testing.assert_array_equal(catalog.embeddings("tiny", [sha(1)])[1], np.ones((1, 4)))


def test_what_is_not_embedded_is_known(catalog: Catalog) -> None:
    """Neither duplicates nor what this encoder has done are asked for again."""
    catalog.add_images([image(1), image(2), image(3), image(4)])
    catalog.set_duplicates({sha(2): (sha(1), "perceptual")})
    catalog.add_embeddings("tiny", [sha(3)], np.ones((1, 4)))

    assert catalog.without_embedding("tiny") == sorted([sha(1), sha(4)])
    assert catalog.without_embedding("other") == sorted([sha(1), sha(3), sha(4)])


def test_vectors_of_another_width_are_refused(catalog: Catalog) -> None:
    catalog.add_embeddings("tiny", [sha(1)], np.ones((1, 4)))

    with pytest.raises(Permanent, match="embeddings/tiny has other columns"):
        catalog.add_embeddings("tiny", [sha(2)], np.ones((1, 5)))


def test_vectors_that_are_not_numbers_are_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="not finite"):
        catalog.add_embeddings("tiny", [sha(1)], np.full((1, 4), np.nan))


def test_encoder_id_cannot_leave_its_folder(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="cannot be part of a path"):
        catalog.embedding_count("../images")


# ---- pre-labels and decisions ----


def test_prelabels_are_replaced(catalog: Catalog) -> None:
    """One score an image and label: the last one written; what is the same is not written."""
    row = PreLabelRow(sha256=sha(1), label="vinyl", score=0.1, taxonomy_id="t", encoder_id="e")
    other = dataclasses.replace(row, label="turntable")

    assert catalog.put_prelabels([row, other]) == 2
    assert catalog.put_prelabels([dataclasses.replace(row, score=0.75), other]) == 1

    scores = {each.label: each.score for each in catalog.prelabels()}
    assert scores == {"vinyl": 0.75, "turntable": pytest.approx(0.1)}


def test_decisions_are_all_kept(catalog: Catalog) -> None:
    """A second answer follows the first; it does not take its place."""
    catalog.add_decisions([decision(1, "no", minute=1)])
    catalog.add_decisions([decision(1, "yes", minute=0)])

    assert catalog.decisions() == [decision(1, "yes", minute=0), decision(1, "no", minute=1)]


def test_decision_that_is_written_twice_was_made_once(catalog: Catalog) -> None:
    """A commit that is made again, because its answer got lost, adds no decision."""
    catalog.add_decisions([decision(1, "yes")])
    catalog.add_decisions([decision(1, "yes")])

    assert catalog.decisions() == [decision(1, "yes")]
    assert catalog.counts()["decisions"] == 1


def test_latest_decision_holds(catalog: Catalog) -> None:
    """The last word counts, whoever says it and in whatever order it arrives."""
    last = decision(1, "no", who="bob", minute=2)
    catalog.add_decisions([last, decision(1, "yes", minute=1), decision(2, "yes")])

    assert catalog.latest_decisions() == {
        (sha(1), "vinyl"): last,
        (sha(2), "vinyl"): decision(2, "yes"),
    }


def test_disagreement_is_between_last_words(catalog: Catalog) -> None:
    """Two people disagree while their last words are yes and no; unsure is no disagreement."""
    catalog.add_decisions(
        [
            decision(1, "yes", who="ann"),
            decision(1, "no", who="bob"),
            decision(2, "no", who="ann", minute=0),
            decision(2, "yes", who="ann", minute=1),
            decision(2, "yes", who="bob"),
            decision(3, "yes", who="ann"),
            decision(3, "unsure", who="bob"),
        ]
    )

    assert catalog.disagreements() == 1


def test_versions_name_every_table(catalog: Catalog) -> None:
    catalog.add_images([image(1)])
    catalog.add_embeddings("tiny", [sha(1)], np.ones((1, 4)))

    assert catalog.versions().keys() == {"images", "embeddings/tiny"}


# ---- many processes ----


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Three processes, started as Lance needs it: by spawn."""
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_that_add_the_same_images_lose_nothing(
    processes: ProcessPoolExecutor, bucket: Settings, catalog: Catalog
) -> None:
    """Three processes make the table and add the same images at once: one row each, all places."""
    new = list(processes.map(add_overlapping, [bucket] * 3, range(3)))

    rows = list(catalog.images())
    assert Counter(row.sha256 for row in rows) == Counter(sha(number) for number in range(40))
    assert {len(row.provenance) for row in rows} == {3}
    assert {row.shard for row in rows} == {"shards/0.tar"}
    assert sum(new) == 40


def test_processes_that_write_everything_lose_nothing(
    processes: ProcessPoolExecutor, bucket: Settings, catalog: Catalog
) -> None:
    """Decisions all stay, links keep the last outcome, an image has one vector."""
    list(processes.map(write_everything, [bucket] * 3, range(3)))

    assert len(catalog.decisions()) == 9
    assert [row.seen_at for row in catalog.links()] == [START + timedelta(minutes=2)] * 3
    assert catalog.embedding_count("tiny") == 3 + 9


# ---- refusals ----


def test_newer_schema_is_refused(catalog: Catalog, object_store: ObjectStore) -> None:
    """A table of a newer cratedig is neither read nor written; the error says what to do."""
    newer = IMAGES.with_metadata({SCHEMA_VERSION_KEY: b"99"})
    lance.write_dataset(
        newer.empty_table(),
        object_store.uri("tables/images.lance"),
        storage_options=object_store.lance_options(),
    )

    with pytest.raises(SchemaTooNew, match=r"table images has schema version 99.*upgrade cratedig"):
        catalog.add_images([image(1)])


def test_foreign_table_is_refused(catalog: Catalog, object_store: ObjectStore) -> None:
    lance.write_dataset(
        IMAGES.remove_metadata().empty_table(),
        object_store.uri("tables/images.lance"),
        storage_options=object_store.lance_options(),
    )

    with pytest.raises(Permanent, match="not a table of cratedig's"):
        list(catalog.images())


def test_missing_bucket_is_named(bucket: Settings) -> None:
    store = ObjectStore(bucket.model_copy(update={"bucket": "nobody-made-this-one"}))

    with pytest.raises(BucketMissing, match="no bucket 'nobody-made-this-one'"):
        list(Catalog(store).images())


def test_unreachable_store_is_named(bucket: Settings) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = ObjectStore(bucket.model_copy(update={"endpoint": endpoint}), attempts=1)

    with pytest.raises(StoreUnavailable, match=f"{endpoint} cannot be reached"):
        list(Catalog(store).images())


def test_wrong_key_is_named(bucket: Settings) -> None:
    wrong = bucket.model_copy(update={"secret_key": bucket.access_key})

    with pytest.raises(StoreRefused, match="CRATEDIG_SECRET_KEY"):
        list(Catalog(ObjectStore(wrong)).images())


def test_loopback_needs_no_proxy(bucket: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for tables on this machine."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "elsewhere.example.org")
    catalog = Catalog(ObjectStore(bucket))

    assert catalog.add_images([image(1)]) == 1
