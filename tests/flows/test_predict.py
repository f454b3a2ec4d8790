"""Nights: what they label, one at a time, in parts, exactly once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

import flows.predict
from flows.errors import Transient
from flows.id_sets import IdSet
from flows.leases import BucketLeases
from flows.objects import ObjectStore
from flows.predict import LEASE, predict
from flows.predictions import Manifest, manifests, publish, published
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.catalog_rows import sha
from tests.flows.nights import add_pictures, open_project, put_model_into_production, run_night


@pytest.fixture
def workspace(tmp_path: Path, bucket: Settings) -> Workspace:
    """A project of 80 pictures and a model in production."""
    workspace = open_project(tmp_path, bucket)
    add_pictures(workspace, range(80))
    put_model_into_production(workspace)
    return workspace


def _times_labelled(workspace: Workspace, version: str) -> Counter[str]:
    return Counter(
        sha256
        for table in published(workspace.store, version)
        for sha256 in table.column("sha256").to_pylist()
    )


def test_a_night_labels_every_picture_with_its_own_score(workspace: Workspace) -> None:
    """Even ones are vinyl; each row carries the answer for its own picture."""
    result = predict(workspace)
    rows = {
        row["sha256"]: row
        for table in published(workspace.store, result.version)
        for row in table.to_pylist()
    }
    assert {each for each, row in rows.items() if row["answer"]} == {
        sha(number) for number in range(0, 80, 2)
    }
    assert {each for each, row in rows.items() if row["fitted"]} == set(map(sha, range(60)))
    assert result.answers == {"vinyl": 40}


def test_parts_are_bounded_and_each_counts_by_itself(workspace: Workspace) -> None:
    """A killed night loses one part at most; together they hold each picture once."""
    for numbers in (range(80, 100), range(100, 120)):  # batches of their own in the table
        add_pictures(workspace, numbers)
    result = predict(workspace, part_rows=30)
    found = manifests(workspace.store, result.version)
    assert [each.number for each in found] == list(range(len(result.parts)))
    assert len(result.parts) > 1
    assert sum(each.pictures for each in found) == 120
    assert set(_times_labelled(workspace, result.version).values()) == {1}


def test_a_missed_night_is_caught_up(workspace: Workspace) -> None:
    """What came before and after a night that never ran is labelled by the next."""
    predict(workspace)
    add_pictures(workspace, range(80, 90))
    add_pictures(workspace, range(90, 95))
    result = predict(workspace)
    assert (result.predicted, result.already_predicted) == (15, 80)


def test_arrivals_are_pre_labelled_too(workspace: Workspace) -> None:
    """Once: a night without arrivals scores nothing again."""
    assert predict(workspace).prelabelled == 80
    add_pictures(workspace, range(80, 90))
    assert predict(workspace).prelabelled == 10
    assert predict(workspace).prelabelled == 0
    scored = {row.sha256 for row in workspace.catalog.prelabels()}
    assert scored == workspace.catalog.permitted()


def test_a_new_model_labels_everything_by_default(workspace: Workspace) -> None:
    predict(workspace)
    put_model_into_production(workspace, seed=1)
    assert predict(workspace).predicted == 80


def test_a_new_model_labels_only_what_is_new_if_told_so(
    workspace: Workspace, tmp_path: Path, bucket: Settings
) -> None:
    """What the model before it has labelled is left as it is."""
    predict(workspace)
    put_model_into_production(workspace, seed=1)
    add_pictures(workspace, range(80, 90))
    frugal = open_project(tmp_path, bucket, '[predict]\nnew_model = "new"\n')
    assert predict(frugal).predicted == 10


def test_a_night_beside_another_is_refused(workspace: Workspace) -> None:
    """The lease is held by a worker that lives, and nothing is published."""
    with BucketLeases(workspace.store, "another night", ttl_s=5.0) as leases:
        assert leases.take(LEASE)
        with pytest.raises(Transient, match="another night is at work"):
            predict(workspace, lease_s=5.0)
    assert not list(workspace.store.list("predictions/"))


def test_a_killed_night_is_not_waited_for_long(workspace: Workspace) -> None:
    """Its lease runs out, since nobody renews it, and the next one does its work."""
    dead = BucketLeases(workspace.store, "killed", ttl_s=5.0)
    dead._start_renewing = lambda: None  # type: ignore[method-assign]  # as if it had been killed
    assert dead.take(LEASE)
    assert predict(workspace, lease_s=5.0).predicted == 80


def test_nights_that_meet_publish_each_picture_once(
    workspace: Workspace, tmp_path: Path, bucket: Settings
) -> None:
    """Three at once: they take turns, and the later ones find nothing left to do."""
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run_night(tmp_path, bucket), range(3)))
    assert sorted(each.predicted for each in results) == [0, 0, 80]
    assert set(_times_labelled(workspace, results[0].version).values()) == {1}


def test_a_publication_in_between_is_noticed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is taken makes the night look again, and publish what is still missing."""
    taken = iter([True])

    def publish_second(store: ObjectStore, manifest: Manifest) -> bool:
        if next(taken, False):  # another publication, of nothing, comes first
            empty = Manifest(
                number=manifest.number,
                version=manifest.version,
                parts=(),
                pictures=0,
                published_at="",
            )
            assert publish(store, empty)
        return publish(store, manifest)

    monkeypatch.setattr(flows.predict, "publish", publish_second)
    result = predict(workspace)
    assert result.predicted == 80
    assert [each.pictures for each in manifests(workspace.store, result.version)] == [0, 80]


def test_a_set_of_ids_is_what_was_added_less_what_was_taken_out() -> None:
    """In order, without repetition, and asked by columns longer than one question."""
    ids = pa.array([sha(number) for number in range(2500)])
    with IdSet([ids, ids]) as found:
        found.discard(ids[1000:])
        assert list(found) == sorted(ids[:1000].to_pylist())
        assert len(found) == 1000
        assert found.holds(ids).tolist() == [True] * 1000 + [False] * 1500
