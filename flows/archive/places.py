"""Where an archive lies and where its labels go: a folder, or a prefix of a bucket."""

from __future__ import annotations

import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from flows.errors import NotFound, UnsafeStore
from flows.locations import bucket_at, is_object
from flows.objects import ObjectInfo, ObjectStore
from flows.workspace import Workspace

BLOCK_BYTES = 4 * 2**20
"""What is asked for at a time of a file that is read from its beginning to its end."""


class Changed(Exception):
    """What is read is no longer what was listed."""


class Output(Protocol):
    """Where results are kept, by key; `ObjectStore` is one."""

    def get(self, key: str) -> bytes:
        """Return the bytes; NotFound if there are none."""

    def put(self, key: str, data: bytes) -> object:
        """Write the bytes, whole or not at all, whether or not there are any."""

    def put_once(self, key: str, data: bytes) -> bool:
        """Write the bytes unless there are any; return whether this call wrote them."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys that begin with `prefix`, in their order."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what is there below each of those keys."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is there, or None."""

    def delete(self, key: str) -> None:
        """Remove what is there, if anything."""

    def clock(self) -> datetime:
        """Return the time by which `last_modified` is told."""

    def uri(self, key: str) -> str:
        """Return what people call the place of a key."""

    def probe(self) -> None:
        """Check that of two who write one key at once one wins; UnsafeStore if not."""


def new_output(workspace: Workspace, location: str) -> Output:
    """Return what `output_at` does, made if need be; UnsafeStore if two could both publish there."""
    output = output_at(workspace, location)
    if isinstance(output, ObjectStore):
        output.ensure_bucket()
    output.probe()
    return output


def output_at(workspace: Workspace, location: str) -> Output:
    """Return the folder or `s3://bucket/prefix` as a place for results."""
    if is_object(location):
        store, prefix = bucket_at(workspace, location)
        settings = workspace.settings.model_copy(
            update={"bucket": store.bucket, "prefix": prefix.strip("/")}
        )
        return ObjectStore(settings)
    return FolderOutput(Path(location).expanduser().absolute())


class FolderOutput:
    """Results as files below a folder; conditional by hard links, which no two processes win."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str) -> bytes:
        """Return the file's bytes; NotFound if there is none."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no file {self._root / key}") from None

    def put(self, key: str, data: bytes) -> None:
        """Write the file, whole or not at all."""
        self._written(key, data).replace(self._root / key)

    def put_once(self, key: str, data: bytes) -> bool:
        """Write the file unless there is one; return whether this call wrote it."""
        unfinished = self._written(key, data)
        try:
            os.link(unfinished, self._root / key)
        except FileExistsError:
            return False
        finally:
            unfinished.unlink()
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the files' paths below the root that begin with `prefix`."""
        folder = self._root / prefix.rpartition("/")[0]
        found = (path.relative_to(self._root).as_posix() for path in _files(folder))
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what the file system says of each; a file that is gone by now is left out."""
        return (info for info in map(self.head, self.keys(prefix)) if info is not None)

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the file system says of the file, or None if there is none."""
        try:
            found = (self._root / key).stat()
        except FileNotFoundError:
            return None
        return ObjectInfo(
            key=key,
            size=found.st_size,
            etag=file_etag(found),
            last_modified=datetime.fromtimestamp(found.st_mtime, UTC),
        )

    def delete(self, key: str) -> None:
        """Remove the file; it is no error if there is none."""
        (self._root / key).unlink(missing_ok=True)

    def clock(self) -> datetime:
        """Return this machine's time."""
        return datetime.now(UTC)

    def uri(self, key: str) -> str:
        """Return the file's path."""
        return str(self._root / key)

    def probe(self) -> None:
        """Check that the file system has hard links, of which the second to one name fails."""
        key = f".cratedig-probe-{uuid.uuid4().hex}"
        try:
            wins = self.put_once(key, b"one"), self.put_once(key, b"two")
        except OSError as error:
            raise UnsafeStore(
                f"results cannot be written to {self._root}: its file system has to give files a "
                f"second name (hard links), and says: {error.strerror}"
            ) from error
        finally:
            (self._root / key).unlink(missing_ok=True)
        if wins != (True, False):
            raise UnsafeStore(f"two runs could both publish in {self._root}: use another folder")

    def _written(self, key: str, data: bytes) -> Path:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, where a rename is one step; the leading dot keeps it out of `keys`.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            file.write(data)
        return Path(file.name)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent, name)


class Input(Protocol):
    """Where pictures lie; names are keys, or paths relative to a folder."""

    def read(self, name: str, etag: str) -> bytes:
        """Return the bytes; NotFound if they are gone, `Changed` if the ETag is another."""

    def read_range(self, name: str, etag: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer at the end; raises as `read`."""

    def uri(self, name: str) -> str:
        """Return what rows call it: `s3://bucket/key`, or the path relative to the folder."""


class BucketInput:
    """Objects of a bucket of the project's store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, name: str, etag: str) -> bytes:
        """Return the object's bytes."""
        data, found = self._store.get_with_etag(name)
        return _unchanged(data, name, etag, found)

    def read_range(self, name: str, etag: str, offset: int, size: int) -> bytes:
        """Return a part of the object's bytes."""
        data, found = self._store.get_range_with_etag(name, offset, size)
        return _unchanged(data, name, etag, found)

    def uri(self, name: str) -> str:
        """Return the object's address."""
        return self._store.uri(name)


class FolderInput:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str, etag: str) -> bytes:
        """Return the file's bytes."""
        with self._opened(name, etag) as file:
            return file.read()

    def read_range(self, name: str, etag: str, offset: int, size: int) -> bytes:
        """Return a part of the file's bytes."""
        with self._opened(name, etag) as file:
            file.seek(offset)
            return file.read(size)

    def uri(self, name: str) -> str:
        """Return the path relative to the folder: the same on every machine."""
        return name

    def _opened(self, name: str, etag: str) -> IO[bytes]:
        try:
            file = (self.root / name).open("rb")
        except FileNotFoundError:
            raise NotFound(f"{name} is gone") from None
        found = file_etag(os.fstat(file.fileno()))
        if found != etag:
            file.close()
            raise Changed(f"{name} was changed after it was listed")
        return file


def file_etag(found: os.stat_result) -> str:
    """Return what stands in for an ETag of a file: its size and when it was written."""
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def _unchanged(data: bytes, name: str, listed: str, found: str) -> bytes:
    if found != listed:
        raise Changed(f"{name} was changed after it was listed")
    return data


class InputFile(io.RawIOBase):
    """One object or file of an archive, as a file that can be read and sought in.

    Bytes are asked for in blocks of `block_bytes`, the last of which is held. Wrap it in nothing:
    reads are as long as they are asked for, but at the end.
    """

    def __init__(
        self, place: Input, name: str, etag: str, size: int, *, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self._place, self._name, self._etag, self._size = place, name, etag, size
        self._block_bytes = block_bytes
        self._block = b""
        self._block_at = 0
        self._at = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Have the next read begin elsewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end alone."""
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            inside = self._at - self._block_at
            piece = self._block[inside : inside + wanted] if inside >= 0 else b""
            if not piece:
                self._block_at = self._at
                self._block = self._place.read_range(
                    self._name, self._etag, self._at, max(self._block_bytes, 1)
                )
                if not self._block:
                    break
                continue
            pieces.append(piece)
            self._at += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's is wider
        """Fill the buffer; return how many bytes there were."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
