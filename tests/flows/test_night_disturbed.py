"""Nights that are killed with -9, or whose store fails, publish what one undisturbed night publishes.

A few kills in the suite; `make soak` kills fifty times more. A night's processes are real, and so is
the store; between them stands a proxy that holds one request, so that a kill strikes at a point that
is known, and not where a timer happens to strike on a busy machine.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from flows.encoders import EncoderSource
from flows.errors import StoreRefused
from flows.imports import import_pictures
from flows.leases import lease_key
from flows.predict import LEASE
from flows.registry import Registry
from flows.settings import Settings
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.conftest import new_bucket
from tests.flows.gallery import png
from tests.flows.killing import after, killed_at, put, start
from tests.flows.nights import (
    add_pictures,
    open_project,
    published_rows,
    put_model_into_production,
    run_night,
)
from tests.flows.store_proxy import (
    FAULTS,
    StoreProxy,
    expired_after,
    now_and_then,
    run_proxy,
)
from tests.flows.test_imports import write_folder
from tests.waiting import until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CRATEDIG_SOAK_KILLS", "3"))
PART_ROWS = 10
"""So that a night of a few dozen pictures has several parts."""

ENCODED = 24
"""Pictures that nights have to embed."""

ARRIVE = 10
"""Pictures, with vectors, that arrive before each kill."""

REQUESTS = 60
"""About as many as a night sends to the store."""


@pytest.fixture
def proxy(store_server: RunningStore) -> Iterator[StoreProxy]:
    with run_proxy(store_server) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: StoreProxy, bucket: Settings) -> Settings:
    """The test's bucket, as nights see it."""
    return bucket.model_copy(update={"endpoint": proxy.endpoint})


def project_at(root: Path, settings: Settings) -> Workspace:
    """Return a project with a model in production, and pictures to embed."""
    root.mkdir()
    workspace = open_project(root, settings)
    # First, while there is nothing that these could be taken for duplicates of.
    folder = write_folder(root / "pictures", {f"{n}.png": png(n, 96) for n in range(ENCODED)})
    import_pictures(workspace, str(folder))
    add_pictures(workspace, range(60))
    put_model_into_production(workspace)
    return workspace


def arrivals(days: int) -> range:
    """Return the numbers of what arrives on so many days after the first 60 pictures."""
    return range(60, 60 + days * ARRIVE)


def assert_equal_to_undisturbed(
    workspace: Workspace, root: Path, settings: Settings, *, days: int
) -> None:
    """Run what is left, and compare all that there is with one night over the same pictures."""
    version = run_night(workspace.root, workspace.settings, PART_ROWS).version
    again = run_night(workspace.root, workspace.settings, PART_ROWS)
    assert (again.predicted, again.embedded, again.prelabelled) == (0, 0, 0)
    undisturbed = project_at(root, settings)
    add_pictures(undisturbed, arrivals(days))
    assert run_night(root, settings).version == version

    assert published_rows(workspace, version) == published_rows(undisturbed, version)
    encoder_id = EncoderSource(workspace).id()
    ids, vectors_ND = workspace.catalog.embeddings(encoder_id)
    expected_ids, expected_ND = undisturbed.catalog.embeddings(encoder_id)
    assert ids == expected_ids
    np.testing.assert_array_equal(vectors_ND, expected_ND)
    scored = Counter((row.sha256, row.label) for row in workspace.catalog.prelabels())
    assert scored == Counter((sha256, "vinyl") for sha256 in ids)


POINTS = {
    "its lease is written": (put(lease_key(LEASE)), True),
    "vectors are about to be committed": (put("embeddings", "_versions"), False),
    "vectors are committed": (put("embeddings", "_versions"), True),
    "a part is being written": (put("/predictions/", ".parquet"), False),
    "a part is written and its manifest is not": (put("/manifests/"), False),
    "a manifest is written and nobody has heard of it": (put("/manifests/"), True),
    "scores of arrivals are committed": (put("prelabels", "_versions"), True),
}


def test_nights_that_are_killed_wherever_they_are_publish_what_one_undisturbed_night_does(
    bucket: Settings,
    through: Settings,
    proxy: StoreProxy,
    store_server: RunningStore,
    tmp_path: Path,
) -> None:
    """At every named point, and then at requests that nobody chose, before or after the store's work."""
    workspace = project_at(tmp_path / "project", bucket)
    add_pictures(workspace, arrivals(1))
    night = (workspace.root, through, PART_ROWS)
    for name, (point, answered) in POINTS.items():
        killed_there = killed_at(proxy, point, run_night, *night, answered=answered)
        assert killed_there, f"it ended before {name}"
    numbers = random.Random(11)
    killed = 0
    days = 1
    while killed < KILLS:
        add_pictures(workspace, arrivals(days + 1)[-ARRIVE:])
        days += 1
        point = after(numbers.randrange(REQUESTS))
        answered = numbers.random() < 0.5
        killed += killed_at(proxy, point, run_night, *night, answered=answered)
    assert_equal_to_undisturbed(workspace, tmp_path / "calm", new_bucket(store_server), days=days)


def test_a_night_whose_decoding_processes_are_killed_loses_no_picture(
    bucket: Settings, tmp_path: Path
) -> None:
    """All of them, as soon as they are there: it starts others, and gives each picture its vector."""
    workspace = project_at(tmp_path / "project", bucket)
    process = start(run_night, workspace.root, bucket, PART_ROWS)
    night = psutil.Process(process.pid)
    until(lambda: bool(night.children()), timeout_s=240)
    for worker in night.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    process.join(240)
    assert process.exitcode == 0
    version = Registry(workspace.store, workspace.project.name).production()
    assert version is not None
    assert len(published_rows(workspace, version)) == 60 + ENCODED


def test_a_night_labels_the_same_through_a_store_that_fails(
    bucket: Settings,
    through: Settings,
    proxy: StoreProxy,
    store_server: RunningStore,
    tmp_path: Path,
) -> None:
    """One request in eight, by another fault each night; with expired keys it says so in a sentence."""
    workspace = project_at(tmp_path / "project", bucket)
    add_pictures(workspace, arrivals(1))
    proxy.strikes = expired_after(20)
    with pytest.raises(StoreRefused, match="the keys have expired"):
        run_night(workspace.root, through, PART_ROWS)
    for days, fault in enumerate(FAULTS, start=1):
        add_pictures(workspace, arrivals(days + 1)[-ARRIVE:])
        proxy.strikes = now_and_then(fault)
        run_night(workspace.root, through, PART_ROWS)
    calm = new_bucket(store_server)
    assert_equal_to_undisturbed(workspace, tmp_path / "calm", calm, days=1 + len(FAULTS))
