"""Find duplicates: mark them in the dataset, or show those of a folder on a page.

Nothing is deleted anywhere: in the dataset a duplicate keeps its row, its bytes and its provenance,
and is a duplicate no longer when its group is found to be another.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from crawler.archive import archive_members
from crawler.candidates import Candidate, examine_members
from crawler.decode import Fingerprint
from crawler.dedupe import DuplicateGroup, group_duplicates
from crawler.rejections import Rejected
from crawler.settings import CrawlPolicy
from flows.catalog import Catalog
from flows.dedupe_report import Shown, report_page
from flows.progress import Watch, unwatched
from flows.verdicts import marks_of, said
from model.data import kin_groups


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DedupeResult:
    """What was looked at, and how much of it is said better by another picture."""

    images: int
    groups: int
    duplicates: int
    rejected: int
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        return (
            f"looked at {self.images} groups {self.groups} duplicates {self.duplicates} "
            f"rejected {self.rejected} in {self.seconds:.0f} s"
        )


def mark_duplicates(catalog: Catalog, *, anew: bool = True) -> DedupeResult:
    """Group the whole dataset, mark all but the best of each group, and say how many.

    From the stored hashes: no picture is decoded again, only thumbnails of borderline pairs are read.
    With `anew`, groups of earlier times do not count and every mark may change; else they stay
    together, and only what has been added finds its place. What a person has merged or taken apart
    stays as it was said, in either case.
    """
    started = time.monotonic()
    fingerprints = catalog.fingerprints()
    rows = None
    # A person may say something while this counts: nothing of that is to be written over.
    while rows != (rows := catalog.verdicts()):
        groups = group_duplicates(
            fingerprints,
            thumbnails=catalog.thumbnails,
            earlier=None if anew else catalog.duplicates(),
            verdicts=said(rows),
        )
        marks = marks_of(groups)
        catalog.set_duplicates(marks)
    return _result(len(fingerprints), groups, len(marks), 0, started)


def alike(catalog: Catalog, encoder_id: str) -> list[list[str]]:
    """Return groups of distinct pictures that show nearly the same (one shoot, say), largest first.

    By their embeddings, cosine 0.97 or more. They are no duplicates and stay; training keeps each
    group on one side of its splits (`model.data.kin_groups`).
    """
    sha256s, embeddings_ND = catalog.embeddings(encoder_id)
    marked = catalog.duplicates()
    kept = [at for at, sha256 in enumerate(sha256s) if sha256 not in marked]
    names = [sha256s[at] for at in kept]
    together: dict[str, list[str]] = {}
    for sha256, group in kin_groups(names, embeddings_ND[kept], {}).items():
        together.setdefault(group, []).append(sha256)
    found = [sorted(each) for each in together.values() if len(each) > 1]
    return sorted(found, key=lambda each: (-len(each), each))


def dedupe_folder(
    path: Path, *, report: Path | None = None, watch: Watch = unwatched
) -> tuple[DedupeResult, list[tuple[str, list[str]]]]:
    """Find the duplicates in a folder, tar or zip; write a page that shows them to `report`.

    Returns the result, and for each group the name of the picture to keep and those of the others:
    files of the same bytes first, by name. Nothing in the folder is changed. Memory holds hashes;
    thumbnails lie in a temporary file. Raises `crawler.archive.ArchiveUnreadable`.
    """
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="cratedig-") as folder,
        closing(_Thumbnails(Path(folder) / "thumbnails.sqlite")) as thumbnails,
    ):
        with watch(f"look at {path.name}") as progress:
            seen = asyncio.run(_examine(path, thumbnails, lambda done: progress(done, None)))
        groups = group_duplicates(
            [each for each, _ in seen.pictures.values()], thumbnails=thumbnails.of
        )
        groups = _with_equal_files(groups, seen.pictures)
        files = sum(len(_others(group, seen)) for group in groups)
        result = _result(seen.images, groups, files, seen.rejected, started)
        if report is not None:
            page = report_page(path.name, str(result), _shown(groups, seen, thumbnails))
            report.write_text(page, encoding="utf-8")
    named = [(seen.names(group.kept)[0], _others(group, seen)) for group in groups]
    return result, sorted(named)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Seen:
    pictures: dict[str, tuple[Fingerprint, list[str]]] = dataclasses.field(default_factory=dict)
    """By sha256: the fingerprint, and the names of all files with these bytes."""
    rejected: int = 0

    @property
    def images(self) -> int:
        return sum(len(names) for _, names in self.pictures.values())

    def names(self, sha256: str) -> list[str]:
        return sorted(self.pictures[sha256][1])


async def _examine(
    path: Path, thumbnails: _Thumbnails, on_progress: Callable[[int], None]
) -> _Seen:
    seen = _Seen()
    prefix = f"archive:{path.name}/"
    outcomes = examine_members(archive_members(path), path.name, policy=CrawlPolicy(min_side=1))
    done = 0
    async for outcome in outcomes:
        done += 1
        on_progress(done)
        if isinstance(outcome, Candidate):
            name = outcome.fetched.link.url.removeprefix(prefix)
            sha256 = outcome.fingerprint.sha256
            if sha256 not in seen.pictures:
                thumbnails.put(sha256, outcome.thumbnail)
            seen.pictures.setdefault(sha256, (outcome.fingerprint, []))[1].append(name)
        elif isinstance(outcome, Rejected):
            seen.rejected += 1
    return seen


def _with_equal_files(
    groups: Sequence[DuplicateGroup], pictures: Mapping[str, tuple[Fingerprint, list[str]]]
) -> list[DuplicateGroup]:
    """Add a group for each picture that lies in several files and in no group yet."""
    grouped = {each.kept for each in groups} | {
        duplicate.sha256 for group in groups for duplicate in group.duplicates
    }
    alone = [
        DuplicateGroup(kept=sha256, duplicates=())
        for sha256, (_, names) in sorted(pictures.items())
        if len(names) > 1 and sha256 not in grouped
    ]
    return [*groups, *alone]


def _others(group: DuplicateGroup, seen: _Seen) -> list[str]:
    equal = seen.names(group.kept)[1:]
    return equal + [name for each in group.duplicates for name in seen.names(each.sha256)]


def _shown(
    groups: Iterable[DuplicateGroup], seen: _Seen, thumbnails: _Thumbnails
) -> Iterable[list[Shown]]:
    for group in groups:
        pictures = thumbnails.of([group.kept, *(each.sha256 for each in group.duplicates)])
        how = {group.kept: ("kept", 0)}
        how |= {each.sha256: (each.how, each.distance) for each in group.duplicates}
        yield [
            Shown(
                name=name,
                width=seen.pictures[sha256][0].width,
                height=seen.pictures[sha256][0].height,
                size_bytes=seen.pictures[sha256][0].size_bytes,
                how=said if at == 0 or said != "kept" else "same bytes",
                distance=distance,
                thumbnail=pictures[sha256],
            )
            for sha256, (said, distance) in how.items()
            for at, name in enumerate(seen.names(sha256))
        ]


class _Thumbnails:
    """Thumbnails by sha256, in a file: a million of them are 10 GB."""

    def __init__(self, path: Path) -> None:
        # Used by one thread at a time, though not always by the one that opened it.
        self._file = sqlite3.connect(path, check_same_thread=False)
        self._file.execute("CREATE TABLE thumbnails (sha256 TEXT PRIMARY KEY, jpeg BLOB)")

    def put(self, sha256: str, jpeg: bytes) -> None:
        self._file.execute("INSERT INTO thumbnails VALUES (?, ?)", (sha256, jpeg))

    def of(self, sha256s: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for sha256 in sha256s:
            query = "SELECT jpeg FROM thumbnails WHERE sha256 = ?"
            for (jpeg,) in self._file.execute(query, (sha256,)):
                found[sha256] = jpeg
        return found

    def close(self) -> None:
        self._file.close()


def _result(
    images: int, groups: Sequence[DuplicateGroup], duplicates: int, rejected: int, started: float
) -> DedupeResult:
    return DedupeResult(
        images=images,
        groups=len(groups),
        duplicates=duplicates,
        rejected=rejected,
        seconds=round(time.monotonic() - started, 2),
    )
