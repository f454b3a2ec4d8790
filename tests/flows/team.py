"""The services of infra/compose.yaml as processes of this machine, each on a loopback port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from infra.local import LocalStack
from infra.parts import Part
from infra.ports import free_ports
from tests.waiting import until

COMPOSE = Path(__file__).parents[2] / "infra" / "compose.yaml"

SECRETS = {
    "CRATEDIG_ACCESS_KEY": "team-access-key",
    "CRATEDIG_SECRET_KEY": "team-secret-key",
    "CRATEDIG_POSTGRES_PASSWORD": "team-postgres-password",
    "CRATEDIG_PREFECT_AUTH": "team:prefect-password",
    "CRATEDIG_STUDIO_TOKEN": "team-studio-token-1234",
}

_HEALTH = {"store": "/healthz", "prefect": "/api/health", "studio": "/login"}
_LISTENS = {"store": "8333", "postgres": "5432", "prefect": "4200", "studio": "8765"}
_WORKERS = ("crawl", "compute")


def postgres_program(name: str) -> str | None:
    """Return where a program of Debian's PostgreSQL is, or None."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(versions[-1]) if versions else shutil.which(name)


@contextmanager
def postgres(folder: Path, port: int, password: str) -> Iterator[None]:
    """Run a PostgreSQL of its own on loopback, with the database that compose.yaml asks for."""
    folder.mkdir()
    secret = folder / "password"
    secret.write_text(password)
    # PostgreSQL refuses to run as root; Debian's package brings this user.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        for path in (folder, secret):
            shutil.chown(path, user, user)
        _let_through(folder)
    data = folder / "data"
    as_user: dict[str, Any] = {"cwd": folder, "user": user, "group": user}
    if user is not None:
        as_user["extra_groups"] = []
    initdb, server, ready, create = (
        str(postgres_program(name)) for name in ("initdb", "postgres", "pg_isready", "createdb")
    )
    subprocess.run(
        [
            *(initdb, f"--pgdata={data}", "--username=prefect", "--auth=scram-sha-256"),
            *(f"--pwfile={secret}", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        **as_user,
    )
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off"]
    at = ["--host=127.0.0.1", f"--port={port}", "--username=prefect"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [server, "-D", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **as_user,
        )
    try:
        until(
            lambda: subprocess.run([ready, *at], check=False, capture_output=True).returncode == 0
        )
        subprocess.run(
            [create, *at, "--maintenance-db=postgres", "prefect"],
            check=True,
            env={**os.environ, "PGPASSWORD": password},
        )
        yield
    finally:
        # SIGINT: "fast shutdown", without waiting for clients that have not said goodbye.
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _let_through(folder: Path) -> None:
    """Let another user pass the folders above, which pytest keeps to their owner."""
    for parent in folder.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)


class Team:
    """The installation, its parts started as they are asked for."""

    def __init__(self, folder: Path, project_toml: str) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "project.toml").write_text(project_toml)
        self._folder = folder
        self._services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
        uses = [*_LISTENS, *_WORKERS]
        self.ports = dict(zip(uses, free_ports(len(uses)), strict=True))
        # Elsewhere than in the project: it must not find a `local.env` there.
        (folder / "stack").mkdir()
        self.stack = LocalStack(folder / "stack")

    def start(self, *names: str) -> None:
        """Start services and wait until they answer."""
        self.stack.up([self._part(name) for name in names], parts=())

    def run(self, name: str) -> str:
        """Run a service that ends by itself, such as `deploy`; return what it printed."""
        part = self._part(name)
        done = subprocess.run(
            part.command,
            check=False,
            capture_output=True,
            text=True,
            env={**_clean_environment(), **part.environment},
            cwd=part.folder,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def is_healthy(self, name: str) -> bool:
        """Run the service's own health check."""
        test = self._services[name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        command = self._command(test[1:], self._port_of(name))
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    @property
    def environment(self) -> Mapping[str, str]:
        """What the project's own processes have in their environment."""
        return self._environment("studio")

    def _part(self, name: str) -> Part:
        command = self._services[name]["command"]
        port = self._port_of(name)
        return Part(
            name=f"team-{name}",
            command=self._command(command, port),
            port=self.ports.get(name),
            health_path=_HEALTH.get(name, "/health"),
            environment=self._environment(name),
            folder=self.project,
            without=("CRATEDIG_ACCESS", "CRATEDIG_ENDPOINT", "PREFECT_"),
        )

    def _environment(self, name: str) -> dict[str, str]:
        variables = self._services[name]["environment"]
        port = self._port_of(name)
        found = {key: self._here(str(value), port) for key, value in variables.items()}
        if name in _WORKERS:
            found["PREFECT_WORKER_WEBSERVER_PORT"] = str(port)
        return {
            **found,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PREFECT_HOME": str(self._folder / f"home-{name}"),
        }

    def _command(self, command: Sequence[str], port: int) -> tuple[str, ...]:
        programs = {
            "python": sys.executable,
            "cratedig": str(Path(sys.executable).with_name("cratedig")),
        }
        return programs[command[0]], *(self._here(each, port) for each in command[1:])

    def _port_of(self, name: str) -> int:
        return self.ports.get(name, 0)

    def _here(self, text: str, port: int) -> str:
        """Return a text of the compose file as it is on this machine."""
        text = re.sub(
            r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}",
            lambda found: SECRETS.get(found[1], found[2] or ""),
            text,
        )
        for name, listens in _LISTENS.items():
            text = text.replace(f"{name}:{listens}", f"127.0.0.1:{self.ports[name]}")
            text = text.replace(f"127.0.0.1:{listens}", f"127.0.0.1:{self.ports[name]}")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        exact = {
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - what is replaced
            "/project": str(self.project),
            "/data": str(self._folder / "store"),
            **{listens: str(self.ports[name]) for name, listens in _LISTENS.items()},
        }
        return exact.get(text, text)


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CRATEDIG_", "PREFECT_"))
    }
