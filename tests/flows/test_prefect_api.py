"""What the product asks of a Prefect server over its REST interface, on a real server."""

from __future__ import annotations

import http.server
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from prefect import __version__, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Cancelled, Crashed, Running

from flows.prefect_api import PrefectAway, PrefectServer
from tests.conftest import RunningStore
from tests.flows.studio_data import make_project, serving
from tests.flows.test_studio_security import OURS

NOBODY = "http://127.0.0.1:9/api"


@flow(name="train")
def _trains(mail_to: str = "") -> None:
    """Stand where the project's own flow stands: nobody runs it here."""


@pytest.fixture
def registered(prefect_api: str) -> tuple[str, str]:
    """A deployment of this test's own: its name, and the project whose tag it has."""
    name, tag = f"model-{uuid.uuid4().hex[:8]}", f"project-{uuid.uuid4().hex[:8]}"
    _register(name, tag)
    return f"train/{name}", tag


def _register(name: str, tag: str) -> None:
    # Outside an event loop Prefect answers at once, with no coroutine to await.
    made = cast("RunnerDeployment", _trains.to_deployment(name=name, tags=["cratedig", tag]))
    made.apply()


def _at(api_url: str) -> PrefectServer:
    return PrefectServer(api_url=api_url, pages_url="https://prefect.example.org")


@contextmanager
def _answering(status: int, body: bytes = b"", **headers: str) -> Iterator[str]:
    """Serve one answer to everything on loopback; give its address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_a_run_that_was_started_waits_and_can_be_looked_at(
    prefect_api: str, registered: tuple[str, str]
) -> None:
    """Its page is at the address of the pages, which need not be the API's."""
    name, project = registered
    server = _at(prefect_api)
    deployment = server.deployment(name, project=project)
    assert deployment is not None
    started = server.start(deployment, {"mail_to": "a@b.example"})
    (run,) = server.runs(deployment)
    assert (run.id, run.name, run.state) == (started.id, started.name, "waiting")
    assert run.address == f"https://prefect.example.org/runs/flow-run/{run.id}"
    assert server.progress(run, "train-progress") == (0.0, "")
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(uuid.UUID(run.id)).parameters == {"mail_to": "a@b.example"}


@pytest.mark.slow
def test_how_a_run_stands_is_said_in_our_words_and_in_prefects(
    prefect_api: str, registered: tuple[str, str]
) -> None:
    name, project = registered
    server = _at(prefect_api)
    deployment = server.deployment(name, project=project)
    assert deployment is not None
    run = server.start(deployment)
    states: list[State[object]] = [Running(), Crashed(message="its machine is gone"), Cancelled()]
    found = []
    with get_client(sync_client=True) as client:
        for state in states:
            client.set_flow_run_state(uuid.UUID(run.id), state, force=True)
            (now,) = server.latest_runs(project)
            found.append((now.state, now.said))
    assert found == [
        ("running", "Running"),
        ("failed", "Crashed: its machine is gone"),
        ("cancelled", "Cancelled"),
    ]


@pytest.mark.slow
def test_another_projects_deployment_is_not_ours(
    prefect_api: str, registered: tuple[str, str]
) -> None:
    assert _at(prefect_api).deployment(registered[0], project="another") is None


@pytest.mark.slow
def test_a_deployment_that_is_not_there_is_none(prefect_api: str) -> None:
    assert _at(prefect_api).deployment("train/nowhere", project="x") is None


@pytest.mark.slow
def test_a_server_says_its_version(prefect_api: str) -> None:
    assert _at(prefect_api).version() == __version__


def test_a_server_that_is_away_is_said_to_be() -> None:
    said = f"at {NOBODY} does not answer: Connection refused; start it, or set CRATEDIG_PREFECT"
    with pytest.raises(PrefectAway, match=said):
        _at(NOBODY).latest_runs("x")


def test_a_server_that_asks_for_a_password_says_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with _answering(401) as address:
        with pytest.raises(PrefectAway, match="set PREFECT_API_AUTH_STRING"):
            _at(address).version()
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "team:hunter2")
        with pytest.raises(PrefectAway, match="does not accept PREFECT_API_AUTH_STRING") as caught:
            _at(address).version()
    assert "hunter2" not in str(caught.value)


def test_a_redirect_is_not_followed_with_the_password() -> None:
    with (
        _answering(307, location="https://elsewhere.example/api") as address,
        pytest.raises(PrefectAway, match=r"sends on to https://elsewhere\.example/api: set"),
    ):
        _at(address).version()


def test_another_program_at_that_address_is_found_out() -> None:
    """What it sent is not repeated: of a block that would be a secret."""
    with (
        _answering(200, b'{"version": "hunter2"}') as address,
        pytest.raises(PrefectAway, match="does not answer as a Prefect server") as caught,
    ):
        _at(address).version()
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_the_studio_starts_training_on_the_projects_prefect_server(
    prefect_api: str, store_server: RunningStore, tmp_path: Path
) -> None:
    """With a deployment of the project there, nothing is run by the studio itself."""
    tag = f"p-{uuid.uuid4().hex[:8]}"
    make_project(tmp_path, store_server)
    project, local = tmp_path / "project.toml", tmp_path / ".cratedig" / "local.env"
    project.write_text(project.read_text().replace('name = "records"', f'name = "{tag}"'))
    local.write_text(local.read_text().replace("http://127.0.0.1:4200/api", prefect_api))
    _register("model", tag)
    with (
        serving(tmp_path) as address,
        httpx.Client(base_url=address, headers=OURS, trust_env=False, timeout=60) as client,
    ):
        started = client.post("/api/train", json={})
        assert started.status_code == 202
        assert started.json()["address"].startswith(prefect_api.removesuffix("/api"))
        assert client.get("/api/train/runs").json()["where"] == "prefect"
        assert client.post("/api/train", json={}).status_code == 409
    assert not (tmp_path / ".cratedig" / "training").exists()
