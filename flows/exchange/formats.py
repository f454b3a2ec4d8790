"""Exports and imports by format: which there are, and what both have in common."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from crawler.archive import untaken
from flows.collect import CollectResult
from flows.errors import Permanent
from flows.exchange import coco, fiftyone, label_studio, tables, webdataset
from flows.exchange.dataset import Dataset
from flows.exchange.folder import PICTURES, picture_writer, whole_folder
from flows.exchange.pictures import Picture, Selection, selected, with_bytes
from flows.holdings import holdings_at
from flows.imports import import_pictures
from flows.locations import is_object, source_name
from flows.progress import Progress, Watch, unwatched
from flows.registry import Registry
from flows.review import Answered, ReviewResult, apply_decisions, read_decisions
from flows.workspace import Workspace

Format = Literal["table", "decisions", "label-studio", "coco", "fiftyone", "webdataset"]
"""`table` and `decisions` are one file; the others a folder."""

Source = Literal["decisions", "label-studio", "coco", "fiftyone", "webdataset"]
"""The formats that decisions are read from."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


class _Writer(Protocol):
    def __call__(self, folder: Path, pictures: Iterable[Picture], dataset: Dataset) -> None: ...


class _Reader(Protocol):
    def __call__(
        self, path: Path, labels: tuple[str, ...], *, complete: bool
    ) -> Iterator[Answered]: ...


_WRITERS: dict[str, _Writer] = {
    "label-studio": label_studio.write,
    "coco": coco.write,
    "fiftyone": fiftyone.write,
}
_READERS: dict[str, tuple[_Reader, tuple[str, ...]]] = {
    "label-studio": (label_studio.read, (label_studio.TASKS,)),
    "coco": (coco.read, (coco.LABELS,)),
    "fiftyone": (fiftyone.read, (fiftyone.SAMPLES, fiftyone.LABELS)),
}
"""How a format is read, and the files that are looked for in a folder."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written where."""

    path: str
    pictures: int
    decided: int
    """Pictures with a decision."""
    damaged: tuple[str, ...] = ()
    """Why pictures were left out whose bytes could not be read."""

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        damaged = f" left out {len(self.damaged)} damaged" if self.damaged else ""
        return f"exported {self.pictures} pictures, {self.decided} decided, to {self.path}{damaged}"


def export(
    workspace: Workspace,
    path: Path,
    *,
    format_: Format = "table",
    selection: Selection | None = None,
    pictures: bool = False,
    pictures_at: str | None = None,
    watch: Watch = unwatched,
) -> ExportResult:
    """Write the selected pictures and their labels to `path`, all of it or nothing.

    With `pictures` their original bytes are written, too: into `data/`, or, where `pictures_at` is
    s3://bucket/prefix at the project's store, there. `pictures_at` is where the other tool finds
    them. Raises Permanent for a name that the format cannot have or that is taken, and for options
    that a format has no use for.
    """
    project = workspace.project
    if (pictures or pictures_at) and format_ not in _WRITERS:
        raise Permanent(
            f"--pictures and --pictures-at go with {', '.join(_WRITERS)}; "
            f"{'shards hold them anyway' if format_ == 'webdataset' else 'a table has none'}"
        )
    dataset = Dataset(
        project=project.name,
        labels=project.taxonomy().names,
        version=Registry(workspace.store, project.name).production(),
        pictures_at=pictures_at,
    )
    with watch(f"export {path.name}") as progress:
        counted = _Counted(progress)
        chosen = counted.through(selected(workspace, selection or Selection()))
        if format_ in ("table", "decisions"):
            suffixes = (".csv", ".parquet") if format_ == "table" else (".csv",)
            with _whole_file(path, suffixes) as unfinished:
                if format_ == "table":
                    tables.write_pictures(unfinished, chosen, dataset)
                else:
                    tables.write_decisions(unfinished, chosen)
        else:
            with whole_folder(path) as folder:
                if format_ == "webdataset":
                    webdataset.write(folder, counted.readable(workspace, chosen), dataset)
                else:
                    if pictures:
                        write = picture_writer(workspace, folder, pictures_at)
                        chosen = _written(counted.readable(workspace, chosen), write)
                    _WRITERS[format_](folder, chosen, dataset)
    return counted.result(path)


class _Counted:
    """Counts the pictures that pass."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pictures = 0
        self._decided = 0
        self._damaged: list[str] = []

    def through(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        for picture in pictures:
            self._pictures += 1
            self._decided += bool(picture.decisions)
            self._progress(self._pictures, None)
            yield picture

    def readable(
        self, workspace: Workspace, pictures: Iterable[Picture]
    ) -> Iterator[tuple[Picture, bytes]]:
        return with_bytes(workspace, pictures, self._damaged.append)

    def result(self, path: Path) -> ExportResult:
        return ExportResult(
            path=str(path),
            pictures=self._pictures - len(self._damaged),
            decided=self._decided,
            damaged=tuple(self._damaged),
        )


def bring_pictures(
    workspace: Workspace,
    location: str,
    format_: Source,
    *,
    run_id: str | None = None,
    watch: Watch = unwatched,
) -> tuple[CollectResult, bool]:
    """Import the pictures that lie beside the labels at `location`, as `import_pictures` does.

    Raises Permanent when none do.
    """
    pictures = _pictures_at(location, format_)
    if pictures is None:
        raise Permanent(
            f"there are no pictures beside {location}: import them first, then "
            f"`cratedig review --apply {location} --format {format_}`"
        )
    return import_pictures(workspace, pictures, run_id=run_id, watch=watch)


def apply_file(
    workspace: Workspace,
    location: str,
    format_: Source,
    *,
    who: str,
    complete: bool = False,
    brought: bool = False,
) -> ReviewResult:
    """Apply the decisions at `location`, as `apply_decisions` does.

    `complete` says that a label that the file does not give a picture is a no. With `brought`, names
    of files are those that `bring_pictures` has imported. Raises Permanent, naming the entry, for a
    file that is not of the format; then nothing was applied.
    """
    if complete and format_ == "decisions":
        raise Permanent("a table of decisions says every no itself: leave --complete out")
    labels = workspace.project.taxonomy().names
    pictures = _pictures_at(location, format_)
    source = source_name(pictures, "import-") if brought and pictures is not None else None
    if format_ == "webdataset":
        if pictures is None:
            raise Permanent(f"there is nothing at {location}")
        holdings = holdings_at(workspace, pictures, workspace.scratch / "labels.download")
        members = holdings.members(untaken)
        answered = webdataset.read(members, holdings.name, labels, complete=complete)
    elif format_ == "decisions":
        answered = read_decisions(_file(Path(location), ()))
    else:
        read, names = _READERS[format_]
        beside = None if pictures is None else Path(pictures)
        answered = (
            _by_every_name(each, beside)
            for each in read(_file(Path(location), names), labels, complete=complete)
        )
    return apply_decisions(workspace, answered, who=who, source=source)


def format_of(location: str, given: Source | None) -> Source:
    """Return the format that was given, or that a name says by itself."""
    if given is not None:
        return given
    if location.endswith(".csv"):
        return "decisions"
    raise Permanent(f"say what {location} is: --format {'|'.join(('webdataset', *_READERS))}")


def _pictures_at(location: str, format_: Source) -> str | None:
    """Return where the pictures lie that go with the labels at `location`, if anywhere."""
    if format_ == "webdataset" and (is_object(location) or not Path(location).is_dir()):
        return location if is_object(location) else str(Path(location).expanduser().absolute())
    folder = Path(location).expanduser().absolute()
    if format_ == "webdataset":
        return str(folder / "*.tar")
    beside = (folder if folder.is_dir() else folder.parent) / PICTURES
    return str(beside) if beside.is_dir() else None


def _file(path: Path, names: tuple[str, ...]) -> Path:
    """Return the file of labels that is meant by `path`: itself, or one of `names` in it."""
    if path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise Permanent(f"{path} holds no {' or '.join(names) or 'table'}")
        return found[0]
    if not path.exists():
        raise Permanent(f"{path} does not exist")
    return path


def _by_every_name(each: Answered, beside: Path | None) -> Answered:
    """Return the answer with all that its picture may be known by here.

    That is its id, where a file is named by it, and its address as a member of the folder beside.
    """
    names: dict[str, None] = {}
    for given in (each.image, *each.also):
        names[given] = None
        path = PurePosixPath(given.replace("\\", "/"))
        if _SHA256.fullmatch(path.stem):
            names[path.stem] = None
        elif beside is not None:
            for member in (str(path).removeprefix(f"{PICTURES}/"), path.name):
                if found := _member(beside, member):
                    names[f"archive:{PICTURES}/{found}"] = None
    first, *others = names
    return dataclasses.replace(each, image=first, also=tuple(others))


def _member(folder: Path, name: str) -> str | None:
    """Return the file of that name, which tools may give without its ending."""
    return next(
        (name + ending for ending in ("", *_ENDINGS) if (folder / (name + ending)).is_file()), None
    )


def _written(
    pictures: Iterable[tuple[Picture, bytes]], write: Callable[[Picture, bytes], None]
) -> Iterator[Picture]:
    for picture, data in pictures:
        write(picture, data)
        yield picture


@contextmanager
def _whole_file(path: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Give a file to write, which becomes `path`, over what is there, when all of it is there."""
    if path.suffix not in suffixes:
        raise Permanent(
            f"cannot export to {path.name}: give a name ending in {' or '.join(suffixes)}"
        )
    # The ending stays: it says which kind of table is written.
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)
