"""Copy the project's bucket to another place: a backup, or a move.

What points at other objects (versions of tables, manifests of predictions, the alias of the model
in production) is noted first and written last, so that the copy is whole at every instant, also
beside runs that go on writing. What was copied before and has not changed is not read again; what
is gone from the source goes from the copy, because somebody may have asked to be forgotten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from flows.errors import Corrupt, NotFound, Permanent, Transient
from flows.objects import ObjectInfo, ObjectStore
from flows.progress import Watch, unwatched
from flows.settings import FROM_ENVIRONMENT, Settings, from_blocks, places
from flows.workspace import Workspace

PROJECT_KEY = "project.toml"
"""Where a copy keeps the project's file, so that the bucket alone is enough to go on from."""

STATE_KEY = ".cratedig-copy/objects.jsonl"

AT_ONCE = 8
BATCH = 200
"""Objects between two writings of the state: what a kill can cost is reading so many again."""

PASSES = 5
"""How often a copy starts over because something was swept away beneath it."""

_IN_MEMORY_BYTES = 8_000_000


class CopySettings(BaseSettings):
    """The keys of the other store; the project's own where they are not set."""

    model_config = FROM_ENVIRONMENT

    copy_access_key: SecretStr | None = Field(default=None)
    """The key to the store that `cratedig copy` writes to."""
    copy_secret_key: SecretStr | None = Field(default=None)
    """The secret that belongs to it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One object of the copy, as its state remembers it."""

    size: int
    etag: str
    """The source's."""
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What a copy did."""

    to: str
    copied: int
    bytes: int
    unchanged: int
    deleted: int
    """Objects of the copy that the source no longer has."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        return (
            f"copied {self.copied} ({self.bytes / 1e6:.1f} MB) unchanged {self.unchanged} "
            f"deleted {self.deleted} to {self.to} in {self.seconds:.0f} s"
        )


def destination(workspace: Workspace, to: str, endpoint: str | None) -> ObjectStore:
    """Return the store of `s3://bucket/prefix`, at `endpoint` or at the project's own.

    Raises Permanent for another form of address, and for a place inside the project's own.
    """
    parts = urlsplit(to)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise Permanent(f"{to!r} is not of the form s3://bucket/prefix")
    own = workspace.settings
    keys = CopySettings(**places(workspace.root), **from_blocks(CopySettings, workspace.root))
    settings = Settings.model_validate(
        {
            **own.model_dump(),
            "endpoint": endpoint or own.endpoint,
            "bucket": parts.netloc,
            "prefix": parts.path,
            "access_key": keys.copy_access_key or own.access_key,
            "secret_key": keys.copy_secret_key or own.secret_key,
        }
    )
    same_bucket = (settings.endpoint, settings.bucket) == (own.endpoint, own.bucket)
    inside = f"{settings.prefix}/".startswith(f"{own.prefix}/" if own.prefix else "")
    around = f"{own.prefix}/".startswith(f"{settings.prefix}/" if settings.prefix else "")
    if same_bucket and (inside or around):
        raise Permanent(f"{to} and the project's own place lie inside each other; name another")
    store = ObjectStore(settings)
    store.ensure_bucket()
    # A copy is there to be worked on one day.
    store.probe()
    return store


def copy(workspace: Workspace, to: ObjectStore, *, watch: Watch = unwatched) -> CopyResult:
    """Make `to` hold what the project's bucket holds; may be cut off and run again.

    Raises Corrupt when what was written does not read back, Transient when the source changes
    faster than it can be copied.
    """
    started = time.monotonic()
    source = workspace.store
    state = _read_state(to)
    copied = copied_bytes = 0
    with watch("copy") as progress:
        for _ in range(PASSES):
            alias_bytes = {
                info.key: source.get(info.key)
                for info in source.list("models/")
                if info.key.endswith("/aliases.json")
            }
            pointers = [info for info in source.list() if _points(info.key)]
            rest = [
                info
                for info in filter(_is_lasting, source.list())
                if not _points(info.key) and info.key not in alias_bytes
            ]
            try:
                for batch in (*_batches(rest), *_batches(pointers)):
                    new = [info for info in batch if not _is_copied(info, state)]
                    state |= _copy_all(source, to, new)
                    copied += len(new)
                    copied_bytes += sum(info.size for info in new)
                    if new:
                        _write_state(to, state)
                    progress(copied, None)
            except NotFound:
                continue  # swept or compacted since it was listed: the next listing lacks it
            break
        else:
            raise Transient("the bucket changes faster than it can be copied: try again at night")
        for key, data in alias_bytes.items():
            _put_checked(to, key, data)
        to.put(PROJECT_KEY, (workspace.root / "project.toml").read_bytes())
        gone = state.keys() - {info.key for info in (*rest, *pointers)}
        for key in sorted(gone):
            to.delete(key)
            del state[key]
        _write_state(to, state)
    return CopyResult(
        to=to.uri(""),
        copied=copied,
        bytes=copied_bytes,
        unchanged=len(state) - copied,
        deleted=len(gone),
        seconds=round(time.monotonic() - started, 2),
    )


def damaged(to: ObjectStore, *, watch: Watch = unwatched) -> list[str]:
    """Read every object of a copy back; return a sentence for each that is not what was copied."""
    troubles = []
    with watch("verify the copy") as progress:
        state = _read_state(to)
        for number, (key, copied) in enumerate(sorted(state.items()), 1):
            try:
                sha256 = _digest(to, key, copied.size)
            except NotFound:
                troubles.append(f"{key} is missing")
            else:
                if sha256 != copied.sha256:
                    troubles.append(f"{key} is damaged: its SHA-256 is {sha256}")
            progress(number, len(state))
    return troubles


def restore_project(settings: Settings) -> bytes:
    """Return the project.toml that a copy keeps. Raises NotFound, one sentence."""
    store = ObjectStore(settings)
    try:
        return store.get(PROJECT_KEY)
    except NotFound as error:
        raise NotFound(
            f"{store.uri(PROJECT_KEY)} does not exist: it is there in what `cratedig copy` has made"
        ) from error


def _is_lasting(info: ObjectInfo) -> bool:
    """Say whether an object is worth keeping: leases and probes are of the moment."""
    return not info.key.startswith(("leases/", "screens/", ".cratedig-"))


def _points(key: str) -> bool:
    """Say whether an object names others that must be there before it."""
    return "/_versions/" in key or "/manifests/" in key


def _batches(infos: list[ObjectInfo]) -> Iterable[list[ObjectInfo]]:
    return (infos[start : start + BATCH] for start in range(0, len(infos), BATCH))


def _is_copied(info: ObjectInfo, state: Mapping[str, Copied]) -> bool:
    there = state.get(info.key)
    return there is not None and (there.size, there.etag) == (info.size, info.etag)


def _copy_all(source: ObjectStore, to: ObjectStore, infos: list[ObjectInfo]) -> dict[str, Copied]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = pool.map(lambda info: _copy_one(source, to, info), infos)
        return dict(zip((info.key for info in infos), done, strict=True))


def _copy_one(source: ObjectStore, to: ObjectStore, info: ObjectInfo) -> Copied:
    if info.size <= _IN_MEMORY_BYTES:
        data, etag = source.get_with_etag(info.key)
        return Copied(size=len(data), etag=etag, sha256=_put_checked(to, info.key, data))
    with tempfile.TemporaryFile() as file:
        source.download(info.key, file)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        to.upload(info.key, file)
    # A large object's etag says nothing of its content, so it is read back.
    if _digest(to, info.key, size) != sha256:
        raise Corrupt(f"{to.uri(info.key)} does not read back as it was written; run it again")
    return Copied(size=size, etag=info.etag, sha256=sha256)


def _put_checked(to: ObjectStore, key: str, data: bytes) -> str:
    """Write the object and return its SHA-256; the store's own digest of it must be ours."""
    etag = to.put(key, data).strip('"')
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if etag != md5 and to.get(key) != data:  # some stores' etags are not digests
        raise Corrupt(f"{to.uri(key)} does not read back as it was written; run it again")
    return hashlib.sha256(data).hexdigest()


def _digest(store: ObjectStore, key: str, size: int) -> str:
    """Return the SHA-256 of an object, read in pieces."""
    digest = hashlib.sha256()
    if store.head(key) is None:
        raise NotFound(f"{store.uri(key)} does not exist")
    for start in range(0, size, _IN_MEMORY_BYTES):
        digest.update(store.get_range(key, start, min(_IN_MEMORY_BYTES, size - start)))
    return digest.hexdigest()


def _read_state(to: ObjectStore) -> dict[str, Copied]:
    try:
        lines = to.get(STATE_KEY).decode().splitlines()
    except NotFound:
        return {}
    rows = (json.loads(line) for line in lines)
    return {row.pop("key"): Copied(**row) for row in rows}


def _write_state(to: ObjectStore, state: Mapping[str, Copied]) -> None:
    lines = (
        json.dumps({"key": key, **dataclasses.asdict(copied)}) for key, copied in state.items()
    )
    to.put(STATE_KEY, "".join(f"{line}\n" for line in lines).encode())
