"""What is said on stderr: for people, or as JSON; never a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from flows import logs
from flows.copy import CopySettings
from flows.errors import SettingsInvalid
from flows.notify import NotifySettings
from flows.settings import Settings
from flows.studio.access import AccessSettings
from tests.flows.gallery import gallery, workspace_at
from tests.flows.test_cli import run, settings_of

SECRET = "correct-horse-battery"


def _lines(stderr: str) -> list[dict[str, Any]]:
    """Return the objects on stderr, of which every line is one."""
    return [json.loads(line) for line in stderr.splitlines()]


def _python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a process that has begun its logs in `folder`."""
    begin = (
        "import logging, threading, warnings\nfrom pathlib import Path\nfrom flows import logs\n"
    )
    return subprocess.run(
        [sys.executable, "-c", f"{begin}logs.begin(Path())\n{code}"],
        cwd=folder,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_line_of_a_run_is_an_object_with_its_id(bucket: Settings, tmp_path: Path) -> None:
    """A crawl by the command: what it says goes by run, stage and source; results stay on stdout."""
    with gallery() as site:
        workspace_at(tmp_path, bucket, site.base)
        (tmp_path / "list.txt").write_text(f"{site.picture_url(1)}\n{site.picture_url(2)}\n")
        options = ["--urls", "list.txt", "--name", "mine", "--allow-private", "--run-id", "one"]
        environment = {**settings_of(bucket), "CRATEDIG_LOG": "json"}
        crawl = run("crawl", *options, folder=tmp_path, environment=environment)

    assert crawl.stdout.startswith("collected 2 kept 2")
    lines = _lines(crawl.stderr)
    of_run = [line for line in lines if line.get("run") == "one"]
    assert [(line["message"], line["stage"], line["source"]) for line in of_run] == [
        ("collect begins", "collect", "mine"),
        ("collect: done", "collect", "mine"),
    ]
    assert all(line["time"] and line["level"] == "info" for line in lines)
    assert "`cratedig report one` prints it" in lines[-1]["message"]


def test_failing_command_is_one_object_with_the_kind_of_error(tmp_path: Path) -> None:
    """A machine can tell errors apart without reading sentences."""
    said = run("crawl", folder=tmp_path, environment={"CRATEDIG_LOG": "json"})

    (line,) = _lines(said.stderr)
    assert said.returncode == 1
    assert (line["level"], line["fields"]) == ("error", {"error": "ProjectInvalid"})
    assert line["message"].startswith("cratedig: ")


def test_unknown_form_of_logs_is_refused(tmp_path: Path) -> None:
    """One sentence, no traceback."""
    said = run("crawl", folder=tmp_path, environment={"CRATEDIG_LOG": "xml"})
    assert (said.returncode, said.stderr) == (
        1,
        "cratedig: CRATEDIG_LOG: expected human or json\n",
    )


def test_threads_carry_the_run_that_started_them(tmp_path: Path) -> None:
    """Threads have no context of their own: they take what was bound last in the process."""
    said = _python(
        "with logs.bound(run='r', stage='embed'):\n"
        "    thread = threading.Thread(target=logs.tell, args=('from a thread',))\n"
        "    thread.start(); thread.join()\n"
        "logs.tell('afterwards')",
        tmp_path,
        CRATEDIG_LOG="json",
    )
    within, afterwards = _lines(said.stderr)
    assert (within["run"], within["stage"]) == ("r", "embed")
    assert "run" not in afterwards


def test_what_breaks_is_an_object_too(tmp_path: Path) -> None:
    """Warnings of libraries, and the traceback that ends a process, are no loose lines."""
    said = _python("warnings.warn('old')\nraise KeyError('lost')", tmp_path, CRATEDIG_LOG="json")

    warning, end = _lines(said.stderr)
    assert "old" in warning["message"]
    assert (end["level"], end["message"]) == ("critical", "KeyError: 'lost'")
    assert "Traceback" in end["exception"]


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_secret_is_said(tmp_path: Path, form: str) -> None:
    """Whether it comes from the environment, `.env` or a file, and wherever in a line it stands."""
    (tmp_path / ".env").write_text(f"CRATEDIG_ACCESS_KEY={SECRET}-env-file\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "cratedig_smtp_password").write_text(f'{SECRET}-"file"\n')
    said = _python(
        f"logs.tell('a {SECRET}-variable b', file='{SECRET}-\"file\"', more=['{SECRET}-env-file'])\n"
        f"logs.tell_failed('{SECRET}-env-file and {SECRET}-\"file\"')\n"
        "logs.tell('http://ada:lovelace@example.org/')\n",
        tmp_path,
        CRATEDIG_LOG=form,
        CRATEDIG_SECRET_KEY=f"{SECRET}-variable",
        CRATEDIG_SECRETS_DIR=str(tmp_path / "secrets"),
    )
    assert SECRET not in said.stderr
    assert "lovelace" not in said.stderr
    assert "a *** b" in said.stderr
    assert len(said.stderr.splitlines()) == 3


def test_secret_in_a_traceback_is_hidden(tmp_path: Path) -> None:
    """What libraries put into their errors is not known beforehand."""
    said = _python(
        f"raise ValueError('{SECRET}')",
        tmp_path,
        CRATEDIG_LOG="json",
        CRATEDIG_STUDIO_TOKEN=SECRET,
    )
    assert SECRET not in said.stderr
    assert "ValueError: ***" in said.stderr


@pytest.mark.parametrize("settings", [Settings, NotifySettings, AccessSettings, CopySettings])
def test_every_setting_that_is_secret_is_hidden(settings: type[BaseSettings]) -> None:
    """Secrets are known by the names of their variables: each must have such a name."""
    prefix = settings.model_config["env_prefix"]
    secret = [
        name
        for name, field in settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]
    assert secret
    assert [name for name in secret if not logs.is_secret(f"{prefix}{name}".upper())] == []


def test_prefect_says_it_in_json_and_still_tells_its_server(tmp_path: Path) -> None:
    """Prefect's console is taken over, its handler to the server is not."""
    said = _python(
        "import prefect\n"
        "from prefect.logging.configuration import setup_logging\n"
        "setup_logging()\n"
        "logs.begin(Path())\n"
        "logging.getLogger('prefect.flow_runs').info('x', extra={'flow_run_id': 'f'})\n"
        "handlers = logging.getLogger('prefect.flow_runs').handlers\n"
        "print([type(each).__name__ for each in handlers])\n",
        tmp_path,
        CRATEDIG_LOG="json",
        HOME=str(tmp_path),
        PREFECT_LOGGING_TO_API_ENABLED="false",
        DO_NOT_TRACK="1",
    )
    assert said.stdout.strip() == "['APILogHandler']"
    (line,) = [each for each in _lines(said.stderr) if each["logger"] == "prefect.flow_runs"]
    assert (line["message"], line["run"], line["flow_run"]) == ("x", "f", "f")


def test_unusable_value_is_named(tmp_path: Path) -> None:
    """The settings are read from the project's `.env`, too."""
    (tmp_path / ".env").write_text("CRATEDIG_LOG=xml\n")
    with pytest.raises(SettingsInvalid, match="expected human or json"):
        logs.LogSettings.load(tmp_path)
