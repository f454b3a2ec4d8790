"""Write original bytes into tar shards, in WebDataset layout."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence

from flows.objects import ObjectStore

MAX_SHARD_IMAGES = 1000
MAX_SHARD_BYTES = 64 * 2**20
"""A shard is held in memory until it is written: this bounds what a kill can cost, too."""

_EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One image to be stored: its id, its format, its original bytes, and what is known of it."""

    sha256: str
    format: str
    data: bytes
    metadata: Mapping[str, object]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image's bytes lie: the shard's key, and the range in it."""

    shard: str
    offset: int
    size: int


def write_shard(store: ObjectStore, prefix: str, members: Sequence[Member]) -> dict[str, Place]:
    """Write `members` as one tar below `prefix`; return each image's place by its sha256.

    The key ends in the hash of the tar, and the tar is a function of its members alone: the same
    members written again after a kill give the same object.
    """
    ranges: dict[str, tuple[int, int]] = {}
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for member in sorted(members, key=lambda each: each.sha256):
                extension = _EXTENSIONS.get(member.format, member.format)
                offset = _add(tar, f"{member.sha256}.{extension}", member.data)
                ranges[member.sha256] = (offset, len(member.data))
                described = json.dumps(dict(member.metadata), sort_keys=True).encode()
                _add(tar, f"{member.sha256}.json", described)
        file.seek(0)
        while block := file.read(2**20):
            digest.update(block)
        file.seek(0)
        key = f"{prefix}-{digest.hexdigest()[:16]}.tar"
        store.upload(key, file)
    return {
        sha256: Place(shard=key, offset=offset, size=size)
        for sha256, (offset, size) in ranges.items()
    }


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member with neutral times and owners; return the offset of its bytes in the tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    # A USTAR member without a long name is one header block, then the bytes.
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return offset
