"""Fixtures that every room's tests share: the real photographs and the real servers."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import LocalStack

# Read when prefect is imported: without it every test run would report to Prefect's makers.
os.environ["DO_NOT_TRACK"] = "1"

_STACK_FOLDER = "CRATEDIG_TESTS_STACK"
"""Environment variable: where all processes of one pytest run, xdist's too, have their servers."""

_STACK_PREFIX = "cratedig-tests-"
"""How such folders are named, before the pid of the run."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of this run's servers, before xdist starts its workers."""
    if not hasattr(config, "workerinput"):
        _stop_servers_of_killed_runs()
        folder = Path(tempfile.mkdtemp(prefix=f"{_STACK_PREFIX}{os.getpid()}-"))
        os.environ[_STACK_FOLDER] = str(folder)
        # The user's own Prefect profile is not for tests to read, nor to write.
        os.environ["PREFECT_HOME"] = str(folder / "prefect-home")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop this run's servers when all of its processes are done, and drop their data."""
    if not hasattr(config, "workerinput"):
        _drop(Path(os.environ[_STACK_FOLDER]))


def _stop_servers_of_killed_runs() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_STACK_PREFIX}*-*"):
        run = folder.name.removeprefix(_STACK_PREFIX).partition("-")[0]
        with contextlib.suppress(
            FileNotFoundError
        ):  # another run that starts just now drops it, too
            if folder.owner() == getpass.getuser() and not psutil.pid_exists(int(run)):
                _drop(folder)


def _drop(folder: Path) -> None:
    LocalStack(folder).down()
    shutil.rmtree(folder)


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
    """Where the run's SeaweedFS answers, and with which keys."""

    endpoint: str
    access_key: str
    secret_key: str


@pytest.fixture(scope="session")
def server_stack() -> LocalStack:
    """The stack of this test run, one for all of xdist's processes; ask it for one part at a time."""
    return LocalStack(Path(os.environ[_STACK_FOLDER]))


@pytest.fixture(scope="session")
def store_server(server_stack: LocalStack) -> RunningStore:
    """A real SeaweedFS on loopback, one for the whole run; each test takes its own bucket."""
    addresses = server_stack.up(parts=("store",))
    access_key, secret_key = server_stack.keys()
    return RunningStore(endpoint=addresses["store"], access_key=access_key, secret_key=secret_key)


@pytest.fixture(scope="session")
def prefect_server(server_stack: LocalStack) -> str:
    """The API address of a real Prefect server, one for the whole run.

    It starts, in 10 to 30 s, with the first test that asks for it. Tests share its database: each
    names its flows and deployments so that they are its own.
    """
    return server_stack.up(parts=("prefect",))["prefect"] + "/api"


@pytest.fixture
def prefect_api(prefect_server: str) -> Iterator[str]:
    """The same address, and this process's Prefect client set to it while the test runs."""
    # 2 s to import, and only for tests that run flows.
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server
