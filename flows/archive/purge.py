"""Take what was forgotten out of the answers of archives, wherever they were written.

    a new part without it -> the shard's note and the manifests that named the old part -> the old
    part goes; then vectors, what is known of unfinished shards, and plans, each in its place

Every step writes one file whole. A kill between two leaves manifests that name parts which are there,
and the next call finds what is left to do by looking at everything again. Who has read a manifest
before, and asks for a part that is gone since, reads the manifest again.

Earlier publications lose it as the latest does: they keep their numbers, not their rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from flows.archive.entries import Entry
from flows.archive.places import Output
from flows.archive.plan import part_bytes, read_part
from flows.archive.result import ArchiveManifest, Part, read_manifest, write_manifest
from flows.archive.rows import Counts, count, read_rows, write_rows
from flows.archive.shard import Keys, keys_of_part, read_done, write_done
from flows.errors import NotFound
from flows.tombstones import Forgotten

_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """A part that held something forgotten, and what takes its place."""

    keys: Keys
    shard_id: str
    part: Part
    before: Counts
    after: Counts
    to_retry: int
    """Pictures among those forgotten that the next run would have tried again."""


def purge_answers(output: Output, forgotten: Forgotten) -> int:
    """Write anew whatever below `output` tells of something forgotten; return how many files did."""
    if not forgotten:
        return 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = [key for key in output.keys("labels/") if keys_of_part(key) is not None]
        found = pool.map(lambda key: _move(output, key, forgotten), parts)
        moved = {key: each for key, each in zip(parts, found, strict=True) if each is not None}
        for key, each in moved.items():
            _repoint_note(output, key, each)
        for key in [key for key in output.keys("labels/") if "/manifests/" in key]:
            manifest = read_manifest(output, key)
            if any(part.key in moved for part in manifest.parts):
                write_manifest(output, key, _repointed(manifest, moved))
        for key in moved:
            output.delete(key)
        vectors = [key for key in output.keys("labels/") if "/unfinished/" in key]
        vectors += output.keys("embeddings/")
        plans = list(output.keys("plans/parts/"))
        rest = [
            *pool.map(lambda key: _purge_vectors(output, key, forgotten), vectors),
            *pool.map(lambda key: _purge_plan(output, key, forgotten), plans),
        ]
    return len(moved) + sum(rest)


def _move(output: Output, key: str, forgotten: Forgotten) -> _Moved | None:
    """Write what stays of a part; None if that is all of it."""
    shard = keys_of_part(key)
    assert shard is not None  # noqa: S101 - for the type checker: the caller has looked
    keys, shard_id = shard
    rows = read_rows(output.get(key), keys.format)
    kept = _kept(rows, forgotten)
    if kept is rows:
        return None
    data = write_rows(kept, keys.format)
    sha256 = hashlib.sha256(data).hexdigest()
    part = Part(key=keys.part(shard_id, sha256), sha256=sha256, pictures=kept.num_rows)
    output.put(part.key, data)
    waiting = _unfinished(output, keys, shard_id)
    return _Moved(
        keys=keys,
        shard_id=shard_id,
        part=part,
        before=count(rows),
        after=count(kept),
        to_retry=_to_retry(waiting) - _to_retry(_kept(waiting, forgotten)),
    )


def _kept(rows: pa.Table, forgotten: Forgotten) -> pa.Table:
    """Return the rows that may stay, without forgotten addresses; the same table if all may."""
    if not rows.num_rows:
        return rows
    stays = [
        not forgotten.covers(uri, sha256=sha256)
        for uri, sha256 in zip(rows["uri"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
    ]
    at = rows.schema.get_field_index("error_detail")
    said = rows.column(at).to_pylist()
    redacted = [text and forgotten.redact(text) for text in said]
    if all(stays) and redacted == said:
        return rows
    field = rows.schema.field(at)
    return rows.set_column(at, field, pa.array(redacted, field.type)).filter(pa.array(stays))


def _repoint_note(output: Output, old: str, moved: _Moved) -> None:
    """Let the note of a shard name its new part, if the old one is what it names."""
    done = read_done(output, moved.keys, moved.shard_id)
    if done is None or done.key != old:
        return
    write_done(
        output,
        moved.keys,
        moved.shard_id,
        dataclasses.replace(
            done,
            key=moved.part.key,
            sha256=moved.part.sha256,
            pictures=moved.part.pictures,
            labelled=moved.after.labelled,
            yes={label: moved.after.yes.get(label, 0) for label in done.yes},
            errors=moved.after.errors,
            to_retry=done.to_retry - moved.to_retry,
        ),
    )


def _repointed(manifest: ArchiveManifest, moved: Mapping[str, _Moved]) -> ArchiveManifest:
    """Return a manifest that names the new parts, and counts what is in them."""
    pictures, labelled, to_retry = manifest.pictures, manifest.labelled, manifest.to_retry
    yes, errors = Counter(manifest.yes), Counter(manifest.errors)
    parts = []
    for part in manifest.parts:
        found = moved.get(part.key)
        parts.append(part if found is None else found.part)
        if found is not None:
            pictures += found.part.pictures - part.pictures
            labelled += found.after.labelled - found.before.labelled
            to_retry -= found.to_retry
            for counter, before, after in (
                (yes, found.before.yes, found.after.yes),
                (errors, found.before.errors, found.after.errors),
            ):
                counter.update(after)
                counter.subtract(before)
    return dataclasses.replace(
        manifest,
        pictures=pictures,
        labelled=labelled,
        yes={label: yes[label] for label in manifest.yes},
        errors={reason: number for reason, number in sorted(errors.items()) if number},
        # Of an earlier publication it is not known any more which of its rows could be tried again.
        to_retry=max(0, to_retry),
        parts=tuple(parts),
    )


def _purge_vectors(output: Output, key: str, forgotten: Forgotten) -> bool:
    """Write the vectors of a shard anew if need be; say whether there was need.

    What is known of an unfinished shard goes when nothing is left in it to be tried again.
    """
    rows = read_rows(output.get(key), "parquet")
    kept = _kept(rows, forgotten)
    if "/unfinished/" in key and not _to_retry(kept):
        output.delete(key)
        return True
    if kept is rows:
        return False
    output.put(key, write_rows(kept, "parquet"))
    return True


def _purge_plan(output: Output, key: str, forgotten: Forgotten) -> bool:
    """Take forgotten addresses out of a part of a plan; its shards stay where they are in it."""
    shards = read_part(output.get(key))

    def redacted(entry: Entry) -> Entry:
        return dataclasses.replace(entry, detail=forgotten.redact(entry.detail))

    kept = [
        [redacted(entry) for entry in shard if not forgotten.names(entry.name)] for shard in shards
    ]
    if kept == shards:
        return False
    output.put(key, part_bytes(kept))
    return True


def _unfinished(output: Output, keys: Keys, shard_id: str) -> pa.Table:
    """Return what is known of a shard of which something is to be tried again; else no row."""
    try:
        return read_rows(output.get(keys.unfinished(shard_id)), "parquet")
    except NotFound:
        return pa.table({"transient": pa.array([], pa.bool_())})


def _to_retry(rows: pa.Table) -> int:
    return pc.sum(rows["transient"]).as_py() or 0
