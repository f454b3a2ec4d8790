"""What shards are made of: one picture, or a range of the pictures that one file holds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal

Kind = Literal["picture", "tar", "packed", "parquet", "url", "refused"]
"""`packed`: a zip or a compressed tar, which is read as a whole. `refused`: a row of a table that is
no address."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A part of an archive as its listing shows it; nothing of it has been read but indexes."""

    kind: Kind
    name: str
    """A key, a path relative to the archive's folder, or an address."""
    etag: str = ""
    """Changes when the bytes do."""
    size: int = 0
    """Bytes of the object or file."""
    first: int = 0
    """Of a tar, the byte at which its first member's header lies; of Parquet, a row group; of a
    table of addresses, the row."""
    last: int = 0
    """One past the last, in the same units."""
    pictures: int = 1
    """How many it holds; 0 while nobody knows: of tars."""
    reason: str = ""
    """Of `refused`: why, for counting; and `detail` for people."""
    detail: str = ""

    @property
    def identity(self) -> str:
        """A line that changes with what the entry stands for."""
        parts = (self.kind, self.name, self.etag, self.size, self.first, self.last, self.detail)
        return "\t".join(map(str, parts))


def shard_id(entries: Sequence[Entry]) -> str:
    """Return 16 hex digits that change with any entry, its ETag, and their order."""
    lines = "\n".join(entry.identity for entry in entries)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
