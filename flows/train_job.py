"""A training run in a process of its own, for the studio where no Prefect server is set up.

    python -m flows.train_job --project ROOT --run RUN [--mail-to ADDRESS]

It outlives the studio that started it. How far it has come lies in `.cratedig/training/<run>.json`
on this machine; what it made lies in the bucket, as of every training run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel

from flows import observe
from flows.errors import Permanent
from flows.progress import Progress
from flows.records import new_run_id

FOLDER = Path(".cratedig") / "training"
"""Relative to the project's folder."""

WRITE_EVERY_S = 0.3
_KEPT = 20
_STARTING_S = 30.0

State = Literal["waiting", "running", "done", "failed"]


class TrainRun(BaseModel):
    """A training run as it stands."""

    id: str
    state: State
    step: str = ""
    done: int = 0
    total: int | None = None
    said: str = ""
    """What it ended with: the line of the stage, or the sentence of its failure."""
    version: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    pid: int | None = None
    address: str | None = None
    """Where it can be looked at, if Prefect runs it."""


class TrainJobs:
    """Starts runs of the project in `root`, one at a time, and says how they stand."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def start(self, *, mail_to: str = "") -> TrainRun:
        """Start a run and return it. Raises Permanent while another is running on this machine."""
        with self._lock:
            if any(each.state == "running" for each in self.runs()):
                raise Permanent("a training run is going on already: wait until it has ended")
            run = TrainRun(id=new_run_id(), state="running", started_at=datetime.now(UTC))
            folder = self._root / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder, run)
            command = [sys.executable, "-m", "flows.train_job", "--project", str(self._root)]
            command += ["--run", run.id, "--mail-to", mail_to]
            with (folder / f"{run.id}.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    # A studio that is stopped does not take it along.
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            # Somebody has to wait for it, or its number stays taken.
            threading.Thread(target=process.wait, daemon=True).start()
            return run

    def runs(self) -> list[TrainRun]:
        """Return the last runs, newest first; one whose process is gone has failed."""
        paths = sorted((self._root / FOLDER).glob("*.json"), reverse=True)
        return [
            _as_it_stands(TrainRun.model_validate_json(path.read_text())) for path in paths[:_KEPT]
        ]


def _as_it_stands(run: TrainRun) -> TrainRun:
    if run.state != "running" or _is_alive(run):
        return run
    said = f"it was stopped before its end; {FOLDER / run.id}.log may say why"
    return run.model_copy(update={"state": "failed", "said": said})


def _is_alive(run: TrainRun) -> bool:
    if run.pid is None:  # the process has not come as far as to say who it is
        return (datetime.now(UTC) - run.started_at).total_seconds() < _STARTING_S
    try:
        process = psutil.Process(run.pid)
        # A number is given to another process sooner or later: is it this run's?
        return process.status() != psutil.STATUS_ZOMBIE and run.id in process.cmdline()
    except psutil.Error:
        return False


def _write(folder: Path, run: TrainRun) -> None:
    path = folder / f"{run.id}.json"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(run.model_dump_json())
    unfinished.replace(path)


def run_here(root: Path, run: TrainRun, *, mail_to: str = "") -> TrainRun:
    """Train, tell people, and write down how it goes; return how it ended."""
    from crawler.rejections import CrawlerError
    from flows.errors import CratedigError
    from flows.notify import NotifySettings, failed_notice, send, trained_notice
    from flows.train import train
    from flows.workspace import open_workspace
    from model.errors import ModelError

    folder = root / FOLDER
    stand = run.model_copy(update={"pid": os.getpid(), "step": "read the dataset"})
    _write(folder, stand)

    @contextmanager
    def watch(title: str) -> Iterator[Progress]:
        nonlocal stand
        written_at = 0.0

        def update(done: int, total: int | None, said: object = "") -> None:
            nonlocal stand, written_at
            stand = stand.model_copy(update={"step": title, "done": done, "total": total})
            if time.monotonic() - written_at >= WRITE_EVERY_S:
                written_at = time.monotonic()
                _write(folder, stand)

        update(0, None)
        yield update
        stand = stand.model_copy(update={"step": "measure and publish", "done": 0, "total": None})
        _write(folder, stand)

    name, studio_url, settings = root.name, None, None
    unexpected: Exception | None = None
    try:
        settings = NotifySettings.load(root)
        if mail_to:
            settings = settings.model_copy(update={"mail_to": mail_to})
        workspace = open_workspace(root)
        name, studio_url = workspace.project.name, workspace.settings.studio_url
        result = train(workspace, rule=workspace.project.promotion_rule(), watch=watch)
    except Exception as error:  # noqa: BLE001 - raised again below, when people have been told
        expected = isinstance(error, CratedigError | CrawlerError | ModelError)
        said = str(error) if expected else f"{type(error).__name__}: {error}"
        stand = stand.model_copy(update={"state": "failed", "said": said})
        notice = failed_notice(error, project=name)
        unexpected = None if expected else error
    else:
        stand = stand.model_copy(
            update={"state": "done", "said": str(result), "version": result.version}
        )
        notice = trained_notice(result, project=name, studio_url=studio_url)
    if settings is not None:
        for trouble in send(notice, settings):
            print(trouble, file=sys.stderr)
    stand = stand.model_copy(update={"ended_at": datetime.now(UTC)})
    _write(folder, stand)
    if unexpected is not None:
        raise unexpected  # its traceback belongs into the run's log
    return stand


def main() -> int:
    """Run the job that the arguments name; 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--mail-to", default="")
    options = parser.parse_args()
    observe.begin(options.project)
    path = options.project / FOLDER / f"{options.run}.json"
    run = TrainRun.model_validate_json(path.read_text())
    return int(run_here(options.project, run, mail_to=options.mail_to).state == "failed")


if __name__ == "__main__":
    sys.exit(main())
