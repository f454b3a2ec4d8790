"""The Prefect flows on a real server: runs, artifacts, schedules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import SecretStr

from flows.deployments import deployments
from flows.errors import Permanent, Transient
from flows.notify import NotifySettings
from flows.project import Project
from flows.runs import (
    _is_transient,
    collect_flow,
    collect_shards_flow,
    maintain_flow,
    predict_flow,
    prelabel_flow,
    sweep_flow,
    train_flow,
    train_when_decided_flow,
)
from flows.tables import Table
from model.train import TooFewExamples
from tests.certificates import SELF_SIGNED, self_signed
from tests.flows.line import Line
from tests.flows.mail_server import mail_server
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


def test_embedding_in_shards_shows_how_far_all_of_them_are(
    at_line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One artifact for the run, which counts over its shards, with the rate."""
    workspace = at_line.workspace
    encoder_id = at_line.prelabelled.encoder_id
    gone = sorted(workspace.catalog.permitted())[:7]
    table = Table(workspace.store, f"embeddings/{encoder_id}", None)
    table.delete(["sha256"], lambda record: record["sha256"] in gone)
    monkeypatch.setattr("flows.prelabel.EMBED_SHARD_IMAGES", 3)
    result = prelabel_flow(run_id="in-shards")
    assert result.embedded == len(gone)
    with get_client(sync_client=True) as client:
        (shown,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["embed-progress"]))
        )
    assert shown.data == 100
    assert str(shown.description).startswith("embed: 7 of 7, ")
    assert "/s" in str(shown.description)


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


def _told_by(settings: NotifySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment as these settings are."""
    for name, value in settings.model_dump(exclude_none=True).items():
        said = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        monkeypatch.setenv(f"CRATEDIG_{name.upper()}", said)


def test_a_training_that_fails_is_mailed_with_its_reason(
    at_line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A label that nobody has decided on cannot be trained: the run fails, and the letter says why."""
    project = (at_line.workspace.root / "project.toml").read_text()
    (tmp_path / "project.toml").write_text(f'{project}\n[[labels]]\nname = "cartridge"\n')
    monkeypatch.setenv("CRATEDIG_PROJECT", str(tmp_path))
    with mail_server() as (letters, settings):
        _told_by(settings, monkeypatch)
        with pytest.raises(TooFewExamples):
            train_flow()
    (letter,) = letters.received
    assert letter["Subject"] == "line: training failed"
    body = letter.get_body(("plain",))
    assert body is not None
    assert "cartridge has 0 positives and 0 negatives" in body.get_content()


def test_a_password_that_is_refused_does_not_fail_the_run(
    at_line: Line,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tls = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / SELF_SIGNED))
    with mail_server(tls) as (letters, settings):
        wrong = settings.model_copy(update={"smtp_password": SecretStr("hunter2")})
        _told_by(wrong, monkeypatch)
        assert train_flow().version == at_line.trained.version
    assert letters.received == []
    assert "check CRATEDIG_SMTP_USER and CRATEDIG_SMTP_PASSWORD" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_sweep_leaves_what_is_young(at_line: Line) -> None:
    before = {each.key for each in at_line.workspace.store.list("shards/")}
    sweep_flow()
    assert {each.key for each in at_line.workspace.store.list("shards/")} == before


def test_keeping_house_counts_and_finds_nothing_wrong(at_line: Line) -> None:
    """The counts are shown, and all pictures of so small a dataset were checked."""
    result = maintain_flow()
    assert (result.images, result.troubles) == (at_line.workspace.catalog.image_count(), {})
    assert any("predictions" in table for table in _artifacts("counts"))
    assert any("troubles none" in text for text in _artifacts("verify"))


def test_predict_shows_its_counts(at_line: Line) -> None:
    """A night without anything new publishes nothing and says so."""
    result = predict_flow()
    assert result.predicted == 0
    assert _artifacts("predictions")
    assert _artifacts("drift")


def test_the_deployments_are_those_of_the_project(at_line: Line) -> None:
    """Each source has one of its own, with its schedule; the server takes them all."""
    made = deployments(Project.load(at_line.workspace.root))
    names = {f"{each.flow_name}/{each.name}" for each in made}
    assert names == {
        "collect/shop",
        "collect/arrivals",
        "collect-shards/any",
        "label-archive/any",
        "prelabel/new",
        "train/model",
        "predict/nightly",
        "maintain/daily",
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


def test_run_of_prefect_is_logged_and_counted_as_ours(
    line: Line, prefect_server: str, tmp_path: Path
) -> None:
    """In a process of its own, as workers start it: JSON with the run's id, numbers in the file."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CRATEDIG_")},
        **settings_of(line.workspace.settings),
        "PREFECT_API_URL": prefect_server,
        "CRATEDIG_PROJECT": str(line.workspace.root),
        "CRATEDIG_LOG": "json",
        "CRATEDIG_METRICS_FILE": str(tmp_path / "cratedig.prom"),
    }
    code = "from flows.runs import sweep_flow; sweep_flow()"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr

    lines = [json.loads(text) for text in said.stderr.splitlines() if text.startswith("{")]
    swept = [each for each in lines if each.get("stage") == "sweep"]
    assert [each["message"] for each in swept] == ["sweep begins", "sweep: done"]
    assert swept[0]["run"] == swept[1]["run"]
    # Prefect's own lines of the run are among them, under the run's id at Prefect.
    told = [each for each in lines if each["logger"].startswith("prefect.")]
    assert any(each.get("flow_run") and each["message"].startswith("swept") for each in told)
    text = (tmp_path / "cratedig.prom").read_text()
    assert 'cratedig_stage_seconds_count{outcome="done",stage="sweep"} 1.0' in text
