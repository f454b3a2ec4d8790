"""Secrets that lie in blocks of a real Prefect server, and what is said of where secrets come from."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from flows.checkup import examine_services
from flows.cli_team import doctor
from flows.copy import destination
from flows.errors import SettingsInvalid
from flows.logs import is_secret, redact
from flows.notify import NotifySettings
from flows.prefect_api import PrefectAway
from flows.secret_sources import secret_sources
from flows.settings import LOCAL_ENV, Settings
from flows.workspace import open_workspace
from tests.conftest import RunningStore
from tests.flows.studio_data import make_project

NOBODY = "http://127.0.0.1:9/api"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "PREFECT_API_URL", "SMTP_PASSWORD"):
        monkeypatch.delenv(f"CRATEDIG_{name}", raising=False)


def _block(value: str | dict[str, str]) -> str:
    """Save a block of this test's own on the server; return its name."""
    name = f"test-{uuid.uuid4().hex}"
    # Outside an event loop Prefect answers at once, with no coroutine to await.
    cast("UUID", Secret(value=SecretStr(value) if isinstance(value, str) else value).save(name))
    return name


def _project(root: Path, **variables: str) -> Path:
    """Write a `.env` with those settings."""
    given = {"endpoint": "http://127.0.0.1:1", "access_key": "AKEXAMPLE", **variables}
    lines = [f"CRATEDIG_{name.upper()}={value}" for name, value in given.items()]
    (root / ".env").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
def test_a_key_in_a_block_opens_the_store(
    prefect_api: str, store_server: RunningStore, tmp_path: Path
) -> None:
    """Although `local.env` has another one."""
    make_project(tmp_path, store_server)
    local = tmp_path / LOCAL_ENV
    text = local.read_text().replace(store_server.secret_key, "of-another-store")
    local.write_text("".join(line for line in text.splitlines(True) if "PREFECT" not in line))
    block = _block(store_server.secret_key)
    (tmp_path / ".env").write_text(
        f"CRATEDIG_PREFECT_API_URL={prefect_api}\nCRATEDIG_SECRET_KEY_BLOCK={block}\n"
    )
    workspace = open_workspace(tmp_path)
    assert workspace.store.list() is not None
    assert workspace.settings.secret_key == SecretStr(store_server.secret_key)
    said = f"the Prefect Secret block '{block}'; what .cratedig/local.env says is not used"
    assert secret_sources(tmp_path)["CRATEDIG_SECRET_KEY"] == said


@pytest.mark.slow
def test_the_mail_servers_password_may_lie_in_a_block(prefect_api: str, tmp_path: Path) -> None:
    """A user without a password is refused, so it is there when the settings are checked."""
    root = _project(
        tmp_path,
        prefect_api_url=prefect_api,
        smtp_host="127.0.0.1",
        mail_from="a@b.example",
        mail_to="c@d.example",
        smtp_user="me",
        smtp_password_block=_block("hunter2-in-a-block"),
    )
    assert NotifySettings.load(root).smtp_password == SecretStr("hunter2-in-a-block")


@pytest.mark.slow
def test_the_keys_of_a_copy_may_lie_in_blocks(
    prefect_api: str, store_server: RunningStore, tmp_path: Path
) -> None:
    workspace = make_project(tmp_path, store_server)
    (tmp_path / ".env").write_text(
        f"CRATEDIG_PREFECT_API_URL={prefect_api}\n"
        f"CRATEDIG_COPY_ACCESS_KEY_BLOCK={_block(store_server.access_key)}\n"
        f"CRATEDIG_COPY_SECRET_KEY_BLOCK={_block(store_server.secret_key)}\n"
    )
    own = workspace.settings.model_copy(update={"secret_key": SecretStr("wrong")})
    stranger = dataclasses.replace(workspace, settings=own)
    assert list(destination(stranger, f"s3://copy-{uuid.uuid4().hex[:12]}", None).list()) == []


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, {"a": "hunter2"}, ""])
def test_a_block_that_is_missing_or_holds_no_text_is_one_sentence(
    prefect_api: str, tmp_path: Path, value: str | dict[str, str] | None
) -> None:
    name = "nowhere" if value is None else _block(value)
    root = _project(tmp_path, prefect_api_url=prefect_api, secret_key_block=name)
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load(root)
    assert str(caught.value) == (
        f"CRATEDIG_SECRET_KEY_BLOCK: the Prefect server at {prefect_api} has no Secret block "
        f"'{name}' with a text in it: make it in its pages, under Blocks, or set "
        "CRATEDIG_SECRET_KEY instead"
    )


@pytest.mark.slow
def test_what_came_from_a_block_is_not_logged(prefect_api: str, tmp_path: Path) -> None:
    secret = f"from-a-block-{uuid.uuid4().hex}"
    root = _project(tmp_path, prefect_api_url=prefect_api, secret_key_block=_block(secret))
    settings = Settings.load(root)
    assert secret not in f"{settings!r} {settings.model_dump_json()}"
    assert redact(f"refused: {secret}!") == "refused: ***!"


def test_a_name_of_a_block_is_no_secret() -> None:
    assert is_secret("CRATEDIG_SECRET_KEY")
    assert not is_secret("CRATEDIG_SECRET_KEY_BLOCK")


def test_blocks_without_a_prefect_server_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"SECRET_KEY_BLOCK names .*set CRATEDIG_PREFECT"):
        Settings.load(_project(tmp_path, secret_key_block="x"))


def test_a_server_that_is_away_is_no_missing_block(tmp_path: Path) -> None:
    """It may be back in a moment."""
    root = _project(tmp_path, prefect_api_url=NOBODY, secret_key_block="x")
    with pytest.raises(PrefectAway, match="does not answer"):
        Settings.load(root)


def test_without_a_block_no_server_is_asked(tmp_path: Path) -> None:
    settings = Settings.load(_project(tmp_path, prefect_api_url=NOBODY, secret_key="k"))
    assert settings.secret_key == SecretStr("k")


def test_the_doctor_says_where_each_secret_came_from_and_not_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the first place that has it; the block that cannot be had is named, and so is the reason."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "cratedig_smtp_password").write_text("hunter2")
    (tmp_path / ".cratedig").mkdir()
    (tmp_path / LOCAL_ENV).write_text("CRATEDIG_COPY_ACCESS_KEY=hunter3\n")
    monkeypatch.setenv("CRATEDIG_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("CRATEDIG_WEBHOOK_URL", "http://127.0.0.1:1/hunter4")
    root = _project(tmp_path, prefect_api_url=NOBODY, secret_key_block="keys")
    assert secret_sources(root) == {
        "CRATEDIG_ACCESS_KEY": ".env",
        "CRATEDIG_SECRET_KEY": "the Prefect Secret block 'keys'",
        "CRATEDIG_SMTP_PASSWORD": f"a file in {secrets}",
        "CRATEDIG_WEBHOOK_URL": "the environment",
        "CRATEDIG_COPY_ACCESS_KEY": ".cratedig/local.env",
    }
    assert doctor(project=root) == 1
    said = capsys.readouterr().out
    assert "ok  CRATEDIG_SECRET_KEY: from the Prefect Secret block 'keys'" in said
    assert f"NO  settings: the Prefect server at {NOBODY} does not answer" in said
    assert "hunter" not in said
    assert "AKEXAMPLE" not in said


def test_a_project_without_secrets_has_none_to_tell_of(tmp_path: Path) -> None:
    assert secret_sources(tmp_path) == {}
    assert [each.name for each in examine_services(tmp_path)] == ["settings"]
