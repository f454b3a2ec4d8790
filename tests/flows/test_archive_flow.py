"""The flow `label-archive` on a real Prefect server, and on a real Ray cluster that loses a node."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL

from flows.runs import label_archive_flow
from flows.settings import Settings
from flows.workspace import Workspace
from infra.store import free_ports
from tests.flows.archives import PROJECT, jpeg, label, workspace_at
from tests.flows.gallery import gallery
from tests.flows.test_cli import settings_of
from tests.flows.test_imports import write_folder
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures", {f"{n:03}.jpg": jpeg(n) for n in range(60)})


def project(runner: str) -> str:
    return f'{PROJECT}\n[archive]\nrunner = "{runner}"\nshard_pictures = 10\n'


def at(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have flows of this process, and of those that it starts, work on that project."""
    for name, value in settings_of(workspace.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CRATEDIG_PROJECT", str(workspace.root))
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())


def artifacts(key: str) -> list[str]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return [f"{artifact.description} {artifact.data}" for artifact in found]


def test_a_flow_publishes_what_the_command_publishes(
    prefect_api: str,
    bucket: Settings,
    tmp_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same parts by content hash, a table of what came of it, and a progress artifact."""
    workspace = workspace_at(tmp_path / "project", bucket, project("threads"))
    at(workspace, monkeypatch)
    flow = label_archive_flow(str(pictures), str(tmp_path / "by-flow"))
    command = label(workspace, pictures, tmp_path / "by-command")
    assert flow.manifest == command.manifest
    assert any("labelled 60 of 60 pictures, 60 now" in each for each in artifacts("label-archive"))
    assert any("60 of 60" in each for each in artifacts("label-archive-progress"))


def test_a_flow_takes_what_the_command_takes_of_a_table(
    prefect_api: str, bucket: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The column of the addresses, and leave to go to addresses that are not public."""
    workspace = workspace_at(tmp_path / "project", bucket, project("threads"))
    at(workspace, monkeypatch)
    with gallery() as site:
        table = tmp_path / "table.csv"
        rows = [f"https://a.org/{n},{site.picture_url(n)}" for n in range(3)]
        table.write_text("\n".join(["page,where it lies", *rows]) + "\n")
        found = label_archive_flow(
            str(table), str(tmp_path / "out"), url_column="where it lies", allow_private=True
        )
    assert (found.manifest.pictures, found.manifest.labelled) == (3, 3)


def ray_node(*arguments: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a Ray node that stays in the foreground, so that its processes are known."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"),
        *("--object-store-memory=80000000", "--disable-usage-stats", *arguments),
    ]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_node(node: subprocess.Popen[bytes]) -> None:
    """Kill a node's processes, as when a machine loses its power."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    node.wait()


@pytest.fixture
def nodes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ray nodes; those that are put in are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for node in reversed(started):
        kill_node(node)


def test_a_cluster_that_loses_a_node_publishes_the_same(
    nodes: list[subprocess.Popen[bytes]],
    prefect_api: str,
    bucket: Settings,
    tmp_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two nodes; the second is killed while it is at a shard. Equal by content hashes.

    With as many threads: torch sums in another order with more, and a last bit of 16 may differ.
    """
    workspace = workspace_at(tmp_path / "project", bucket, project("ray"))
    at(workspace, monkeypatch)
    alone = tmp_path / "expected"
    subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, workspace.root, pictures, alone],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # what Ray sets for a task of one core
    )
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    env = dict(os.environ)
    # A folder of its own, and a short one, because sockets lie in it: others' clusters are not seen.
    folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder.name}")
    nodes.append(ray_node(*head, env=env))
    until(lambda: listens(port), timeout_s=120)
    nodes.append(ray_node(f"--address={address}", env=env))
    until(lambda: runs(nodes[1], "ray::RuntimeEnvAgent"), timeout_s=120)
    out = tmp_path / "out"
    # In a process of its own: the driver's side of Ray starts threads that never end.
    flow = subprocess.Popen(
        [sys.executable, "-c", RUN_FLOW, str(pictures), str(out)],
        env={**env, "RAY_ADDRESS": address, "PREFECT_API_URL": prefect_api},
    )
    try:
        busy = "ray::label_shard_task"
        until(lambda: flow.poll() is not None or runs(nodes[1], busy), timeout_s=400)
        assert flow.poll() is None, "it ended before a node could be killed"
        kill_node(nodes.pop())
        assert flow.wait(400) == 0
    finally:
        flow.kill()
        flow.wait()
    (expected,) = alone.glob("labels/*/manifests/*.json")
    found = out / expected.relative_to(alone)
    assert found.read_bytes() == expected.read_bytes()
    folder.cleanup()


RUN_FLOW = """
import sys
from flows.runs import label_archive_flow
label_archive_flow(sys.argv[1], sys.argv[2])
"""

RUN_COMMAND = """
import sys
from pathlib import Path
from flows.workspace import open_workspace
from tests.flows.archives import label

label(open_workspace(Path(sys.argv[1])), sys.argv[2], sys.argv[3])
"""


def runs(node: subprocess.Popen[bytes], title: str) -> bool:
    """Say whether a worker of that node has the title: Ray puts into it what it is doing."""
    titles = []
    for process in psutil.Process(node.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            titles += process.cmdline()
    return any(title in each for each in titles)


def listens(port: int) -> bool:
    """Say whether anybody answers on that port."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
