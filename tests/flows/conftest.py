"""A place of its own for every test, in one bucket of the session's real SeaweedFS."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from flows.objects import ObjectStore
from flows.settings import Settings
from tests.conftest import RunningStore
from tests.flows.line import Line, run_line


def _new_bucket(store_server: RunningStore) -> Settings:
    settings = Settings(
        endpoint=store_server.endpoint,
        access_key=SecretStr(store_server.access_key),
        secret_key=SecretStr(store_server.secret_key),
        # One bucket and a prefix each: SeaweedFS sets a volume aside for every bucket that is written
        # to, and a small disk has room for some seventy of them.
        bucket="tests",
        prefix=f"test-{uuid.uuid4().hex}",
    )
    # A fresh store answers 503 until its volumes are up: as often as it takes.
    ObjectStore(settings, attempts=20).ensure_bucket()
    return settings


@pytest.fixture
def bucket(store_server: RunningStore) -> Settings:
    """Settings of a bucket that exists, and a prefix in it that is empty and this test's alone."""
    return _new_bucket(store_server)


@pytest.fixture(scope="session")
def line(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The line, run once in a process for all tests that only look at what it left."""
    with run_line(tmp_path_factory.mktemp("line"), _new_bucket(store_server)) as ran:
        yield ran


@pytest.fixture
def object_store(bucket: Settings) -> ObjectStore:
    """The store on that bucket."""
    return ObjectStore(bucket)
