"""What was forgotten, so that it does not come back: tables/tombstones.lance.

A tombstone is the SHA-256 of a picture's id, of an address or of a host's name: enough to know it
again, and nothing that could be read. The ids themselves, which earlier versions kept, are replaced.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import pyarrow as pa

from crawler.decode import Candidate
from flows.objects import ObjectStore
from flows.rows import SCHEMA_VERSION, SCHEMA_VERSION_KEY, LinkRow
from flows.tables import Table

Kind = Literal["picture", "url", "host"]
_ID = "sha256"
"""The kind of tombstones that are ids as they are."""

FORGOTTEN = "[forgotten]"
"""What stands in texts in the place of a forgotten address."""

_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False, metadata=_KEY),
        pa.field("digest", pa.string(), nullable=False, metadata=_KEY),
        pa.field("forgotten_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

# An address within a text, or a name that could be a host's.
_ADDRESS = re.compile(r"https?://[^\s\"'<>\\|`]+|(?:[\w-]+\.)+[\w-]+", re.IGNORECASE)
_AFTER_ADDRESS = ".,;:!?)]}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """All tombstones: the digests of the ids of pictures, of addresses and of hosts."""

    pictures: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, *, sha256s: Iterable[str] = (), urls: Iterable[str] = (), hosts: Iterable[str] = ()
    ) -> Forgotten:
        """Return the tombstones of pictures, addresses and hosts as they are."""
        return cls(
            pictures=frozenset(digest("picture", sha256) for sha256 in sha256s),
            urls=frozenset(digest("url", url) for url in urls),
            hosts=frozenset(digest("host", host) for host in hosts),
        )

    def __or__(self, other: Forgotten) -> Forgotten:
        return Forgotten(
            pictures=self.pictures | other.pictures,
            urls=self.urls | other.urls,
            hosts=self.hosts | other.hosts,
        )

    def __bool__(self) -> bool:
        return bool(self.pictures or self.urls or self.hosts)

    def has(self, sha256: str | None) -> bool:
        """Say whether the picture of that id was forgotten; there is none for None."""
        return bool(self.pictures and sha256) and digest("picture", sha256 or "") in self.pictures

    def covers(self, url: str, page_url: str = "", *, sha256: str | None = None) -> bool:
        """Say whether a picture must not be kept: by its id, its address, its page's, or a host."""
        return self.has(sha256) or self.names(url) or self.names(page_url)

    def names(self, url: str) -> bool:
        """Say whether that address, or its host, was forgotten."""
        if not url:
            return False
        if digest("url", url) in self.urls:
            return True
        try:
            return bool(self.hosts) and self.names_host(urlsplit(url).hostname or "")
        except ValueError:
            return False  # brackets that hold no IPv6 address: it has no host

    def names_host(self, host: str) -> bool:
        """Say whether that host was forgotten, by itself or with all below a longer name's end."""
        return bool(self.hosts) and any(
            each in self.hosts for each in _digests_above(host.lower().rstrip("."))
        )

    def redact(self, text: str) -> str:
        """Return `text` with `FORGOTTEN` in the place of each forgotten address and host."""
        if not (self.urls or self.hosts):
            return text
        return _ADDRESS.sub(self._redacted, text)

    def _redacted(self, match: re.Match[str]) -> str:
        found = match[0]
        if "://" not in found:
            return FORGOTTEN if self.names_host(found) else found
        address = found
        while address:
            if self.names(address):
                return FORGOTTEN + found[len(address) :]
            if address[-1] not in _AFTER_ADDRESS:
                break
            address = address[:-1]
        return found


class Tombstones:
    """The table of them. Adding one twice adds nothing."""

    def __init__(self, store: ObjectStore) -> None:
        self._table = Table(store, "tombstones", _SCHEMA)

    def add(self, forgotten: Forgotten) -> int:
        """Put up tombstones; return how many are new."""
        now = datetime.now(UTC)
        by_kind: dict[Kind, frozenset[str]] = {
            "picture": forgotten.pictures,
            "url": forgotten.urls,
            "host": forgotten.hosts,
        }
        rows = [
            {"kind": kind, "digest": each, "forgotten_at": now}
            for kind, digests in by_kind.items()
            for each in sorted(digests)
        ]
        if not rows:
            return 0
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        return self._table.insert_missing(["kind", "digest"], table)

    def hide_ids(self) -> None:
        """Put digests in the place of the ids that earlier versions have kept."""
        ids = {record["digest"] for record in self._table.records(["digest"], f"kind = '{_ID}'")}
        if ids:
            self.add(Forgotten.of(sha256s=ids))
            self._table.delete(["kind"], lambda row: row["kind"] == _ID)

    def load(self) -> Forgotten:
        """Return all of them: two short reads when there are none, about 100 bytes each otherwise."""
        found: dict[str, set[str]] = {_ID: set(), "picture": set(), "url": set(), "host": set()}
        for record in self._table.records(["kind", "digest"]):
            found[record["kind"]].add(record["digest"])
        return Forgotten.of(sha256s=found[_ID]) | Forgotten(
            pictures=frozenset(found["picture"]),
            urls=frozenset(found["url"]),
            hosts=frozenset(found["host"]),
        )


def keep_out(
    store: ObjectStore, candidates: list[Candidate], links: list[LinkRow]
) -> tuple[list[Candidate], list[LinkRow]]:
    """Return what of both may be committed: nothing that was forgotten comes back.

    An address at which a forgotten picture came again is forgotten, too: it is not asked again.
    """
    tombstones = Tombstones(store)
    gone = tombstones.load()
    if not gone:
        return candidates, links
    allowed, again = [], []
    for each in candidates:
        link = each.fetched.link
        if gone.covers(link.url, link.page_url, sha256=each.fingerprint.sha256):
            again.append(link.url)
        else:
            allowed.append(each)
    tombstones.add(Forgotten.of(urls=again))
    return allowed, [
        row for row in links if not gone.covers(row.url, row.page_url, sha256=row.sha256)
    ]


def digest(kind: Kind, value: str) -> str:
    """Return what a tombstone keeps of an address or a host: SHA-256, hex."""
    return hashlib.sha256(f"{kind}:{value}".encode(errors="surrogatepass")).hexdigest()


@functools.lru_cache(maxsize=4096)
def _digests_above(host: str) -> tuple[str, ...]:
    """Return the digests of `host`, and of all that it lies below."""
    labels = host.split(".")
    return tuple(digest("host", ".".join(labels[start:])) for start in range(len(labels)))
