"""One run over an archive, as every worker needs to know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from flows.archive import question as questions
from flows.archive.leftovers import remember
from flows.archive.listing import (
    AddressTable,
    Archive,
    is_parquet,
    is_table,
    stored_archive,
)
from flows.archive.parquet_bytes import bytes_column
from flows.archive.places import InputFile, Output, new_output, output_at
from flows.archive.plan import SHARD_PICTURES
from flows.archive.reading import Reader
from flows.archive.rows import Format
from flows.archive.shard import Keys, Labeller
from flows.crawl_shards import worker_leases
from flows.errors import Permanent
from flows.listing import Listing, table_source
from flows.locations import is_object, name_of
from flows.scratch import Scratch
from flows.tombstones import Tombstones
from flows.tuned_encoders import source_of
from flows.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be labelled, by what, and where the answers go."""

    location: str
    """A folder, tar, Parquet file or table; a pattern of files; or `s3://bucket/prefix`."""
    out: str
    """A folder or `s3://bucket/prefix`."""
    model: str | None = None
    """A version, "production", "prompts"; None: the model in production, or prompts without one."""
    format: Format = "parquet"
    keep_embeddings: bool = False
    url_column: str = ""
    """Of a table of addresses, the column that holds them."""
    allow_private: bool = False
    """Let a table lead to addresses that are not public."""
    shard_pictures: int = SHARD_PICTURES

    def absolute(self) -> Self:
        """Return the same with whole paths."""
        return dataclasses.replace(self, location=_absolute(self.location), out=_absolute(self.out))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`Wanted`, and the question that was written down for it. Small, and travels to any worker."""

    wanted: Wanted
    keys: Keys
    of_addresses: bool


def prepare(workspace: Workspace, wanted: Wanted) -> tuple[Job, questions.Question]:
    """Write the question down, and return the job with it.

    Raises UnsafeStore for a place where two could both publish, what `flows.archive.question.ask` does, and ArchiveUnreadable or TableUnreadable for a
    location that cannot be read.
    """
    if wanted.shard_pictures < 1:
        raise Permanent(f"a shard needs one picture or more, not {wanted.shard_pictures}")
    wanted = wanted.absolute()
    of_addresses = _is_of_addresses(workspace, wanted)
    question = questions.ask(workspace, wanted.model)
    output = new_output(workspace, wanted.out)
    remember(workspace.store, wanted.out)
    keys = Keys(
        question_id=questions.keep(output, question),
        encoder_id=question.encoder_id,
        format=wanted.format,
    )
    return Job(wanted=wanted, keys=keys, of_addresses=of_addresses), question


def archive_of(workspace: Workspace, job: Job, scratch: Scratch) -> Archive:
    """Return what lies at the job's location."""
    wanted = job.wanted
    if not job.of_addresses:
        return stored_archive(workspace, wanted.location, out=wanted.out)
    source = table_source(
        wanted.location,
        name=None,
        url_column=wanted.url_column,
        allow_private=wanted.allow_private,
    )
    return AddressTable(name=name_of(wanted.location), listing=Listing(workspace, source, scratch))


@contextmanager
def labeller(workspace: Workspace, job: Job) -> Iterator[Labeller]:
    """Give what labels the job's shards in this process."""
    output = output_at(workspace, job.wanted.out)
    policy = workspace.project.policy()
    with worker_leases(workspace.store) as leases:
        if job.of_addresses:
            reader = Reader(
                place=None,
                policy=policy,
                allow_private=job.wanted.allow_private,
                leases=leases,
            )
        else:
            archive = stored_archive(workspace, job.wanted.location, out=job.wanted.out)
            reader = Reader(place=archive.place, policy=policy)
        with Labeller(
            output=output,
            keys=job.keys,
            question=questions.recall(output, job.keys.question_id),
            source=source_of(workspace, job.keys.encoder_id),
            reader=reader,
            keep_embeddings=job.wanted.keep_embeddings,
            forgotten=Tombstones(workspace.store).load(),
        ) as made:
            yield made


def output_of(workspace: Workspace, job: Job) -> Output:
    """Return where the job's results go."""
    return output_at(workspace, job.wanted.out)


def _is_of_addresses(workspace: Workspace, wanted: Wanted) -> bool:
    if is_table(wanted.location):
        return True
    if not is_parquet(wanted.location):
        return False
    archive = stored_archive(workspace, wanted.location, out=wanted.out)
    first = next(archive.found(), None)
    if first is None:
        return False  # said when it is listed
    try:
        with InputFile(archive.place, first.name, first.etag, first.size) as file:
            return bytes_column(pq.read_schema(pa.PythonFile(file, "r"))) is None
    except pa.ArrowException:
        return False  # a row says why


def _absolute(location: str) -> str:
    return location if is_object(location) else str(Path(location).expanduser().absolute())
