"""The local stack: object store, Prefect server, worker and studio on this machine, on loopback."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from infra.parts import Part, prefect_part, store_part, studio_part, worker_part
from infra.ports import free_ports, http_status, is_free
from infra.private_files import write_private
from infra.processes import end, find, inherited_environment, marked, start, with_descendants
from infra.state import StackError, StackState, StartedPart
from infra.store import PORT_OPTIONS

__all__ = ["DEFAULT_PARTS", "LocalStack", "Part", "PartStatus", "StackError"]

DEFAULT_PARTS = ("store", "prefect", "worker", "studio")

_LOG_LIMIT_BYTES = 10_000_000
_STOP_GRACE_S = 10.0
_PORT_GRACE_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """How one part of the stack is: crashed means that it was started and ended by itself."""

    name: str
    state: Literal["running", "stopped", "crashed"]
    pid: int | None
    address: str | None
    log: Path


class LocalStack:
    """The parts that serve one project on one machine, and their data, in `root/.cratedig/local`.

    Every method may be called by several processes at once, and again after a kill at any instant.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.folder = self.root / ".cratedig" / "local"
        self.settings_file = self.root / ".cratedig" / "local.env"
        self._state_file = self.folder / "state.json"

    def up(
        self,
        extra: Sequence[Part] = (),
        on_progress: Callable[[str], None] | None = None,
        *,
        parts: Sequence[str] = DEFAULT_PARTS,
        timeout_s: float = 300.0,
    ) -> dict[str, str]:
        """Start what does not run of `parts` and `extra`, wait until all answer, return addresses.

        Part names map to addresses such as `http://127.0.0.1:4711`; a part without a port has none.
        The Prefect API is at `/api` under its part's address. Ports stay the same from one call to
        the next, unless another program took one meanwhile. `local.env` then tells the rest of
        cratedig where everything is.

        Raises StackError if a part ends or does not answer within `timeout_s` seconds.
        """
        say = on_progress or (lambda message: None)
        with self._locked(say, timeout_s):
            state = StackState.read(self._state_file)
            wanted = self._with_ports(parts, extra, state, say)
            read_at_start = self._write_settings(wanted, state) + self._project_text()
            self._start_all(wanted, state, read_at_start, say, timeout_s)
            return {each.name: _address(each.port) for each in wanted if each.port is not None}

    def down(self, on_progress: Callable[[str], None] | None = None) -> None:
        """Stop every part and whatever it started: asked first, then killed."""
        say = on_progress or (lambda message: None)
        if not self.folder.exists():
            return
        with self._locked(say, timeout_s=300.0):
            # Commands that start from now on say that the stack is down, not "no connection".
            self.settings_file.unlink(missing_ok=True)
            state = StackState.read(self._state_file)
            # The worker and the studio may still write to the store: they end before it.
            for name in [each for each in reversed(state.parts) if each not in DEFAULT_PARTS[:2]]:
                self._stop(name, state, say)
            for name in ("prefect", "store"):
                self._stop(name, state, say)
            # What an `up` started that was killed before it wrote that down.
            end([], marked(f"{self.folder}#"), grace_s=_STOP_GRACE_S)

    def status(self) -> list[PartStatus]:
        """Return how each part is: the usual ones first, then the extra ones that were started."""
        state = StackState.read(self._state_file)
        names = [*DEFAULT_PARTS, *(name for name in state.parts if name not in DEFAULT_PARTS)]
        return [self._status(name, state) for name in names]

    def log(self, name: str) -> Path:
        """Return the file that the part's output is appended to."""
        return self.folder / "logs" / f"{name}.log"

    def keys(self) -> tuple[str, str]:
        """Return the store's access key and secret key, made at random the first time."""
        path = self.folder / "keys.json"
        if not path.exists():
            made = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
            write_private(path, json.dumps(made))
        body = json.loads(path.read_text())
        return body["access_key"], body["secret_key"]

    def _status(self, name: str, state: StackState) -> PartStatus:
        started = state.parts.get(name)
        process = find(started.process) if started else None
        return PartStatus(
            name=name,
            state="running" if process else "crashed" if started else "stopped",
            pid=process.pid if process else None,
            address=_address(started.port) if started and started.port is not None else None,
            log=self.log(name),
        )

    # --- ports

    def _with_ports(
        self,
        names: Sequence[str],
        extra: Sequence[Part],
        state: StackState,
        say: Callable[[str], None],
    ) -> list[Part]:
        """Return the parts with their ports settled; what is left of ended parts is ended."""
        unknown = set(names) - set(DEFAULT_PARTS)
        clashing = {part.name for part in extra} & set(DEFAULT_PARTS)
        if unknown or clashing:
            raise ValueError(f"not usable as names of parts here: {sorted(unknown | clashing)}")
        for name in (*names, *(part.name for part in extra)):
            if not self._runs(name, state):
                self._end_leftovers(name)

        def port(use: str) -> int:
            return self._port(use, state, say)

        chosen: list[Part] = []
        if "store" in names:
            ports = {option: port(f"store.{option}") for option in PORT_OPTIONS}
            chosen.append(store_part(self._data("store"), ports, *self.keys()))
        if "prefect" in names:
            chosen.append(prefect_part(self._data("prefect"), port("prefect")))
        chosen += [
            part.on_port(port(part.name)) if part.port == 0 else part.on_port(part.port)
            for part in extra
        ]
        if "worker" in names:
            data = self._data("worker")
            chosen.append(worker_part(self.root, data, port("worker"), port("prefect")))
        if "studio" in names:
            data = self._data("studio")
            chosen.append(studio_part(self.root, data, port("studio"), port("prefect")))
        return chosen

    def _port(self, use: str, state: StackState, say: Callable[[str], None]) -> int:
        """Return the port kept for `use`: the part's own, or free; else another that is free."""
        kept = state.ports.get(use)
        if kept is not None and (self._runs(use.partition(".")[0], state) or _comes_free(kept)):
            return kept
        taken = set(state.ports.values())
        chosen = next(each for each in free_ports(len(taken) + 1) if each not in taken)
        if kept is not None:
            say(f"{use}: port {kept} is taken by another program, so it moves to {chosen}")
        state.ports[use] = chosen
        state.write(self._state_file)
        return chosen

    def _data(self, name: str) -> Path:
        folder = self.folder / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- settings for the rest of cratedig

    def _write_settings(self, wanted: Sequence[Part], state: StackState) -> str:
        """Write `local.env` for all parts that run or are about to, and return its text."""
        ports = {name: each.port for name, each in state.parts.items()}
        ports |= {part.name: part.port for part in wanted}
        lines = {"CRATEDIG_BUCKET": "cratedig"}
        if "store" in ports:
            access_key, secret_key = self.keys()
            lines["CRATEDIG_ENDPOINT"] = _address(ports["store"])
            lines["CRATEDIG_ACCESS_KEY"] = access_key
            lines["CRATEDIG_SECRET_KEY"] = secret_key
        if "prefect" in ports:
            lines["CRATEDIG_PREFECT_API_URL"] = f"{_address(ports['prefect'])}/api"
        if "studio" in ports:
            lines["CRATEDIG_STUDIO_URL"] = _address(ports["studio"])
        text = "# Written by `cratedig up`; removed by `cratedig down`.\n"
        text += "".join(f"{name}={value}\n" for name, value in lines.items())
        write_private(self.settings_file, text)
        return text

    def _project_text(self) -> str:
        project = self.root / "project.toml"
        return project.read_text(encoding="utf-8") if project.exists() else ""

    # --- starting

    def _start_all(
        self,
        wanted: Sequence[Part],
        state: StackState,
        read_at_start: str,
        say: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        deadline = time.monotonic() + timeout_s
        names = {part.name for part in wanted}
        waiting = list(wanted)  # for the parts that they come after
        starting: dict[str, tuple[Part, int]] = {}  # with the size that their log had
        ready: set[str] = set()
        while waiting or starting:
            for part in [each for each in waiting if names & set(each.after) <= ready]:
                waiting.remove(part)
                starting[part.name] = (part, self._ensure_started(part, state, read_at_start, say))
            for part, log_start in list(starting.values()):
                if not self._runs(part.name, state):
                    raise StackError(self._failure(part, "ended while it started", log_start))
                if part.port is None or (_status_of(part) or 500) < 500:
                    del starting[part.name]
                    ready.add(part.name)
                    at = "" if part.port is None else f" at {_address(part.port)}"
                    say(f"{part.name}: running{at}")
                elif time.monotonic() > deadline:
                    # Running without an answer it would be of no use, and in the way next time.
                    self._stop(part.name, state, say)
                    what = f"did not answer within {timeout_s:.0f} s"
                    raise StackError(self._failure(part, what, log_start))
            if starting:
                time.sleep(0.05)

    def _ensure_started(
        self, part: Part, state: StackState, read_at_start: str, say: Callable[[str], None]
    ) -> int:
        """Start the part unless it runs as it should; return where in its log this start begins."""
        log = self.log(part.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        fingerprint = part.fingerprint(read_at_start)
        if self._runs(part.name, state):
            if state.parts[part.name].fingerprint == fingerprint:
                return log.stat().st_size if log.exists() else 0
            say(f"{part.name}: its settings changed, so it is started again")
            self._stop(part.name, state, say)
        if part.port is not None and not is_free(part.port):
            raise StackError(
                f"{part.name} needs port {part.port} of 127.0.0.1, which another program uses: "
                "stop that program"
            )
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        log_start = log.stat().st_size if log.exists() else 0
        say(f"{part.name}: starting")
        try:
            process = start(
                part.command,
                environment={**inherited_environment(without=part.without), **part.environment},
                folder=part.folder or self.root,
                log=log,
                mark=self._mark(part.name),
            )
        except OSError as error:
            raise StackError(f"{part.name} cannot be started: {error}") from error
        state.parts[part.name] = StartedPart(
            process=process, port=part.port, fingerprint=fingerprint
        )
        state.write(self._state_file)
        return log_start

    def _failure(self, part: Part, what: str, log_start: int) -> str:
        log = self.log(part.name)
        said = log.read_bytes()[log_start:].decode(errors="replace").strip().splitlines()[-15:]
        tail = "\n".join(f"    {line}" for line in said) or "    (nothing)"
        return f"{part.name} {what}; its log {log} ends with\n{tail}"

    # --- processes

    def _mark(self, name: str) -> str:
        return f"{self.folder}#{name}#"

    def _runs(self, name: str, state: StackState) -> bool:
        started = state.parts.get(name)
        return started is not None and find(started.process) is not None

    def _end_leftovers(self, name: str) -> None:
        """End what a killed part left running, and what a killed `up` started unrecorded."""
        end([], marked(self._mark(name)), grace_s=_STOP_GRACE_S)

    def _stop(self, name: str, state: StackState, say: Callable[[str], None]) -> None:
        started = state.parts.get(name)
        process = find(started.process) if started else None
        leaders = [process] if process else []
        others = [each for leader in leaders for each in with_descendants(leader)]
        others += marked(self._mark(name))
        end(leaders, others, grace_s=_STOP_GRACE_S)
        if started:
            del state.parts[name]
            state.write(self._state_file)
            say(f"{name}: stopped")

    @contextmanager
    def _locked(self, say: Callable[[str], None], timeout_s: float) -> Iterator[None]:
        """Hold this stack against other processes; the system lets go of it if this one dies."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The keys lie here: they must not follow the project into anyone's git.
        ignore = self.root / ".cratedig" / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + timeout_s
            told = False
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another cratedig has been starting or stopping the stack in "
                            f"{self.folder} for over {timeout_s:.0f} s: end it and try again"
                        ) from None
                if not told:
                    told = True
                    say("another cratedig is starting or stopping this stack: waiting for it")
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)


def _comes_free(port: int) -> bool:
    """Say whether `port` is free, or becomes so within a moment.

    A killed process is seen as gone some milliseconds before its last thread lets go of its port.
    """
    deadline = time.monotonic() + _PORT_GRACE_S
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _address(port: int | None) -> str:
    return f"http://127.0.0.1:{port}"


def _status_of(part: Part) -> int | None:
    return None if part.port is None else http_status(part.port, part.health_path)
