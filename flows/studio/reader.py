"""The project as the studio holds it: opened when it can be, read again where it has changed."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from flows.catalog import Catalog
from flows.errors import CratedigError, Transient
from flows.memory import give_memory_back
from flows.objects import ObjectStore
from flows.project import Project
from flows.rows import DECISIONS, LINKS, DecisionRow
from flows.settings import Settings
from flows.studio.columns import PICTURE_COLUMNS, Links, Pictures, Scores
from flows.studio.ledger import Ledger
from flows.studio.view import View
from flows.workspace import Workspace

CHECK_EVERY_S = 1.0
"""How old a view, or a failure to read one, may be before the store is asked again."""

STALE_AFTER_S = 30.0
"""How old a view may be that is given without waiting, while the store is asked."""

PATIENCE_S = 0.7
"""How long a request waits for the tables to be read for the first time, if they are large."""

LARGE_ROWS = 5_000

_EMBEDDINGS = "embeddings/"
_TABLES = ("images", "links", "prelabels", "decisions")

CONFIGURATION = ("project.toml", ".env", ".cratedig/local.env")


class StillReading(Transient):
    """The tables are being read for the first time, and that takes a moment."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A view, and what it was read from."""

    settings: Settings
    view: View
    versions: Mapping[str, int]
    pieces: frozenset[str]
    """Of the table of decisions, those that have been read."""


class _Attempts:
    """One at a time; those that queued behind a dead store do not wait for it in turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failure: CratedigError | None = None
        self._failed_at = 0.0

    @contextmanager
    def next(self) -> Iterator[None]:
        with self._lock:
            if self._failure and time.monotonic() - self._failed_at < CHECK_EVERY_S:
                raise type(self._failure)(str(self._failure))
            try:
                yield
            except CratedigError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise
            self._failure = None


class Reader:
    """Gives the open workspace and the current view; safe to use from several threads.

    Nothing is opened before it is asked for, and a failure is remembered for `CHECK_EVERY_S` only:
    a store that was down is asked again by the requests that come after.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opening, self._reading = _Attempts(), _Attempts()
        self._workspace: Workspace | None = None
        self._opened_from: tuple[float, ...] = ()
        self._swap = threading.Lock()  # guards the two below; nothing waits while it is held
        self._held: _Held | None = None
        self._handed_in: list[DecisionRow] = []
        self._checked_at = 0.0
        self._background: threading.Thread | None = None
        self._progress = 0

    def workspace(self) -> Workspace:
        """Return the workspace, opened again when its configuration has changed.

        Raises CratedigError, one sentence, while it cannot be opened.
        """
        with self._opening.next():
            stamps = tuple(_modified(self._root / name) for name in CONFIGURATION)
            if self._workspace is None or stamps != self._opened_from:
                self._workspace = None
                self._workspace = _open_impatiently(self._root)
                self._opened_from = stamps
            return self._workspace

    def view(self) -> View:
        """Return what the catalogue holds, at most `CHECK_EVERY_S` old.

        Raises CratedigError, one sentence, while the store does not answer, and StillReading while
        large tables are being read for the first time.
        """
        workspace = self.workspace()
        if self._current(workspace) is None:
            self._await_first()
        with self._reading.next():
            held = self._current(workspace)
            if held is None or time.monotonic() - self._checked_at > CHECK_EVERY_S:
                held = self._refresh(workspace)
            return held.view

    def recent(self) -> View:
        """Return what this studio knows, all that was handed in here included, without waiting.

        What others have changed is read meanwhile, for those who ask next. Raises as `view` does.
        """
        held = self._current(self.workspace())
        age = time.monotonic() - self._checked_at
        if held is None or age > STALE_AFTER_S:
            return self.view()
        if age > CHECK_EVERY_S:
            self.warm()
        return held.view

    def warm(self) -> None:
        """Start reading, or looking whether something has changed, in the background."""
        with self._swap:
            if self._background is None or not self._background.is_alive():
                self._background = threading.Thread(
                    target=self._read_quietly, name="reader", daemon=True
                )
                self._background.start()

    def handed_in(self, rows: Sequence[DecisionRow]) -> None:
        """Add decisions to the view that this process has just appended to the table."""
        with self._swap:
            self._handed_in += rows
            if self._held is not None:
                view = self._held.view
                decisions = view.decisions.plus_rows(rows)
                self._held = dataclasses.replace(
                    self._held, view=dataclasses.replace(view, decisions=decisions)
                )

    def changed(self) -> None:
        """Have the next `view` look at the tables, because this process has just changed one."""
        with self._reading.next():  # not while they are being read: that may have missed the change
            self._checked_at = 0.0

    def _current(self, workspace: Workspace) -> _Held | None:
        held = self._held
        # Another project.toml leaves the tables what they are; another store does not.
        return held if held is not None and held.settings == workspace.settings else None

    def _await_first(self) -> None:
        began = time.monotonic()
        self.warm()
        background = self._background
        while background is not None and background.is_alive():
            background.join(0.02)
            if time.monotonic() - began > PATIENCE_S and self._progress > LARGE_ROWS:
                raise StillReading(
                    f"the tables of {self._root.resolve().name} are being read: "
                    f"{self._progress:,} rows so far"
                )

    def _read_quietly(self) -> None:
        try:
            workspace = self.workspace()
            with self._reading.next():
                self._refresh(workspace)
        except CratedigError:
            return  # it is remembered, and told to whoever asks next

    def _refresh(self, workspace: Workspace) -> _Held:
        """Read what has changed since the view that is held; call it within an attempt."""
        catalog, began, self._progress = workspace.catalog, time.monotonic(), 0
        with self._swap:
            before = self._current(workspace)
            self._handed_in = []
        # Versions first: what is written while the tables are read is seen at the next check.
        versions = catalog.versions()
        if before is None or versions != before.versions:
            read = self._read(workspace, versions, before)
            give_memory_back()
        else:
            read = before
        with self._swap:
            now = self._current(workspace)
            if read is before and now is not None:
                read = now
            elif self._handed_in:
                # Handed in while the tables were read: in them already, or not yet.
                decisions = read.view.decisions.plus_rows(self._handed_in)
                view = dataclasses.replace(read.view, decisions=decisions)
                read = dataclasses.replace(read, view=view)
            self._held, self._checked_at = read, began
            return read

    def _read(self, workspace: Workspace, versions: Mapping[str, int], held: _Held | None) -> _Held:
        catalog = workspace.catalog
        before = None if held is None else held.view
        seen: Mapping[str, int] = {} if held is None else held.versions
        names = {*versions, *_TABLES}
        changed = {each for each in names if versions.get(each) != seen.get(each)}
        if before is None:
            changed |= names
        pictures = self._pictures(catalog, changed, before)
        known = frozenset() if held is None else held.pieces
        decisions, pieces = self._ledger(catalog, pictures, changed, before, known)
        view = View(
            pictures=pictures,
            links=self._links(catalog) if before is None or "links" in changed else before.links,
            prelabels=self._scores(catalog, pictures, changed, before),
            decisions=decisions,
            embedded=self._embedded(catalog, versions, changed, before),
        )
        return _Held(settings=workspace.settings, view=view, versions=versions, pieces=pieces)

    def _pictures(self, catalog: Catalog, changed: set[str], before: View | None) -> Pictures:
        if before is not None and "images" not in changed:
            return before.pictures
        return Pictures.read(catalog.image_batches(PICTURE_COLUMNS), self._have_read)

    def _links(self, catalog: Catalog) -> Links:
        # Two scans: of those that were kept, the number is all that pages need.
        count = sum(batch.num_rows for batch in catalog.link_batches(["outcome"]))
        batches = list(catalog.link_batches(LINKS.names, "outcome = 'rejected'"))
        return Links(count, pa.Table.from_batches(batches, schema=LINKS.remove_metadata()))

    def _scores(
        self, catalog: Catalog, pictures: Pictures, changed: set[str], before: View | None
    ) -> Scores:
        if before is not None and "prelabels" not in changed:
            if before.pictures is pictures:
                return before.prelabels
            if before.prelabels.complete:
                return before.prelabels.moved_to(pictures)
        columns = ["sha256", "label", "score"]
        return Scores.read(pictures, catalog.prelabel_batches(columns), self._have_read)

    def _ledger(
        self,
        catalog: Catalog,
        pictures: Pictures,
        changed: set[str],
        before: View | None,
        known: frozenset[str],
    ) -> tuple[Ledger, frozenset[str]]:
        """Return the ledger, and the pieces of the table that are in it."""
        ledger = before.decisions if before is not None else Ledger(pictures)
        if before is not None and before.pictures is not pictures:
            ledger = ledger.moved_to(pictures)
        if "decisions" not in changed:
            return ledger, known
        since = catalog.decisions_since(known)
        rows = pa.Table.from_batches(list(since.batches), schema=DECISIONS.remove_metadata())
        self._have_read(rows.num_rows)
        return (Ledger(pictures) if since.whole else ledger).plus(rows), since.pieces

    def _embedded(
        self, catalog: Catalog, versions: Mapping[str, int], changed: set[str], before: View | None
    ) -> int:
        if before is not None and not any(name.startswith(_EMBEDDINGS) for name in changed):
            return before.embedded
        names = [name for name in versions if name.startswith(_EMBEDDINGS)]
        encoders = [name.removeprefix(_EMBEDDINGS) for name in names]
        return max(map(catalog.embedding_count, encoders), default=0)

    def _have_read(self, rows: int) -> None:
        self._progress += rows


def _open_impatiently(root: Path) -> Workspace:
    """Open the workspace as `open_workspace` does, but give up sooner: a person is waiting."""
    project, settings = Project.load(root), Settings.load(root)
    store = ObjectStore(settings, connect_timeout_s=2, read_timeout_s=20, attempts=2)
    store.ensure_bucket()
    store.probe()
    return Workspace(
        root=root, settings=settings, project=project, store=store, catalog=Catalog(store)
    )


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
