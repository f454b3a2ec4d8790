"""The project as the studio holds it: opened when it can be, read again when it has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.catalog import Catalog
from flows.errors import CratedigError
from flows.objects import ObjectStore
from flows.project import Project
from flows.settings import Settings
from flows.studio.view import Picture, View, group_prelabels
from flows.workspace import Workspace

CHECK_EVERY_S = 1.0
"""How old a view, or a failure to read one, may be before the store is asked again."""

_EMBEDDINGS = "embeddings/"

CONFIGURATION = ("project.toml", ".env", ".cratedig/local.env")


class Reader:
    """Gives the open workspace and the current view; safe to use from several threads.

    Nothing is opened before it is asked for, and a failure is remembered for `CHECK_EVERY_S` only:
    a store that was down is asked again by the requests that come after.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._workspace: Workspace | None = None
        self._opened_from: tuple[float, ...] = ()
        self._versions: Mapping[str, int] = {}
        self._tables: dict[str, Any] = {}
        self._view: View | None = None
        self._checked_at = 0.0
        self._failure: CratedigError | None = None
        self._failed_at = 0.0

    def workspace(self) -> Workspace:
        """Return the workspace, opened again when its configuration has changed.

        Raises CratedigError, one sentence, while it cannot be opened.
        """
        with self._attempt():
            return self._open()

    def view(self) -> View:
        """Return what the catalogue holds, at most `CHECK_EVERY_S` old.

        Raises CratedigError, one sentence, while the store does not answer.
        """
        with self._attempt():
            catalog = self._open().catalog
            if self._view is None or time.monotonic() - self._checked_at > CHECK_EVERY_S:
                self._view = self._refreshed(catalog)
                self._checked_at = time.monotonic()
            return self._view

    def changed(self) -> None:
        """Have the next `view` ask the tables, because this process has just changed one."""
        with self._lock:
            self._checked_at = 0.0

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """Hold the lock; those that queued behind a dead store do not wait for it in turn."""
        with self._lock:
            if self._failure and time.monotonic() - self._failed_at < CHECK_EVERY_S:
                raise type(self._failure)(str(self._failure))
            try:
                yield
            except CratedigError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise
            self._failure = None

    def _open(self) -> Workspace:
        stamps = tuple(_modified(self._root / name) for name in CONFIGURATION)
        if self._workspace is None or stamps != self._opened_from:
            self._workspace = None
            self._workspace = _open_impatiently(self._root)
            self._opened_from = stamps
            self._versions, self._view, self._tables = {}, None, {}
        return self._workspace

    def _refreshed(self, catalog: Catalog) -> View:
        # Versions first: what is written while the tables are read is seen at the next check.
        versions = catalog.versions()
        if self._view is not None and versions == self._versions:
            return self._view
        for table, read in _READ.items():
            if table not in self._tables or versions.get(table) != self._versions.get(table):
                self._tables[table] = read(catalog)
        self._versions = versions
        encoders = [name.removeprefix(_EMBEDDINGS) for name in versions if _EMBEDDINGS in name]
        return View(
            pictures=self._tables["images"],
            links=self._tables["links"],
            prelabels=self._tables["prelabels"],
            decisions=self._tables["decisions"],
            embedded=max(map(catalog.embedding_count, encoders), default=0),
        )


def _open_impatiently(root: Path) -> Workspace:
    """Open the workspace as `open_workspace` does, but give up sooner: a person is waiting."""
    project, settings = Project.load(root), Settings.load(root)
    store = ObjectStore(settings, connect_timeout_s=2, read_timeout_s=20, attempts=2)
    store.ensure_bucket()
    store.probe()
    return Workspace(
        root=root, settings=settings, project=project, store=store, catalog=Catalog(store)
    )


def _pictures(catalog: Catalog) -> dict[str, Picture]:
    return {
        row.sha256: Picture(
            sha256=row.sha256,
            width=row.width,
            height=row.height,
            format=row.format,
            size=row.size,
            duplicate_of=row.duplicate_of,
            duplicate_how=row.duplicate_how,
            added_at=row.added_at,
            sources=tuple(dict.fromkeys(each.source for each in row.provenance)),
            title=next(
                (
                    each.alt or each.page_title
                    for each in row.provenance
                    if each.alt or each.page_title
                ),
                "",
            ),
            page_url=row.provenance[0].page_url if row.provenance else "",
        )
        for row in catalog.images()
    }


_READ: dict[str, Callable[[Catalog], Any]] = {
    "images": _pictures,
    "links": lambda catalog: tuple(catalog.links()),
    "prelabels": lambda catalog: group_prelabels(catalog.prelabels()),
    "decisions": lambda catalog: tuple(catalog.decisions()),
}


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
