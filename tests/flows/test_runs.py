"""The Prefect flows on a real server: runs, artifacts, schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.deployments import deployments
from flows.errors import Permanent, Transient
from flows.project import Project
from flows.runs import (
    _is_transient,
    collect_flow,
    collect_shards_flow,
    predict_flow,
    prelabel_flow,
    sweep_flow,
    train_flow,
    train_when_decided_flow,
)
from tests.flows.line import Line
from tests.flows.test_cli import settings_of

pytestmark = pytest.mark.slow


@pytest.fixture
def at_line(line: Line, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Line:
    """The line's project as the one that flows of this process work on."""
    for name, value in settings_of(line.workspace.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CRATEDIG_PROJECT", str(line.workspace.root))
    return line


def _artifacts(key: str) -> list[str]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return [str(artifact.data) for artifact in found]


def test_collect_is_a_run_with_a_table_and_a_report(at_line: Line) -> None:
    """The flow gives what the function gave under the same run id, and shows it with its report."""
    result = collect_flow("shop", run_id="first")
    assert result == at_line.collected
    assert any("x_robots_tag" in table for table in _artifacts("collect-shop"))
    assert any("## What to do next" in text for text in _artifacts("collect-shop-report"))


def test_a_crawl_shared_out_over_tasks_ends_as_one_in_a_single_task(at_line: Line) -> None:
    """The same links with the same outcomes; nothing is fetched that has not changed."""
    result = collect_shards_flow("shop", run_id="in-shards")
    one = at_line.collected
    assert (result.links, result.kept, result.duplicates, result.rejected) == (
        one.links,
        one.kept,
        one.duplicates,
        one.rejected,
    )


def test_prelabel_embeds_what_is_new_by_tasks(at_line: Line) -> None:
    """Arrivals are embedded at the latest here, and everything has scores afterwards."""
    result = prelabel_flow(run_id="by-prefect")
    assert result.scored == len(at_line.workspace.catalog.permitted())
    assert any("suggested" in table for table in _artifacts("prelabels"))


def test_train_shows_report_and_verdict(at_line: Line) -> None:
    """Precision and recall with intervals are in the table; the verdict says why."""
    result = train_flow()
    assert result.version == at_line.trained.version
    assert any("precision" in table for table in _artifacts("model-report"))
    assert any("champion already" in text for text in _artifacts("model-verdict"))


def test_nothing_is_trained_when_too_little_was_decided(
    at_line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everything decided so far went into the model that exists."""
    project = (at_line.workspace.root / "project.toml").read_text()
    wanting = project.replace("[train]\n", "[train]\ntrain_after_decisions = 1\n")
    (tmp_path / "project.toml").write_text(wanting)
    monkeypatch.setenv("CRATEDIG_PROJECT", str(tmp_path))
    assert train_when_decided_flow() is None


def test_a_sweep_leaves_what_is_young(at_line: Line) -> None:
    before = {each.key for each in at_line.workspace.store.list("shards/")}
    sweep_flow()
    assert {each.key for each in at_line.workspace.store.list("shards/")} == before


def test_predict_shows_its_counts(at_line: Line) -> None:
    """A night without anything new publishes nothing and says so."""
    result = predict_flow()
    assert result.predicted == 0
    assert _artifacts("predictions")


def test_the_deployments_are_those_of_the_project(at_line: Line) -> None:
    """Each source has one of its own, with its schedule; the server takes them all."""
    made = deployments(Project.load(at_line.workspace.root))
    names = {f"{each.flow_name}/{each.name}" for each in made}
    assert names == {
        "collect/shop",
        "collect/arrivals",
        "collect-shards/any",
        "prelabel/new",
        "train/model",
        "predict/nightly",
        "sweep/weekly",
    }
    for each in made:
        each.apply()
    with get_client(sync_client=True) as client:
        shop = client.read_deployment_by_name("collect/shop")
        assert [schedule.schedule.model_dump()["cron"] for schedule in shop.schedules] == [
            "0 2 * * *"
        ]
        assert shop.parameters == {"source": "shop"}
        asked = client.read_deployment_by_name("collect/arrivals").parameter_openapi_schema
        assert asked is not None
        assert "source" in asked["properties"]


@pytest.mark.parametrize(("error", "retried"), [(Transient("x"), True), (Permanent("x"), False)])
def test_only_what_a_rerun_can_mend_is_retried(error: Exception, retried: bool) -> None:
    state: State[object] = Failed(data=error)
    assert _is_transient(None, None, state) is retried  # type: ignore[arg-type]  # not looked at
