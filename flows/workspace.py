"""One project, opened: its settings, its project.toml, its store and its catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flows.catalog import Catalog
from flows.migrations import migrate
from flows.objects import ObjectStore
from flows.progress import progress_bar
from flows.project import Project
from flows.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Everything that a stage needs to know about where it works."""

    root: Path
    settings: Settings
    project: Project
    store: ObjectStore
    catalog: Catalog

    @property
    def scratch(self) -> Path:
        """The folder for what is in flight; nothing in it is needed once a run has ended."""
        return self.root / ".cratedig" / "work"


def open_workspace(root: Path) -> Workspace:
    """Return the project at `root`, its bucket made if need be, its store probed and its tables up to date.

    Raises ProjectInvalid, NoStore, UnsafeStore or another CratedigError, each one sentence.
    """
    project = Project.load(root)
    settings = Settings.load(root)
    store = ObjectStore(settings)
    store.ensure_bucket()
    store.probe()
    migrate(store, watch=progress_bar)
    return Workspace(
        root=root, settings=settings, project=project, store=store, catalog=Catalog(store)
    )
