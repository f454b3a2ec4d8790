"""Train: what there is to learn from, one button, how it goes, and what came of it before."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from flows.errors import Permanent, SettingsInvalid
from flows.prefect_api import Deployment, FlowRun, PrefectAway, PrefectServer
from flows.studio.pages import render
from flows.studio.reader import Reader
from flows.train_job import TrainJobs, TrainRun

MIN_ANSWERS = 3
"""Of yes and of no, without which a label is refused: `model.readiness.MIN_ANSWERS`."""

DEPLOYMENT = "train/model"
PROGRESS_KEY = "train-progress"
CHECK_TIMEOUT_S = 600.0

router = APIRouter(tags=["train"])


class TrainRequest(BaseModel):
    """Whom to write to when it has ended; if empty, those of CRATEDIG_MAIL_TO."""

    model_config = ConfigDict(extra="forbid")

    mail_to: str = Field(default="", max_length=254, pattern=r"^$|^[^@\s,;<>]+@[^@\s,;<>]+$")


class TrainRuns(BaseModel):
    """The last runs, newest first, and where the next one would run."""

    where: Literal["prefect", "here"]
    note: str = ""
    runs: list[TrainRun]


class Training:
    """Starts training where the project's runs belong: on the Prefect server, or else here."""

    def __init__(self, reader: Reader, root: Path) -> None:
        self._reader = reader
        self._root = root.resolve()
        self._jobs = TrainJobs(self._root)
        self._checking = threading.Lock()
        self._checked: tuple[object, bytes] | None = None

    def start(self, mail_to: str) -> TrainRun:
        """Start a run. Raises Permanent while one is going on."""
        found, _ = self._deployment()
        if found is None:
            return self._jobs.start(mail_to=mail_to)
        server, deployment = found
        if any(each.state in {"waiting", "running"} for each in server.runs(deployment)):
            raise Permanent("a training run is going on already: wait until it has ended")
        return _shown(server.start(deployment, {"mail_to": mail_to} if mail_to else {}))

    def runs(self) -> TrainRuns:
        """Return the last runs, those of Prefect and those of this machine."""
        found, note = self._deployment()
        here = self._jobs.runs()
        if found is None:
            return TrainRuns(where="here", note=note, runs=here)
        server, deployment = found
        there = []
        for run in server.runs(deployment):
            there.append(_shown(run))
            if run.state == "running":
                percent, words = server.progress(run, PROGRESS_KEY)
                there[-1].done, there[-1].total, there[-1].step = round(percent), 100, words
        runs = sorted([*there, *here], key=lambda each: each.started_at, reverse=True)
        return TrainRuns(where="prefect", runs=runs)

    def readiness(self) -> bytes:
        """Return `model.readiness.Readiness` as JSON, worked out anew when the tables have changed.

        By the command, in a process of its own: it trains, which takes memory that stays there.
        Raises Permanent with the command's sentence.
        """
        with self._checking:
            workspace = self._reader.workspace()
            now = (workspace.catalog.versions(), workspace.project.model_dump_json())
            if self._checked is None or self._checked[0] != now:
                self._checked = (now, self._check())
            return self._checked[1]

    def _check(self) -> bytes:
        code = "import sys; from flows.cli import main; sys.exit(main())"
        arguments = ["train", "--check", "--json", "--project", str(self._root)]
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
        if not ended.stdout:
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            raise Permanent(
                said[-1].removeprefix("cratedig: ") if said else "the check ended early"
            )
        return ended.stdout

    def _deployment(self) -> tuple[tuple[PrefectServer, Deployment] | None, str]:
        """Return the Prefect server and what it has to run, or None and why not."""
        workspace = self._reader.workspace()
        server = PrefectServer.of(workspace.settings)
        if server is None:
            return None, ""
        try:
            deployment = server.deployment(DEPLOYMENT, project=workspace.project.name)
        except PrefectAway as error:
            return None, f"{error}; training runs on this machine instead"
        if deployment is None:
            return None, f"the Prefect server has no deployment {DEPLOYMENT} of this project"
        return (server, deployment), ""


def _shown(run: FlowRun) -> TrainRun:
    return TrainRun(
        id=run.id,
        state="failed" if run.state == "cancelled" else run.state,
        said=run.said,
        started_at=run.started_at,
        ended_at=run.ended_at,
        address=run.address,
    )


def _training(request: Request) -> Training:
    training: Training = request.app.state.training
    return training


@router.get("/train", include_in_schema=False)
def train_page(request: Request) -> Response:
    """Show what there is to learn from, and the versions that came of it before."""
    from flows.models import list_models
    from flows.notify import NotifySettings

    reader = request.app.state.reader
    workspace, view = reader.workspace(), reader.view()
    counts = [view.label_count(label) for label in workspace.project.taxonomy().names]
    try:
        settings = NotifySettings.load(workspace.root)
        mail, mail_to, trouble = settings.smtp_host is not None, settings.mail_to, ""
    except SettingsInvalid as error:
        mail, mail_to, trouble = False, "", str(error)
    context: dict[str, Any] = {
        "counts": counts,
        "least": MIN_ANSWERS,
        "enough": all(min(each.yes, each.no) >= MIN_ANSWERS for each in counts),
        "lines": list_models(workspace),
        "mail": mail,
        "mail_to": mail_to,
        "mail_trouble": trouble,
    }
    return render(request, "train.html", context)


@router.get("/api/train/runs")
def runs(request: Request) -> TrainRuns:
    """Return the last training runs and how they stand."""
    try:
        return _training(request).runs()
    except PrefectAway as error:
        raise HTTPException(503, str(error)) from error


@router.post("/api/train", status_code=202)
def train(request: Request, wanted: TrainRequest) -> TrainRun:
    """Start a training run on the decisions so far; 409 while one is going on."""
    try:
        return _training(request).start(wanted.mail_to)
    except PrefectAway as error:
        raise HTTPException(503, str(error)) from error
    except Permanent as error:
        if type(error) is not Permanent:
            raise  # no matter of training: the project or its store
        raise HTTPException(409, str(error)) from error


@router.get("/api/train/readiness")
def readiness(request: Request) -> Response:
    """Return per label what there is, what would be refused, and what more would bring."""
    try:
        return Response(_training(request).readiness(), media_type="application/json")
    except Permanent as error:
        if type(error) is not Permanent:
            raise
        raise HTTPException(409, str(error)) from error
