"""The doctor asks the services themselves."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from flows.checkup import examine_services, minimal_policy
from flows.cli_team import doctor
from flows.objects import ObjectStore
from flows.settings import Settings
from infra.doctor import Finding
from infra.ports import free_ports
from tests.conftest import RunningStore
from tests.flows.store_proxy import run_proxy


@pytest.fixture
def root(tmp_path: Path, store_server: RunningStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose environment names the real store, at a prefix of the test's own."""
    monkeypatch.setenv("CRATEDIG_ENDPOINT", store_server.endpoint)
    monkeypatch.setenv("CRATEDIG_ACCESS_KEY", store_server.access_key)
    monkeypatch.setenv("CRATEDIG_SECRET_KEY", store_server.secret_key)
    monkeypatch.setenv("CRATEDIG_BUCKET", "doctor")
    monkeypatch.setenv("CRATEDIG_PREFIX", uuid.uuid4().hex)
    return tmp_path


def _finding(found: list[Finding], name: str) -> Finding:
    return next(each for each in found if each.name == name)


def test_all_is_well_with_a_real_store_and_it_is_left_as_it_was(root: Path) -> None:
    found = examine_services(root)
    assert [each for each in found if not each.ok] == []
    assert "write by condition" in _finding(found, "permissions").said
    assert list(ObjectStore(Settings.load(root)).list()) == []


def test_a_wrong_key_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRATEDIG_SECRET_KEY", "wrong")
    bucket = _finding(examine_services(root), "bucket")
    assert not bucket.ok
    assert "wrong" not in bucket.said.replace("is wrong", "")
    assert "--policy" in bucket.advice


def test_a_store_that_ignores_conditions_is_found_out(
    root: Path, store_server: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignores = frozenset({"if-none-match", "if-match"})
    with run_proxy(store_server, ignores=ignores) as proxy:
        monkeypatch.setenv("CRATEDIG_ENDPOINT", proxy.endpoint)
        permissions = _finding(examine_services(root), "permissions")
    assert not permissions.ok
    assert "does not honour If-None-Match" in permissions.said


def test_a_prefect_server_that_does_not_answer_is_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}/api"
    monkeypatch.setenv("CRATEDIG_PREFECT_API_URL", nobody)
    prefect = _finding(examine_services(root), "Prefect server")
    assert not prefect.ok
    assert nobody in prefect.said


def test_a_test_message_needs_somebody_to_send_it_to(root: Path) -> None:
    message = _finding(examine_services(root, send_test=True), "test message")
    assert not message.ok
    assert "CRATEDIG_SMTP_HOST" in message.advice


def test_the_policy_allows_the_project_alone(root: Path) -> None:
    settings = Settings.load(root)
    listing, objects = json.loads(minimal_policy(settings))["Statement"]
    assert listing["Resource"] == "arn:aws:s3:::doctor"
    assert objects["Resource"] == f"arn:aws:s3:::doctor/{settings.prefix}/*"


def test_secrets_may_be_files(
    tmp_path: Path, root: Path, store_server: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Docker and Kubernetes mount them, one a file."""
    monkeypatch.delenv("CRATEDIG_SECRET_KEY")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "cratedig_secret_key").write_text(store_server.secret_key)
    monkeypatch.setenv("CRATEDIG_SECRETS_DIR", str(secrets))
    assert all(each.ok for each in examine_services(root))


def test_without_settings_only_the_machine_is_examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(project=tmp_path)
    assert "permissions" not in capsys.readouterr().out
