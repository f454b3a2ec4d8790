"""A place of its own for every test, in one bucket of the session's real SeaweedFS."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr

from flows.objects import ObjectStore
from flows.settings import Settings
from tests.conftest import RunningStore
from tests.flows.judged import Judged, make_judged
from tests.flows.line import Line, run_line


@pytest.fixture(scope="session", autouse=True)
def torch_comes_first() -> None:
    """Import torch in the main thread, before a server's thread does.

    Cut off in the middle, as by a warning that pytest makes an error in another thread, its import
    cannot be repeated in the same process: it registers its libraries a second time, and fails.
    """
    importlib.import_module("open_clip")


def new_bucket(store_server: RunningStore) -> Settings:
    """Return settings of a prefix of its own, empty."""
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
    return new_bucket(store_server)


@pytest.fixture(scope="session")
def line(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The line, run once in a process for all tests that only look at what it left."""
    with run_line(tmp_path_factory.mktemp("line"), new_bucket(store_server)) as ran:
        yield ran


@pytest.fixture
def object_store(bucket: Settings) -> ObjectStore:
    """The store on that bucket."""
    return ObjectStore(bucket)


@pytest.fixture(scope="session")
def judged(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A project with a trained model, made once in a process.

    Tests may add pictures and versions; they leave decisions and what is in production as it was.
    """
    return make_judged(
        tmp_path_factory.mktemp("judged"), store_server, f"judged-{uuid.uuid4().hex[:12]}"
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium, one for each file: its event loop would be in the way of other tests."""
    executable = os.environ.get("CRATEDIG_CHROMIUM", "/usr/bin/chromium")
    if not Path(executable).exists():
        pytest.skip(f"{executable} does not exist: set CRATEDIG_CHROMIUM")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield launched
        launched.close()
