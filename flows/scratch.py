"""What a run has in flight, on this machine: its files, and by them the run that was cut off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from flows.workspace import Workspace

_BEGUN = ".begun"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """The files of one stage of one run, in the run's folder of `Workspace.scratch`.

    They are there from `begin` to `end`, and are left by a kill alone. Nothing in them is needed
    once the run has ended.
    """

    folder: Path
    stage: str

    @classmethod
    def of(cls, workspace: Workspace, run_id: str, stage: str) -> Self:
        """Return where the files of `stage` in run `run_id` lie."""
        return cls(folder=workspace.scratch / run_id, stage=stage)

    @property
    def ledger(self) -> Path:
        """What discovery has found."""
        return self.folder / f"{self.stage}.sqlite"

    @property
    def earlier(self) -> Path:
        """What earlier runs recorded: `flows.earlier.Earlier`."""
        return self.folder / f"{self.stage}.earlier"

    @property
    def download(self) -> Path:
        """A copy of an object that has to be read as a file."""
        return self.folder / f"{self.stage}.download"

    def begin(self, origin: str) -> None:
        """Note that the stage was begun on `origin`: the address of what it reads, or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.stage}{_BEGUN}").write_text(origin, encoding="utf-8")

    def end(self) -> None:
        """Remove the stage's files, and the run's folder when it was the last."""
        # The sign of a run that was cut off goes last: a kill in between leaves it to be removed.
        for path in sorted(self._files(), key=lambda each: each.suffix == _BEGUN):
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> Iterator[Path]:
        return self.folder.glob(f"{self.stage}.*")


def unfinished_run(workspace: Workspace, stage: str, origin: str = "") -> str | None:
    """Return the id of the newest run of `stage` on `origin` begun on this machine and not ended."""
    runs = [
        path.parent.name
        for path in workspace.scratch.glob(f"*/{stage}{_BEGUN}")
        if path.read_text(encoding="utf-8") == origin
    ]
    return max(runs, default=None)
