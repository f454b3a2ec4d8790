"""What the local stack consists of: each part's command, environment and sign of life."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.store import FOREIGN_VARIABLES, PORT_OPTIONS, store_command

_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One program of the local stack.

    Attributes:
        name: lower case letters, digits and hyphens; its log is `logs/<name>.log`.
        command: the program and its arguments; `{port}` in them stands for the part's port.
        port: 0 for one that the stack chooses and keeps, a number for that port and no other, None
            for a part that does not listen, which counts as ready as soon as it runs.
        health_path: answered with a status below 500 once the part is ready.
        environment: variables beside the inherited ones.
        folder: its working directory; the project's if None.
        without: beginnings of the names of variables that it must not inherit.
        after: parts that must be ready before it is started. Such a part is taken to read
            `local.env` and `project.toml` when it starts, and is started again when they changed.
    """

    name: str
    command: tuple[str, ...]
    port: int | None
    health_path: str = "/"
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: Path | None = None
    without: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} cannot name a part: use lower case letters, digits and hyphens"
            )

    def on_port(self, port: int | None) -> Part:
        """Return the same part with `port` for its port, filled into its command."""
        command = tuple(each.replace("{port}", str(port)) for each in self.command)
        return dataclasses.replace(self, command=command, port=port)

    def fingerprint(self, read_at_start: str) -> str:
        """Return a hash of all that a restart is needed for.

        `read_at_start` is what a part with `after` reads: `local.env` and `project.toml`.
        """
        read = read_at_start if self.after else ""
        facts = [self.command, sorted(self.environment.items()), read]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def store_part(data_dir: Path, ports: Mapping[str, int], access_key: str, secret_key: str) -> Part:
    """Return the object store, with `ports` for every name in `infra.store.PORT_OPTIONS`."""
    chosen = {option: ports[option] for option in PORT_OPTIONS}
    return Part(
        name="store",
        command=tuple(store_command(data_dir, chosen, access_key, secret_key)),
        port=chosen["s3.port"],
        health_path="/healthz",
        folder=data_dir,
        without=FOREIGN_VARIABLES,
    )


_PREFECT_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def prefect_part(data_dir: Path, port: int) -> Part:
    """Return the Prefect server with its SQLite database in `data_dir`, telemetry off.

    Its API is under `/api`, its web pages under `/`.
    """
    origin = f"http://127.0.0.1:{port}"
    return Part(
        name="prefect",
        command=(
            *(sys.executable, "-m", "prefect", "--no-prompt", "server", "start"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ),
        port=port,
        health_path="/api/health",
        # In the user's project it would read a `.env` and a `prefect.toml` that are not meant for it.
        folder=data_dir,
        # Whoever uses another Prefect server has its address and database in the environment.
        without=("PREFECT_",),
        environment={
            **_PREFECT_QUIET,
            "PREFECT_HOME": str(data_dir),
            # The pages ask the API at the address that these two give, not the options above.
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(port),
            # The API knows no password: without this, any web page open in the user's browser
            # could read it and start runs.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        },
    )


def _of_this_project(data_dir: Path, prefect_port: int) -> dict[str, str]:
    return {
        **_PREFECT_QUIET,
        "PREFECT_HOME": str(data_dir),
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        # They run in the user's project, whose folders must not pass for our packages.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def worker_part(root: Path, data_dir: Path, port: int, prefect_port: int) -> Part:
    """Return the process that serves the project's deployments.

    On `port` it only tells its health, which is good once it has asked Prefect for work.
    """
    return Part(
        name="worker",
        command=(sys.executable, "-m", "flows.deployments", "--project", str(root)),
        port=port,
        health_path="/health",
        without=("PREFECT_",),
        environment={
            **_of_this_project(data_dir, prefect_port),
            "PREFECT_RUNNER_SERVER_ENABLE": "true",
            "PREFECT_RUNNER_SERVER_HOST": "127.0.0.1",
            "PREFECT_RUNNER_SERVER_PORT": str(port),
            # Until the first poll, asking for its health is an exception with a long traceback.
            "PREFECT_RUNNER_SERVER_LOG_LEVEL": "CRITICAL",
        },
        after=("store", "prefect"),
    )


def studio_part(root: Path, data_dir: Path, port: int, prefect_port: int) -> Part:
    """Return the studio, the project's web application for people."""
    return Part(
        name="studio",
        command=(
            *(sys.executable, "-m", "flows.studio"),
            *("--project", str(root), "--port", str(port)),
        ),
        port=port,
        without=("PREFECT_",),
        environment=_of_this_project(data_dir, prefect_port),
        after=("store",),
    )
