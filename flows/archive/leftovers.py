"""What runs over archives have left where their answers go, and nothing names any more.

A part counts once a manifest names it, and is about to count while its shard's note names it: a run
over a hundred million pictures takes days to its manifest, and one that was killed is carried on.
Whatever else lies there came of a kill, or was replaced before it was published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from flows.archive.places import Output
from flows.archive.result import read_manifest
from flows.archive.shard import keys_of_part, read_done
from flows.locations import is_object
from flows.objects import ObjectStore

UNPUBLISHED_S = 30 * 24 * 3600.0
"""A run that has not come to its manifest for so long is not carried on any more."""

_PLACES = "archives/"


def remember(store: ObjectStore, out: str) -> None:
    """Note in the project's bucket where answers go, so that they are looked after; no folders.

    Those are one machine's, and others cannot reach them.
    """
    if is_object(out):
        place = out.rstrip("/")
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        store.put_once(f"{_PLACES}{name}.txt", place.encode())


def remembered(store: ObjectStore) -> Iterator[str]:
    """Yield the places in buckets to which answers have gone."""
    for key in store.keys(_PLACES):
        yield store.get(key).decode()


def leftovers(
    output: Output, *, older_than_s: float, unpublished_s: float = UNPUBLISHED_S
) -> list[str]:
    """Return the keys of what nothing names, in the order in which it may be deleted.

    Parts that are older than `older_than_s`. Of those whose shard was never published for
    `unpublished_s` the note comes first: without it the shard is simply done again.
    """
    old = output.clock() - timedelta(seconds=older_than_s)
    parts = {
        info.key: info.last_modified
        for info in output.list("labels/")
        if info.last_modified <= old and keys_of_part(info.key) is not None
    }
    # Read after the listing: what is published in between is named by then.
    for key in [key for key in output.keys("labels/") if "/manifests/" in key]:
        for part in read_manifest(output, key).parts:
            parts.pop(part.key, None)
    found: list[str] = []
    for key, written_at in sorted(parts.items()):
        found += _with_note(output, key, written_at, unpublished_s)
    return found


def _with_note(output: Output, part: str, written_at: datetime, unpublished_s: float) -> list[str]:
    """Return what goes with a part that no manifest names; nothing while its note needs it."""
    shard = keys_of_part(part)
    done = None if shard is None else read_done(output, *shard)
    if shard is None or done is None or done.key != part:
        return [part]
    if written_at > output.clock() - timedelta(seconds=unpublished_s):
        return []
    keys, shard_id = shard
    return [keys.done(shard_id), keys.unfinished(shard_id), part]
