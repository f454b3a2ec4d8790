"""What an export writes: a folder that is there whole or not at all, and pictures beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.archive.places import new_output
from flows.errors import Permanent
from flows.exchange.pictures import Picture
from flows.locations import is_object
from flows.workspace import Workspace

PICTURES = "data"
"""The folder of pictures, which FiftyOne and the tools that read COCO files expect to have this name."""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes `path` when all of it is there.

    Raises Permanent when something lies at `path` already. What a killed export has left is
    written over by the next.
    """
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Permanent(f"{path.name} exists already: export to a new folder")
    unfinished = path.with_name(f".{path.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    unfinished.replace(path)


def picture_writer(
    workspace: Workspace, folder: Path, pictures_at: str | None
) -> Callable[[Picture, bytes], None]:
    """Return what writes a picture: under `pictures_at` where that is in a bucket, else into `folder`.

    A bucket is made if need be, and written to once, so that wrong keys are told of before anything
    is read; UnsafeStore is raised for one in which two writers could both win.
    """
    if pictures_at is not None and is_object(pictures_at):
        place = new_output(workspace, pictures_at)

        def put(picture: Picture, data: bytes) -> None:
            place.put(picture.name, data)

        return put
    beside = folder / PICTURES
    beside.mkdir()

    def write(picture: Picture, data: bytes) -> None:
        (beside / picture.name).write_bytes(data)

    return write
