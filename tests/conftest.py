"""Fixtures that every room's tests share: the real photographs and the real object store."""

from __future__ import annotations

import dataclasses
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.store import PORT_OPTIONS, free_ports, start_store
from tests.waiting import until


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights, outside the repository (licences)."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("CRATEDIG_SHARED", default))
    if not folder.exists():
        pytest.skip(f"{folder} does not exist: set CRATEDIG_SHARED to the real photographs")
    return folder


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunningStore:
    """Where the session's SeaweedFS answers, and with which keys."""

    endpoint: str
    access_key: str
    secret_key: str


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    """A real SeaweedFS on loopback, one a test process; each test takes its own bucket."""
    folder = tmp_path_factory.mktemp("store")
    ports = dict(zip(PORT_OPTIONS, free_ports(len(PORT_OPTIONS)), strict=True))
    running = RunningStore(
        endpoint=f"http://127.0.0.1:{ports['s3.port']}", access_key="test", secret_key="secret"
    )
    process = start_store(folder / "data", ports, "test", "secret", folder / "store.log")

    def answers() -> bool:
        assert process.poll() is None, (folder / "store.log").read_text()
        try:
            urllib.request.urlopen(running.endpoint, timeout=2)
        except urllib.error.HTTPError:
            return True  # 403 without keys: it is there
        except OSError:
            return False
        return True

    try:
        until(answers, timeout_s=60)
        yield running
    finally:
        process.kill()
        process.wait()
