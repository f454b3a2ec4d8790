"""The commands as a user meets them: exit codes, one clear sentence, results on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.project import Project
from flows.settings import Settings
from tests.flows.gallery import gallery, workspace_at
from tests.flows.line import Line


def run(
    *arguments: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command in `folder`, with no settings but those given."""
    command = Path(sys.executable).with_name("cratedig")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CRATEDIG_")}
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def settings_of(settings: Settings) -> dict[str, str]:
    """Return settings as the environment variables that they are read from."""
    assert settings.endpoint is not None
    assert settings.access_key is not None
    assert settings.secret_key is not None
    return {
        "CRATEDIG_ENDPOINT": settings.endpoint,
        "CRATEDIG_ACCESS_KEY": settings.access_key.get_secret_value(),
        "CRATEDIG_SECRET_KEY": settings.secret_key.get_secret_value(),
        "CRATEDIG_BUCKET": settings.bucket,
        "CRATEDIG_PREFIX": settings.prefix,
    }


def test_help_needs_neither_torch_nor_prefect() -> None:
    """`cratedig --help` answers at once: what is slow to import is imported when it is used."""
    code = (
        "import sys, flows.cli; "
        "print({'torch', 'open_clip', 'prefect', 'scrapy', 'lance', 'boto3'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    assert run("polish", folder=tmp_path).returncode == 2


def test_init_writes_a_project_that_loads_and_never_overwrites(tmp_path: Path) -> None:
    assert run("init", "records", folder=tmp_path).returncode == 0
    assert Project.load(tmp_path / "records").name == "records"
    (tmp_path / "records" / "project.toml").write_text("# mine")
    again = run("init", "records", folder=tmp_path)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (tmp_path / "records" / "project.toml").read_text() == "# mine"


@pytest.mark.parametrize(
    "arguments",
    [["crawl"], ["label"], ["review"], ["train"], ["predict"], ["export", "x.csv"], ["up"]],
    ids=lambda arguments: arguments[0],
)
def test_without_a_project_each_command_says_one_sentence(
    tmp_path: Path, arguments: list[str]
) -> None:
    """What, which, and what to do; no traceback."""
    said = run(*arguments, folder=tmp_path)
    assert said.returncode == 1
    assert said.stderr.startswith("cratedig: there is no project.toml in ")
    assert "cratedig init" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_without_a_store_the_way_to_one_is_told(tmp_path: Path) -> None:
    run("init", ".", folder=tmp_path)
    said = run("crawl", folder=tmp_path)
    assert said.returncode == 1
    assert "cratedig up" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_an_unreachable_store_is_one_sentence(tmp_path: Path) -> None:
    run("init", ".", folder=tmp_path)
    nowhere = {
        "CRATEDIG_ENDPOINT": "http://127.0.0.1:1",
        "CRATEDIG_ACCESS_KEY": "a",
        "CRATEDIG_SECRET_KEY": "b",
    }
    said = run("review", folder=tmp_path, environment=nowhere)
    assert said.returncode == 1
    assert "http://127.0.0.1:1" in said.stderr
    assert "Traceback" not in said.stderr


def test_status_of_a_stack_that_never_ran(tmp_path: Path) -> None:
    said = run("status", "--json", folder=tmp_path)
    assert said.returncode == 0
    assert {part["state"] for part in json.loads(said.stdout)} == {"stopped"}


@pytest.mark.slow
def test_the_commands_work_on_a_real_project(line: Line, tmp_path: Path) -> None:
    """review, train, predict and export, from another process, on what the line has left."""
    environment = settings_of(line.workspace.settings)
    project = ["--project", str(line.workspace.root)]

    review = run("review", *project, folder=tmp_path, environment=environment)
    assert review.returncode == 0, review.stderr
    assert "wait for a decision" in review.stdout

    train = run("train", "--json", *project, folder=tmp_path, environment=environment)
    assert train.returncode == 0, train.stderr
    assert json.loads(train.stdout)["version"] == line.trained.version

    predict = run("predict", *project, folder=tmp_path, environment=environment)
    assert predict.returncode == 0, predict.stderr
    assert predict.stdout.startswith("predicted 0 already")

    export = run("export", "labels.csv", *project, folder=tmp_path, environment=environment)
    assert export.returncode == 0, export.stderr
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert len(rows) == 1 + len(line.workspace.catalog.permitted())
    assert '"vinyl_answer"' in rows[0]

    refused = run("export", "labels.xls", *project, folder=tmp_path, environment=environment)
    assert refused.returncode == 1
    assert ".csv or .parquet" in refused.stderr

    unknown = run("crawl", "nowhere", *project, folder=tmp_path, environment=environment)
    assert unknown.returncode == 1
    assert "shop, arrivals" in unknown.stderr


def test_a_table_is_crawled_and_reported_by_commands(bucket: Settings, tmp_path: Path) -> None:
    """Without a word of it in project.toml; progress and the way to the report on stderr."""
    with gallery() as site:
        workspace_at(tmp_path, bucket, site.base)
        (tmp_path / "list.txt").write_text(f"{site.picture_url(1)}\n{site.picture_url(2)}\n")
        options = ["--urls", "list.txt", "--name", "mine", "--allow-private", "--run-id", "one"]
        crawl = run("crawl", *options, folder=tmp_path, environment=settings_of(bucket))
    assert crawl.returncode == 0, crawl.stderr
    assert crawl.stdout.startswith("collected 2 kept 2 duplicate 0 rejected 0 in ")
    assert "`cratedig report one` prints it" in crawl.stderr
    report = run("report", folder=tmp_path, environment=settings_of(bucket))
    assert report.stdout.startswith("# mine, run one\n\ncollected 2 kept 2")


@pytest.mark.parametrize(
    "options", [["--name", "x"], ["shop", "--urls", "list.txt"]], ids=["no table", "a source, too"]
)
def test_options_of_a_table_that_mean_nothing_are_a_usage_error(
    options: list[str], tmp_path: Path
) -> None:
    assert run("crawl", *options, folder=tmp_path).returncode == 2
