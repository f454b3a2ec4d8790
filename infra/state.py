"""What the local stack remembers between commands: its ports, and the processes that it started."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from infra.private_files import write_private
from infra.processes import ProcessId


class StackError(Exception):
    """The local stack cannot do what was asked: one sentence says what, which and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StartedPart:
    """A part as it was started: which process, on which port, from which `Part.fingerprint`."""

    process: ProcessId
    port: int | None
    fingerprint: str


@dataclasses.dataclass(slots=True, kw_only=True)
class StackState:
    """Ports by use ("store.s3.port", "studio"), and the started parts by name, in that order."""

    ports: dict[str, int] = dataclasses.field(default_factory=dict)
    parts: dict[str, StartedPart] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> StackState:
        """Return what `path` says, an empty state if there is none; StackError if it is damaged."""
        try:
            text = path.read_text()
        except FileNotFoundError:
            return cls()
        try:
            body = json.loads(text)
            return cls(
                ports={str(use): int(port) for use, port in body["ports"].items()},
                parts={
                    str(name): StartedPart(
                        process=ProcessId(**each["process"]),
                        port=each["port"],
                        fingerprint=each["fingerprint"],
                    )
                    for name, each in body["parts"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(
                f"{path} is damaged ({error!r}): delete it and run `cratedig up`, which finds its "
                "own processes again and chooses new ports"
            ) from error

    def write(self, path: Path) -> None:
        """Replace `path` by this state."""
        write_private(path, json.dumps(dataclasses.asdict(self), indent=1))
