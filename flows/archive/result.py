"""The published result of a question: which parts count, and what they say together.

A manifest is written last, by conditional put, and only when every shard of the plan has its part.
Manifests are numbered; the highest is the result. Two workers that end at once write the same one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import TypeAdapter

from flows.archive.places import Output
from flows.archive.plan import Shard
from flows.archive.question import Question
from flows.archive.rows import Format
from flows.archive.shard import Keys, ShardDone, read_done
from flows.errors import Transient

_READERS = 16


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of rows."""

    key: str
    sha256: str
    pictures: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveManifest:
    """One publication: every picture of the plan that was not forgotten is in exactly one part."""

    number: int
    archive: str
    plan: str
    question: str
    kind: Literal["pre-label", "trained"]
    model: str
    encoder_id: str
    thresholds: dict[str, float]
    format: Format
    pictures: int
    labelled: int
    yes: dict[str, int]
    errors: dict[str, int]
    to_retry: int = 0
    """Of those with an error so many may be had at another time: the next run tries them again."""
    parts: tuple[Part, ...]

    def key(self, keys: Keys) -> str:
        """Return where it lies."""
        return f"{keys.folder}/manifests/{self.format}-{self.number:06d}.json"


_MANIFEST = TypeAdapter(ArchiveManifest)


def publish(
    output: Output,
    keys: Keys,
    question: Question,
    *,
    archive: str,
    plan: str,
    shards: Iterable[Shard],
) -> tuple[ArchiveManifest, bool]:
    """Publish the parts of all shards, unless that is what was published last.

    Return the manifest that says so, and whether this call wrote it. Raises Transient when a shard has no part (any more): label again.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        done = list(readers.map(lambda shard: _done(output, keys, shard), shards))
    yes: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for each in done:
        yes.update(each.yes)
        errors.update(each.errors)
    manifest = ArchiveManifest(
        number=0,
        archive=archive,
        plan=plan,
        question=keys.question_id,
        kind=question.kind,
        model=question.model,
        encoder_id=question.encoder_id,
        thresholds=dict(zip(question.labels, map(float, question.thresholds_L), strict=True)),
        format=keys.format,
        pictures=sum(each.pictures for each in done),
        labelled=sum(each.labelled for each in done),
        yes={label: yes[label] for label in question.labels},
        errors=dict(sorted(errors.items())),
        to_retry=sum(each.to_retry for each in done),
        parts=tuple(
            Part(key=each.key, sha256=each.sha256, pictures=each.pictures) for each in done
        ),
    )
    while True:
        before = manifests(output, keys)
        if before and dataclasses.replace(before[-1], number=0) == manifest:
            return before[-1], False
        numbered = dataclasses.replace(manifest, number=len(before))
        if output.put_once(numbered.key(keys), _MANIFEST.dump_json(numbered, indent=1)):
            return numbered, True


def manifests(output: Output, keys: Keys) -> list[ArchiveManifest]:
    """Return what was published of that question in that format, oldest first."""
    return [
        read_manifest(output, key)
        for key in sorted(output.keys(f"{keys.folder}/manifests/{keys.format}-"))
    ]


def read_manifest(output: Output, key: str) -> ArchiveManifest:
    """Return one publication by its key."""
    return _MANIFEST.validate_json(output.get(key))


def write_manifest(output: Output, key: str, manifest: ArchiveManifest) -> None:
    """Put a publication in the place of the one that lies there."""
    output.put(key, _MANIFEST.dump_json(manifest, indent=1))


def _done(output: Output, keys: Keys, shard: Shard) -> ShardDone:
    done = read_done(output, keys, shard.id)
    if done is None:
        raise Transient(f"{output.uri(keys.done(shard.id))} is not there: run this again")
    return done
