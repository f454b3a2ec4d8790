"""Archives whose workers are killed, or whose store fails, come out byte for byte as if undisturbed.

A few kills in the suite; `make soak` kills fifty times more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.errors import StoreRefused
from flows.leases import MIN_TTL_S
from flows.objects import ObjectStore
from flows.settings import Settings
from tests.conftest import RunningStore
from tests.flows.archives import jpeg, label, run_label, workspace_at
from tests.flows.killing import after, killed_at, put
from tests.flows.store_proxy import (
    FAULTS,
    StoreProxy,
    expired_after,
    now_and_then,
    run_proxy,
)
from tests.flows.test_imports import write_folder

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CRATEDIG_SOAK_KILLS", "3"))
PICTURES = 60
REQUESTS = 90
"""About as many as one run sends to the store."""

POINTS = {
    "the lease of a shard is written": (put("/leases/"), True),
    "the plan is being written": (put("/plans/parts/"), False),
    "embeddings are written": (put("/embeddings/"), True),
    "a part is being written": (put("/labels/", ".parquet"), False),
    "a part is written and its shard does not count as done": (put("/done/"), False),
    "between two shards": (put("/done/"), True),
    "the manifest is not written": (put("/manifests/"), False),
    "the manifest is written and nobody has heard of it": (put("/manifests/"), True),
}


@pytest.fixture
def proxy(store_server: RunningStore) -> Iterator[StoreProxy]:
    with run_proxy(store_server) as proxy:
        yield proxy


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    files = {f"{number:03}.jpg": jpeg(number) for number in range(PICTURES)}
    return str(write_folder(tmp_path / "pictures", files))


def results(store: ObjectStore, out: str) -> dict[str, bytes]:
    """Return the published parts and manifests by their keys below `out`."""
    return {
        key.removeprefix(out): store.get(key)
        for key in store.keys(f"{out}/labels/")
        if key.endswith(".parquet") or "/manifests/" in key
    }


def test_runs_that_are_killed_wherever_they_are_publish_the_same_bytes(
    bucket: Settings, proxy: StoreProxy, pictures: str, tmp_path: Path
) -> None:
    """At every named point, and then at requests that nobody chose: nothing lost, nothing twice."""
    workspace = workspace_at(tmp_path / "project", bucket)
    store = workspace.store
    label(workspace, pictures, store.uri("calm"), keep_embeddings=True)
    through = bucket.model_copy(update={"endpoint": proxy.endpoint})

    for name, (point, answered) in POINTS.items():
        arguments = (workspace.root, through, pictures, store.uri("killed"))
        killed_there = killed_at(proxy, point, run_label, *arguments, answered=answered)
        assert killed_there, f"it ended before {name}"
    label(workspace, pictures, store.uri("killed"), keep_embeddings=True, lease_s=MIN_TTL_S)
    assert results(store, "killed") == results(store, "calm")

    numbers = random.Random(13)
    killed = runs = 0
    while killed < KILLS:
        out = f"random-{runs}"  # until it ends well: then an archive from the beginning
        arguments = (workspace.root, through, pictures, store.uri(out))
        point = after(numbers.randrange(REQUESTS))
        if killed_at(proxy, point, run_label, *arguments, answered=numbers.random() < 0.5):
            killed += 1
        else:
            runs += 1
    for run in range(runs + 1):
        out = f"random-{run}"
        label(workspace, pictures, store.uri(out), keep_embeddings=True, lease_s=MIN_TTL_S)
        assert results(store, out) == results(store, "calm")


def test_an_archive_is_labelled_the_same_through_a_store_that_fails(
    bucket: Settings, proxy: StoreProxy, pictures: str, tmp_path: Path
) -> None:
    """One request in eight, by each fault; with keys that expire, one error and then the same."""
    workspace = workspace_at(tmp_path / "project", bucket)
    store = workspace.store
    label(workspace, pictures, store.uri("calm"), keep_embeddings=True)
    through = workspace_at(
        tmp_path / "project", bucket.model_copy(update={"endpoint": proxy.endpoint})
    )
    for fault in FAULTS:
        proxy.strikes = now_and_then(fault)
        label(through, pictures, store.uri(fault[:3]), keep_embeddings=True)
        assert results(store, fault[:3]) == results(store, "calm"), fault

    proxy.strikes = expired_after(40)
    with pytest.raises(StoreRefused, match="the keys have expired"):
        label(through, pictures, store.uri("exp"), keep_embeddings=True, lease_s=MIN_TTL_S)
    label(workspace, pictures, store.uri("exp"), keep_embeddings=True, lease_s=MIN_TTL_S)
    assert results(store, "exp") == results(store, "calm")
