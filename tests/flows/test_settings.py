"""Settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import NoStore, SettingsInvalid
from flows.settings import LOCAL_ENV, Settings

KEYS = "CRATEDIG_ACCESS_KEY=AKEXAMPLE\nCRATEDIG_SECRET_KEY=very-secret\n"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CRATEDIG_{name.upper()}", raising=False)


def _write_local(root: Path, text: str) -> None:
    (root / LOCAL_ENV).parent.mkdir()
    (root / LOCAL_ENV).write_text(text)


def test_local_stack_is_found(tmp_path: Path) -> None:
    """What the local stack wrote is enough."""
    _write_local(tmp_path, f"CRATEDIG_ENDPOINT=http://127.0.0.1:8333\n{KEYS}")

    settings = Settings.load(tmp_path)

    assert settings.endpoint == "http://127.0.0.1:8333"
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "very-secret"


def test_dot_env_overrides_local_stack(tmp_path: Path) -> None:
    """The folder's .env goes before what the local stack wrote."""
    _write_local(tmp_path, f"CRATEDIG_ENDPOINT=http://127.0.0.1:8333\n{KEYS}")
    (tmp_path / ".env").write_text("CRATEDIG_ENDPOINT=https://s3.example.org\nOTHER=1\n")

    assert Settings.load(tmp_path).endpoint == "https://s3.example.org"


def test_environment_overrides_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment goes before every file."""
    (tmp_path / ".env").write_text(f"CRATEDIG_ENDPOINT=http://127.0.0.1:1\n{KEYS}")
    monkeypatch.setenv("CRATEDIG_ENDPOINT", "http://127.0.0.1:2")

    assert Settings.load(tmp_path).endpoint == "http://127.0.0.1:2"


def test_no_store_names_what_to_do(tmp_path: Path) -> None:
    """Without an endpoint and keys the error names the command and each missing variable."""
    with pytest.raises(NoStore) as caught:
        Settings.load(tmp_path)

    said = str(caught.value)
    assert "cratedig up" in said
    assert "CRATEDIG_ENDPOINT, CRATEDIG_ACCESS_KEY, CRATEDIG_SECRET_KEY" in said


def test_only_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(KEYS)

    with pytest.raises(NoStore, match=r"set CRATEDIG_ENDPOINT$"):
        Settings.load(tmp_path)


def test_secrets_are_not_in_repr(tmp_path: Path) -> None:
    """Neither key appears in repr, str or JSON."""
    (tmp_path / ".env").write_text(f"CRATEDIG_ENDPOINT=http://127.0.0.1:1\n{KEYS}")

    settings = Settings.load(tmp_path)
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"

    assert "very-secret" not in shown
    assert "AKEXAMPLE" not in shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("CRATEDIG_ENDPOINT=s3.example.org", "CRATEDIG_ENDPOINT: expected an address"),
        ("CRATEDIG_ENDPOINT=https://me:hunter2@s3.example.org", "CRATEDIG_ENDPOINT: keys do not"),
        ("CRATEDIG_BUCKET=My_Bucket", "CRATEDIG_BUCKET: expected a bucket's name"),
    ],
)
def test_unusable_value_names_its_variable(tmp_path: Path, line: str, said: str) -> None:
    """An unusable value is refused by the name of its variable, without the value."""
    (tmp_path / ".env").write_text(f"{KEYS}{line}\n")

    with pytest.raises(SettingsInvalid) as caught:
        Settings.load(tmp_path)

    assert str(caught.value).startswith(said)
    assert "hunter2" not in str(caught.value)


def test_prefix_loses_its_slashes(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"CRATEDIG_ENDPOINT=http://127.0.0.1:1\nCRATEDIG_PREFIX=/team/records/\n{KEYS}"
    )

    assert Settings.load(tmp_path).prefix == "team/records"
