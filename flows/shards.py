"""Write original bytes into tar shards, in WebDataset layout."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

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
    beside: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Further files of the sample, by ending."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image's bytes lie: the shard's key, and the range in it."""

    shard: str
    offset: int
    size: int


def extension_of(format_: str) -> str:
    """Return the ending, without its dot, that files of that format have in shards."""
    return _EXTENSIONS.get(format_, format_)


def write_shard(store: ObjectStore, prefix: str, members: Sequence[Member]) -> dict[str, Place]:
    """Write `members` as one tar below `prefix`; return each image's place by its sha256.

    The key ends in the hash of the tar, and the tar is a function of its members alone: the same
    members written again after a kill give the same object.
    """
    with tempfile.TemporaryFile() as file:
        digest, ranges = write_tar(file, members)
        file.seek(0)
        key = f"{prefix}-{digest[:16]}.tar"
        store.upload(key, file)
    return {
        sha256: Place(shard=key, offset=offset, size=size)
        for sha256, (offset, size) in ranges.items()
    }


def write_tar(file: IO[bytes], members: Sequence[Member]) -> tuple[str, dict[str, tuple[int, int]]]:
    """Write `members` as a tar; return its sha256, hex, and by sha256 each image's offset and size.

    The bytes are those that `tarfile` writes, with neutral times and owners. Its own way of writing
    takes 190 us an image on one core, which is a third of what fetching one takes; this takes 75 us.
    """
    ranges: dict[str, tuple[int, int]] = {}
    digest = hashlib.sha256()
    at = 0
    for member in sorted(members, key=lambda each: each.sha256):
        described = json.dumps(dict(member.metadata), sort_keys=True).encode()
        ranges[member.sha256] = (at + tarfile.BLOCKSIZE, len(member.data))
        blocks = b"".join(
            (
                *_blocks(f"{member.sha256}.{extension_of(member.format)}", member.data),
                *_blocks(f"{member.sha256}.json", described),
                *(
                    block
                    for ending, data in member.beside.items()
                    for block in _blocks(f"{member.sha256}.{ending}", data)
                ),
            )
        )
        digest.update(blocks)
        file.write(blocks)
        at += len(blocks)
    # Two empty blocks end a tar, and then it is filled up to a whole record.
    end = bytes(2 * tarfile.BLOCKSIZE)
    end += bytes(-(at + len(end)) % tarfile.RECORDSIZE)
    digest.update(end)
    file.write(end)
    return digest.hexdigest(), ranges


def _blocks(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a member of a USTAR archive: its header, its bytes, and what fills the last block."""
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode()
    header[_SIZE] = b"%011o\0" % len(data)
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header), data, bytes(-len(data) % tarfile.BLOCKSIZE)


_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
# Where fields lie in a header: pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html.
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
