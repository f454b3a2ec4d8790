"""A project whose model was trained for real, on drawings, with the demo's encoder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.imports import import_pictures
from flows.prelabel import prelabel
from flows.review import Answered, apply_decisions
from flows.train import train
from flows.workspace import Workspace, open_workspace
from infra.demo.pictures import DemoPicture
from tests.conftest import RunningStore
from tests.flows.line import LABELS_ASKED, WEIGHTS, drawings
from tests.flows.studio_data import LABELS, write_configuration

PROJECT = f"""\
name = "judged"
contact = "mailto:tests@localhost"

[encoder]
checkpoint = {{checkpoint}}
{LABELS_ASKED}
[limits]
delay_s = 0.0

[train]
repeats = 1

[studio]
allow_private = true
pictures_at_once = 4
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The project, the drawings that it was trained on by id, and the version in production."""

    root: Path
    workspace: Workspace
    pictures: dict[str, DemoPicture]
    version: str

    def true(self, sha256: str, label: str) -> bool:
        """Say what a drawing shows."""
        return label in self.pictures[sha256].labels


def make_judged(root: Path, store: RunningStore, prefix: str) -> Judged:
    """Import, embed and decide 40 drawings, and train.

    In a thread: a test that has a browser has an event loop, where no other can be run.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_make, root, store, prefix).result()


def _make(root: Path, store: RunningStore, prefix: str) -> Judged:
    write_configuration(root, store.endpoint, store, prefix)
    (root / "project.toml").write_text(PROJECT.format(checkpoint=json.dumps(str(WEIGHTS))))
    # No Prefect server: what is started is started here.
    local = root / ".cratedig" / "local.env"
    local.write_text(
        "".join(line for line in local.read_text().splitlines(True) if "PREFECT" not in line)
    )
    folder = root / "pictures"
    folder.mkdir()
    drawn = drawings(0, 10)
    for each in drawn:
        (folder / f"{each.name}.jpg").write_bytes(each.jpeg)
    workspace = open_workspace(root)
    import_pictures(workspace, str(folder))
    prelabel(workspace)
    pictures = {hashlib.sha256(each.jpeg).hexdigest(): each for each in drawn}
    kept = sorted(workspace.catalog.permitted())
    apply_decisions(
        workspace,
        (
            Answered(
                image=sha256,
                label=label,
                answer="yes" if label in pictures[sha256].labels else "no",
            )
            for sha256 in kept
            for label in LABELS
        ),
        who="test",
    )
    return Judged(
        root=root, workspace=workspace, pictures=pictures, version=train(workspace).version
    )
