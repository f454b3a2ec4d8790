"""A team's installation: the commands of infra/compose.yaml, on a real PostgreSQL, without containers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.deploy import ZOMBIES, deploy
from flows.errors import Permanent, Transient
from flows.example_project import EXAMPLE_PROJECT
from flows.project import Project
from infra.ports import free_ports
from tests.flows.team import SECRETS, Team, postgres, postgres_program
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Store, PostgreSQL, Prefect and studio, and everything deployed; no workers yet."""
    if postgres_program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql`")
    folder = tmp_path_factory.mktemp("team")
    team = Team(folder, EXAMPLE_PROJECT)
    password = SECRETS["CRATEDIG_POSTGRES_PASSWORD"]
    with postgres(folder / "postgres", team.ports["postgres"], password):
        try:
            team.start("store", "prefect", "studio")
            team.run("deploy")
            yield team
        finally:
            team.stack.down()


@pytest.fixture
def api_url(team: Team) -> Iterator[str]:
    """The team's Prefect server, and this process's client set to it while the test runs."""
    address = team.environment["PREFECT_API_URL"]
    settings = {
        PREFECT_API_URL: address,
        PREFECT_API_AUTH_STRING: SECRETS["CRATEDIG_PREFECT_AUTH"],
    }
    with temporary_settings(settings):
        yield address


@pytest.fixture
def client(api_url: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def _names(client: SyncPrefectClient) -> list[str]:
    return sorted(each.name for each in client.read_deployments(limit=100))


def test_the_services_answer_their_health_checks(team: Team) -> None:
    assert all(team.is_healthy(name) for name in ("store", "prefect", "studio"))


def test_two_workers_share_what_comes_due(team: Team, client: SyncPrefectClient) -> None:
    """Runs that were asked for go to the workers of their pool, and end well on PostgreSQL."""
    team.start("crawl", "compute")
    assert team.is_healthy("crawl")
    assert team.is_healthy("compute")
    sweeps = [_ask(client, "sweep/weekly") for _ in range(2)]
    until(lambda: all(_has_ended(client, run) for run in sweeps), timeout_s=240)
    assert [_state(client, run) for run in sweeps] == ["Completed", "Completed"]


def _ask(client: SyncPrefectClient, name: str) -> UUID:
    found = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(found.id).id


def _has_ended(client: SyncPrefectClient, run: UUID) -> bool:
    state = client.read_flow_run(run).state
    return state is not None and state.is_final()


def _state(client: SyncPrefectClient, run: UUID) -> str:
    state = client.read_flow_run(run).state
    assert state is not None
    assert state.name is not None
    return state.name


def test_deploying_again_changes_nothing(team: Team, client: SyncPrefectClient) -> None:
    before = _names(client)
    said = team.run("deploy")
    assert "(0 new)" in said
    assert _names(client) == before
    assert len(client.read_automations_by_name(ZOMBIES)) == 1
    assert len(client.read_work_pools()) == 2


def test_what_people_set_in_prefect_stays(
    api_url: str, client: SyncPrefectClient, team: Team
) -> None:
    """A schedule that somebody has paused is not started by the next deployment."""
    found = client.read_deployment_by_name("predict/nightly")
    client.pause_deployment(found.id)
    deploy(Project.load(team.project), api_url, project_dir=str(team.project))
    assert client.read_deployment_by_name("predict/nightly").paused
    client.resume_deployment(found.id)


def test_a_source_that_is_gone_takes_its_deployment_along(
    api_url: str, client: SyncPrefectClient, team: Team, tmp_path: Path
) -> None:
    old, new = "example-shop", "another-shop"
    (tmp_path / "project.toml").write_text(EXAMPLE_PROJECT.replace(old, new))
    result = deploy(Project.load(tmp_path), api_url)
    assert result.removed == (f"collect/{old}",)
    assert result.created == (f"collect/{new}",)
    back = deploy(Project.load(team.project), api_url, project_dir=str(team.project))
    assert back.removed == (f"collect/{new}",)
    assert old in _names(client)


def test_another_project_is_not_overwritten(
    api_url: str, client: SyncPrefectClient, tmp_path: Path
) -> None:
    """Deployments are found by their names alone: two projects would take turns."""
    other = EXAMPLE_PROJECT.replace('name = "records"', 'name = "other"')
    (tmp_path / "project.toml").write_text(other)
    before = client.read_deployment_by_name("predict/nightly")
    with pytest.raises(Permanent, match="belongs to another project"):
        deploy(Project.load(tmp_path), api_url)
    assert client.read_deployment_by_name("predict/nightly").tags == before.tags


def test_a_pool_of_another_kind_is_left_alone(api_url: str, team: Team) -> None:
    with pytest.raises(Permanent, match="cratedig-crawl is of type process, not kubernetes"):
        deploy(Project.load(team.project), api_url, kind="kubernetes", image="cratedig")


def test_a_wrong_password_and_no_server_are_one_sentence(team: Team) -> None:
    project = Project.load(team.project)
    address = team.environment["PREFECT_API_URL"]
    with (
        temporary_settings({PREFECT_API_AUTH_STRING: "team:wrong"}),
        pytest.raises(Permanent, match="HTTP 401: set PREFECT_API_AUTH_STRING"),
    ):
        deploy(project, address)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}/api"
    with pytest.raises(Transient, match="does not answer"):
        deploy(project, nobody)


def test_forms_explain_each_parameter(client: SyncPrefectClient) -> None:
    """Whoever starts a run in Prefect's pages reads there what each field is for."""
    for each in client.read_deployments(limit=100):
        schema = each.parameter_openapi_schema or {}
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), f"{each.name}: {name}: {json.dumps(field)}"
