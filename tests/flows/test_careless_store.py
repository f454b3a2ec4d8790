"""A store that ignores conditions on puts is refused by every command, before anything is written.

A real SeaweedFS behind a proxy that takes If-None-Match or If-Match off the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cyclopts import App

from flows.archive.places import FolderOutput
from flows.cli import app
from flows.errors import StoreRefused, UnsafeStore
from flows.objects import ObjectStore
from flows.runs import (
    collect_flow,
    collect_shards_flow,
    label_archive_flow,
    maintain_flow,
    predict_flow,
    prelabel_flow,
    sweep_flow,
    train_flow,
    train_when_decided_flow,
)
from flows.settings import Settings
from flows.studio.reader import Reader
from tests.conftest import RunningStore
from tests.flows.archives import PROJECT, jpeg
from tests.flows.store_proxy import run_proxy
from tests.flows.test_cli import settings_of
from tests.flows.test_imports import write_folder

SOURCE = '[[sources]]\nname = "list"\nkind = "urls"\nstart = ["https://a.org/1.jpg"]\n'

COMMANDS = (
    "crawl",
    "import pictures",
    "dedupe",
    "label",
    "label pictures --out labels",
    "label --dry pictures",
    "search disc",
    "prompts try disc --on vinyl",
    "review",
    "train",
    "train --check",
    "train --fine-tune lora",
    "predict",
    "drift",
    "queue",
    "precision",
    "models list",
    "models show v1",
    "models compare v1",
    "models promote v1",
    "models rollback",
    "export --format table out",
    "export model --onnx model.onnx",
    "forget --yes --host a.org",
    "sweep",
    "verify",
    "counts",
    "report",
    "migrate",
    "copy --to s3://tests/elsewhere",
)
"""Each that works on the project's bucket, with what it needs to get as far as that."""

WITHOUT_BUCKET = {"init", "up", "down", "status", "demo", "doctor", "deploy"}
"""These make or examine what the others work on, or ask a Prefect server alone."""


@pytest.fixture(params=["if-none-match", "if-match"])
def careless(
    request: pytest.FixtureRequest, store_server: RunningStore, bucket: Settings
) -> Iterator[Settings]:
    """The test's bucket, through a store that knows nothing of that header."""
    with run_proxy(store_server, ignores=frozenset({request.param})) as proxy:
        yield bucket.model_copy(update={"endpoint": proxy.endpoint})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, which commands and flows of this process work on."""
    (tmp_path / "project.toml").write_text(PROJECT + SOURCE)
    write_folder(tmp_path / "pictures", {"a.jpg": jpeg(1)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRATEDIG_PROJECT", str(tmp_path))
    return tmp_path


def use(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_of(settings).items():
        monkeypatch.setenv(name, value)


def commands(below: App, *path: str) -> Iterator[str]:
    """Yield every command by its words."""
    for name in below:
        command = below[name]
        if name.startswith("-"):
            continue
        if command.default_command is not None:
            yield " ".join((*path, name))
        yield from commands(command, *path, name)


def test_every_command_is_held_to_it() -> None:
    """A command that is added is refused below, or named as one that needs no bucket."""
    known = set(commands(app))
    assert {"crawl", "models promote", "export model"} < known
    tried = {
        next(c for c in sorted(known, reverse=True) if f"{t} ".startswith(f"{c} "))
        for t in COMMANDS
    }
    assert known == tried | WITHOUT_BUCKET


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_refused_by(
    command: str, careless: Settings, bucket: Settings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that names the header; the bucket is as empty as before."""
    use(careless, monkeypatch)
    with pytest.raises(UnsafeStore, match="does not honour If-"):
        app(command.split(), exit_on_error=False)
    assert list(ObjectStore(bucket).list()) == []


def test_it_is_refused_by_the_studio(
    careless: Settings, bucket: Settings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(careless, monkeypatch)
    with pytest.raises(UnsafeStore, match="does not honour If-"):
        Reader(root).workspace()
    assert list(ObjectStore(bucket).list()) == []


@pytest.mark.slow
def test_it_is_refused_by_every_flow(
    careless: Settings,
    bucket: Settings,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api: str,
) -> None:
    use(careless, monkeypatch)
    flows: list[Callable[[], object]] = [
        lambda: collect_flow("list"),
        lambda: collect_shards_flow("list"),
        prelabel_flow,
        train_flow,
        train_when_decided_flow,
        predict_flow,
        lambda: label_archive_flow("pictures", "labels"),
        sweep_flow,
        maintain_flow,
    ]
    for flow in flows:
        with pytest.raises(UnsafeStore, match="does not honour If-"):
            flow()
    assert list(ObjectStore(bucket).list()) == []


WRITE_ELSEWHERE = (
    "label pictures --out s3://tests/{out}",
    "copy --to s3://tests/{out}",
    "export --format coco exported --pictures --pictures-at s3://tests/{out}",
)


@pytest.mark.parametrize("command", WRITE_ELSEWHERE)
def test_what_is_written_to_is_asked_and_not_the_projects_own_bucket_alone(
    command: str,
    store_server: RunningStore,
    bucket: Settings,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The project's place honours conditions, the other does not: nothing is left in it."""
    out = f"{bucket.prefix}-out"
    with run_proxy(
        store_server, ignores=frozenset({"if-none-match"}), ignores_below=f"/tests/{out}/"
    ) as proxy:
        use(bucket.model_copy(update={"endpoint": proxy.endpoint}), monkeypatch)
        with pytest.raises(UnsafeStore, match="does not honour If-None-Match"):
            app(command.format(out=out).split(), exit_on_error=False)
    assert list(ObjectStore(bucket.model_copy(update={"prefix": out})).list()) == []


@pytest.mark.parametrize("command", WRITE_ELSEWHERE)
def test_keys_that_do_not_open_the_other_place_are_told_of_before_the_work(
    command: str,
    store_server: RunningStore,
    bucket: Settings,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one sentence, with no picture read: the project itself has none here."""
    out = f"{bucket.prefix}-out"
    with run_proxy(store_server) as proxy:
        use(bucket.model_copy(update={"endpoint": proxy.endpoint}), monkeypatch)
        proxy.strikes = lambda method, path: "expired" if out in path else None
        with pytest.raises(StoreRefused):
            app(command.format(out=out).split(), exit_on_error=False)
    assert not (root / "exported").exists()


def test_a_folder_without_hard_links_is_refused(tmp_path: Path) -> None:
    """One in which no file can be made stands in for it; an honest one passes and stays empty."""
    FolderOutput(tmp_path / "out").probe()
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UnsafeStore, match="second name"):
        FolderOutput(Path("/proc/self/fdinfo")).probe()
