"""One shard labelled: read, decoded, embedded, answered, written."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from flows import metrics, observe
from flows.archive.entries import Entry
from flows.archive.places import Output
from flows.archive.plan import Shard
from flows.archive.question import Question
from flows.archive.reading import Picture, Reader
from flows.archive.rows import (
    Embedded,
    Facts,
    Format,
    answer,
    embedded_from_parquet,
    embedded_to_parquet,
)
from flows.encoders import EncoderSource
from flows.errors import NotFound
from flows.pixel_feed import PixelFeed, Unreadable
from flows.tombstones import Forgotten
from model.encoder import ClipEncoder


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShardDone:
    """A part of the result, and what is in it; written after it, so that it is there whole."""

    key: str
    sha256: str
    """Of the part's bytes."""
    pictures: int
    labelled: int
    yes: dict[str, int]
    """By label."""
    errors: dict[str, int]
    """By reason."""
    to_retry: int = 0
    """Pictures among them whose reason may pass: a later run tries them again."""


_DONE = TypeAdapter(ShardDone)
_PART = re.compile(
    rf"labels/(?P<question>\w+)/(?P<shard>\w+)-\w+\.(?P<format>{'|'.join(get_args(Format))})"
)

Counted = Callable[[int], None]
"""Told how many more pictures are done; what it raises ends the shard."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where the results of one question, in one format, lie."""

    question_id: str
    encoder_id: str
    format: Format

    @property
    def folder(self) -> str:
        """Of everything about the question."""
        return f"labels/{self.question_id}"

    @property
    def done_folder(self) -> str:
        """Of the notes on shards that are done, with a slash behind it."""
        return f"{self.folder}/done/{self.format}/"

    @property
    def unfinished_folder(self) -> str:
        """Of what is known of shards that a later run tries to complete, with a slash behind it."""
        return f"{self.folder}/unfinished/{self.format}/"

    def part(self, shard_id: str, sha256: str) -> str:
        """Return the key of the rows of a shard, whose bytes have that hash.

        Rows that are replaced are another part: what was published before stays as it was.
        """
        return f"{self.folder}/{shard_id}-{sha256[:16]}.{self.format}"

    def unfinished(self, shard_id: str) -> str:
        """Return the key of the vectors of a shard of which something is to be tried again."""
        return f"{self.unfinished_folder}{shard_id}.parquet"

    def done(self, shard_id: str) -> str:
        """Return the key of the note that a shard is done."""
        return f"{self.done_folder}{shard_id}.json"

    def embeddings(self, shard_id: str) -> str:
        """Return the key of the vectors of a shard."""
        return f"embeddings/{self.encoder_id}/{shard_id}.parquet"


def keys_of_part(part: str) -> tuple[Keys, str] | None:
    """Return what a part belongs to, and its shard's id; None for the key of anything else.

    The part's name says nothing of the encoder.
    """
    found = _PART.fullmatch(part)
    if found is None:
        return None
    format_ = cast("Format", found["format"])
    return Keys(question_id=found["question"], encoder_id="", format=format_), found["shard"]


def read_done(output: Output, keys: Keys, shard_id: str) -> ShardDone | None:
    """Return what is in the part of a shard; None while it is not done."""
    try:
        return _DONE.validate_json(output.get(keys.done(shard_id)))
    except NotFound:
        return None


def write_done(output: Output, keys: Keys, shard_id: str, done: ShardDone) -> None:
    """Note what is in the part of a shard."""
    output.put(keys.done(shard_id), _DONE.dump_json(done))


class Labeller:
    """Labels shards, several at once if asked by several threads; a context manager.

    The encoder is loaded, and decoding processes started, with the first shard whose vectors are
    not kept. One batch is encoded at a time: a second would only wait for the same cores.
    """

    def __init__(
        self,
        *,
        output: Output,
        keys: Keys,
        question: Question,
        source: EncoderSource,
        reader: Reader,
        keep_embeddings: bool,
        forgotten: Forgotten,
    ) -> None:
        self._output = output
        self._keys = keys
        self._question = question
        self._source = source
        self._reader = reader
        self._keep = keep_embeddings
        self._forgotten = forgotten
        self._loading = threading.Lock()
        self._encoding = threading.Lock()
        self._ready: tuple[ClipEncoder, int, PixelFeed] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ready is not None:
            self._ready[2].__exit__(kind, error, traceback)

    def label(
        self, shard: Shard, entries: Callable[[Shard], Sequence[Entry]], counted: Counted
    ) -> ShardDone:
        """Label a shard unless it is done; return what is in its part.

        Of one that is done what may be had by now is tried again, and nothing else. `entries` is
        asked only when pictures have to be read. May be repeated, and done by several at once: the
        same pictures give the same part.
        """
        done = read_done(self._output, self._keys, shard.id)
        if done is not None and not done.to_retry:
            return done
        with observe.shard("archive"):
            done = self._label(shard, entries, counted)
        metrics.count(metrics.LABELLED, done.labelled, outcome="labelled")
        metrics.count(metrics.LABELLED, sum(done.errors.values()), outcome="unreadable")
        return done

    def _label(
        self, shard: Shard, entries: Callable[[Shard], Sequence[Entry]], counted: Counted
    ) -> ShardDone:
        kept_key = self._keys.embeddings(shard.id)
        unfinished_key = self._keys.unfinished(shard.id)
        kept = self._vectors(kept_key)
        before = kept or self._vectors(unfinished_key)
        if before is None:
            embedded = self._embedded(entries(shard), counted)
        elif before.to_retry:
            embedded = self._completed(before, entries(shard), counted)
        else:
            counted(len(before.facts))
            embedded = before
        embedded = self._without_forgotten(embedded)
        if embedded is not kept and (self._keep or kept is not None):
            self._output.put(kept_key, embedded_to_parquet(embedded))
        data, counts = answer(embedded, self._question, self._keys.format)
        sha256 = hashlib.sha256(data).hexdigest()
        done = ShardDone(
            key=self._keys.part(shard.id, sha256),
            sha256=sha256,
            pictures=len(embedded.facts),
            labelled=counts.labelled,
            yes=counts.yes,
            errors=counts.errors,
            to_retry=sum(each.transient for each in embedded.facts),
        )
        self._output.put(done.key, data)
        # It says that there is something to retry, so it is there as long as the note says so.
        if done.to_retry:
            self._output.put(unfinished_key, embedded_to_parquet(embedded))
        write_done(self._output, self._keys, shard.id, done)
        if before is not None and not done.to_retry:
            self._output.delete(unfinished_key)
        return done

    def is_done(self, shard: Shard) -> bool:
        """Return whether a shard has its part."""
        return read_done(self._output, self._keys, shard.id) is not None

    def _vectors(self, key: str) -> Embedded | None:
        try:
            return embedded_from_parquet(self._output.get(key))
        except NotFound:
            return None

    def _completed(self, before: Embedded, entries: Sequence[Entry], counted: Counted) -> Embedded:
        """Return the shard with what may be had by now read again; nothing else is."""
        uris = before.to_retry
        rest = before.without(lambda each: each.uri in uris)
        counted(len(rest.facts))
        again = [entry for entry in entries if self._reader.uri(entry) in uris]
        return self._in_order(rest.plus(self._embedded(again, counted)), entries)

    def _without_forgotten(self, embedded: Embedded) -> Embedded:
        """Return the shard without what was forgotten; itself if it has nothing of it."""

        def covered(each: Facts) -> bool:
            return self._forgotten.covers(each.uri, sha256=each.sha256)

        return embedded.without(covered) if any(map(covered, embedded.facts)) else embedded

    def _in_order(self, embedded: Embedded, entries: Sequence[Entry]) -> Embedded:
        """Return the rows as the plan has them, or by address: those come as they are answered."""
        uris = [self._reader.uri(entry) for entry in entries]
        return embedded.in_order_of(sorted(uris) if self._reader.place is None else uris)

    def _embedded(self, entries: Sequence[Entry], counted: Counted) -> Embedded:
        encoder, batch_size, feed = self._loaded()
        # What was forgotten is not asked for again, either.
        entries = [each for each in entries if not self._forgotten.names(each.name)]
        shard = _Reading()
        vectors: list[NDArray[np.float16]] = []
        batch: list[NDArray[np.uint8]] = []

        def encode() -> None:
            if batch:
                with self._encoding:
                    vectors.append(encoder.encode_pixels(np.stack(batch)).astype(np.float16))
                batch.clear()

        with self._reader.pictures(entries) as pictures:
            names = shard.names(pictures)
            for name, pixels in feed.pixels(names, shard.read, batch_size=batch_size):
                shard.settle(name, pixels)
                if not isinstance(pixels, Unreadable):
                    batch.append(pixels)
                if len(batch) == batch_size:
                    encode()
                counted(1)
        encode()
        vectors_ND = np.concatenate([np.empty((0, encoder.dim), np.float16), *vectors])
        return self._in_order(Embedded(facts=tuple(shard.facts), vectors_ND=vectors_ND), entries)

    def _loaded(self) -> tuple[ClipEncoder, int, PixelFeed]:
        """Return the encoder, the size of its batches, and the feed; made by one thread alone."""
        with self._loading:
            if self._ready is None:
                encoder = self._source.load()
                feed = PixelFeed(
                    encoder.preprocessing, max_pixels=self._reader.policy.max_pixels
                ).__enter__()
                # Asking for the size makes the image tower, which may mean exporting it.
                self._ready = encoder, encoder.batch_size, feed
            return self._ready


class _Reading:
    """The pictures of a shard on their way through the feed, which knows them by number."""

    def __init__(self) -> None:
        self.facts: list[Facts] = []
        self._under_way: dict[str, Picture] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        """sha256 and size of the bytes that were read."""

    def names(self, pictures: Iterator[Picture]) -> Iterator[str]:
        for number, picture in enumerate(pictures):
            self._under_way[str(number)] = picture
            yield str(number)

    def read(self, name: str) -> bytes | Unreadable:
        found = self._under_way[name].read()
        if isinstance(found, bytes):
            self._seen[name] = hashlib.sha256(found).hexdigest(), len(found)
        return found

    def settle(self, name: str, pixels: NDArray[np.uint8] | Unreadable) -> None:
        picture = self._under_way.pop(name)
        sha256, size = self._seen.pop(name, (None, None))
        failed = pixels if isinstance(pixels, Unreadable) else None
        self.facts.append(
            Facts(
                uri=picture.uri,
                member=picture.member,
                offset=picture.offset,
                sha256=sha256,
                size=size,
                error=None if failed is None else failed.reason,
                error_detail=None if failed is None else failed.detail,
                transient=failed is not None and failed.transient,
            )
        )
