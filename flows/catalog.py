"""The catalogue: what is known of every image and link, in Lance tables in the bucket.

    tables/images.lance                 one row an image
    tables/links.lance                  one row an address of a source: what became of it
    tables/embeddings/<encoder>.lance   one vector an image
    tables/prelabels.lance              one score an image and label
    tables/decisions.lance              append-only: what people said about labels
    tables/verdicts.lance               append-only: what people said about pairs of pictures

Rows with a key are merged, never doubled, whichever process comes first, and merging is the same
in any order: whatever was killed half-way is simply done again. The tables have no scalar index:
with one, Lance 14 no longer notices that two writers insert the same key.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows import metrics
from flows.conditions import chunks, sql_in, sql_text
from flows.decision_notes import stands
from flows.errors import Corrupt, NotFound
from flows.held_vectors import HELD_ROWS, HeldVectors, Vectors, vectors_of
from flows.id_sets import IdSet
from flows.objects import ObjectStore
from flows.rows import (
    DECISIONS,
    IMAGES,
    LINKS,
    PRELABELS,
    VERDICTS,
    DecisionRow,
    ImageRow,
    LinkRow,
    PreLabelRow,
    VerdictRow,
    combine_images,
    embeddings_schema,
    from_record,
    latest_link,
    merge_images,
    to_table,
)
from flows.shards import Place
from flows.tables import Since, Table, bypass_proxies

if TYPE_CHECKING:
    from lance.lance import _Session as LanceSession

    from crawler.decode import Fingerprint

_PERMITTED = "duplicate_of IS NULL AND consent_allowed"
_WITHOUT_THUMBNAIL = [name for name in IMAGES.names if name != "thumbnail"]
_INDEX_CACHE_BYTES = 2**30
"""Memory for the parts of indices that searches have read; a million vectors' index is 0.4 GB."""
_ENCODER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Catalog:
    """The catalogue of one project. Safe to share between threads; a process makes its own.

    Every method may raise what `ObjectStore` raises, and SchemaTooNew; those that write may raise
    CommitConflict. A table that does not exist yet reads as empty.
    """

    def __init__(self, store: ObjectStore) -> None:
        bypass_proxies(store)
        self._store = store
        self._images = Table(store, "images", IMAGES)
        self._links = Table(store, "links", LINKS)
        self._prelabels = Table(store, "prelabels", PRELABELS)
        self._decisions = Table(store, "decisions", DECISIONS)
        self._verdicts = Table(store, "verdicts", VERDICTS)
        self._held_vectors = HeldVectors()
        self._held_outside_index = HeldVectors(outside_index=True)

    # ---- images ----

    def add_images(self, rows: Iterable[ImageRow]) -> int:
        """Add images, merged by sha256 with what is there (`merge_images`); return how many are new."""
        new = 0
        for chunk in chunks(combine_images(rows)):

            def change(
                there: list[dict[str, Any]], chunk: dict[str, ImageRow] = chunk
            ) -> tuple[pa.Table, int]:
                before = {record["sha256"]: from_record(ImageRow, record) for record in there}
                after = {
                    sha256: merge_images(before[sha256], row) if sha256 in before else row
                    for sha256, row in chunk.items()
                }
                changed = [row for sha256, row in after.items() if before.get(sha256) != row]
                return to_table(changed, IMAGES), len(after.keys() - before.keys())

            new += self._images.rewrite(["sha256"], sql_in("sha256", chunk), change)
        return new

    def images(self, where: str | None = None, *, thumbnails: bool = False) -> Iterator[ImageRow]:
        """Yield images in batches, so that memory stays flat; `thumbnail` is empty unless asked for.

        `where` is a condition in SQL on the columns, such as "width >= 512"; `sql_text` quotes.
        """
        columns = IMAGES.names if thumbnails else _WITHOUT_THUMBNAIL
        for record in self._images.records(columns, where):
            yield from_record(ImageRow, record)

    def image_batches(
        self, columns: Sequence[str], where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the images as Arrow batches: the cheap way to read millions."""
        return self._images.batches(columns, where)

    def image(self, sha256: str) -> ImageRow | None:
        """Return everything about one image, its thumbnail too, or None."""
        return next(self.images(f"sha256 = {sql_text(sha256)}", thumbnails=True), None)

    def image_count(self) -> int:
        """Return how many images there are, duplicates and forbidden ones too."""
        return self._images.count()

    def sha256s(self, where: str | None = None) -> Iterator[str]:
        """Yield the ids of all images, or of those that meet the condition."""
        for batch in self._images.batches(["sha256"], where):
            yield from batch.column(0).to_pylist()

    def permitted(self) -> set[str]:
        """Return the ids of the images that may be used: no duplicates, nothing forbidden."""
        return set(self.sha256s(_PERMITTED))

    def permitted_batches(self) -> Iterator[pa.Array]:
        """Yield the ids that `permitted` returns, as Arrow columns: memory stays flat."""
        for batch in self._images.batches(["sha256"], _PERMITTED):
            yield batch.column(0)

    def permitted_among(self, sha256s: Iterable[str]) -> set[str]:
        """Return those of the ids that `permitted` would return."""
        return {
            record["sha256"]
            for chunk in chunks(dict.fromkeys(sha256s))
            for record in self._images.records(
                ["sha256"], f"{sql_in('sha256', chunk)} AND {_PERMITTED}"
            )
        }

    def thumbnails(self, sha256s: Iterable[str]) -> dict[str, bytes]:
        """Return the thumbnails of those images, as JPEG; ids that are not known are left out."""
        found = self._look_up(sha256s, ["sha256", "thumbnail"])
        return {record["sha256"]: record["thumbnail"] for record in found}

    def places(self, sha256s: Iterable[str]) -> dict[str, Place]:
        """Return where the bytes of those images lie; ids that are not known are left out."""
        found = self._look_up(sha256s, ["sha256", "shard", "offset", "size"])
        return {record.pop("sha256"): Place(**record) for record in found}

    def read_image_bytes(self, sha256: str, place: Place | None = None) -> bytes:
        """Return the image's original bytes, checked against its id.

        `place` saves looking up where they lie, for those who read many. Raises NotFound for an id
        or a shard that is not there, Corrupt for bytes that are others.
        """
        place = place or self.places([sha256]).get(sha256)
        if place is None:
            raise NotFound(f"there is no image {sha256} in the catalogue")
        return self.checked(sha256, place, self.read_place(place))

    def read_place(self, place: Place) -> bytes:
        """Return what lies there, unchecked. Raises NotFound for a shard that is not there."""
        return self._store.get_range(place.shard, place.offset, place.size)

    def checked(self, sha256: str, place: Place, data: bytes) -> bytes:
        """Return `data`, which was read at `place`, if it is that image's; else raise Corrupt."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Corrupt(
                f"image {sha256} is damaged: other bytes lie in {place.shard} at "
                f"{place.offset} + {place.size}; collect it again"
            )
        return data

    def fingerprints(self, sha256s: Iterable[str] | None = None) -> list[Fingerprint]:
        """Return what duplicates are recognised by, in the order of ids; for all images by default."""
        from crawler.decode import Fingerprint

        names = [each.name for each in dataclasses.fields(Fingerprint)]
        columns = ["size" if name == "size_bytes" else name for name in names]
        found = [
            Fingerprint(**dict(zip(names, (record[column] for column in columns), strict=True)))
            for record in (
                self._images.records(columns)
                if sha256s is None
                else self._look_up(sha256s, columns)
            )
        ]
        return sorted(found, key=lambda each: each.sha256)

    def duplicates(self) -> dict[str, str]:
        """Return, for every image that is a duplicate, the id of the one that is kept."""
        records = self._images.records(["sha256", "duplicate_of"], "duplicate_of IS NOT NULL")
        return {record["sha256"]: record["duplicate_of"] for record in records}

    def set_duplicates(
        self, marked: Mapping[str, tuple[str, str]], *, among: Iterable[str] | None = None
    ) -> int:
        """Mark each image of `marked` as a duplicate: id -> (id that is kept, how it was found).

        Images that are not mentioned are duplicates no longer, all of them or those `among` some;
        ids that are not known are left out. Returns how many rows changed.
        """
        columns = ["sha256", "duplicate_of", "duplicate_how"]
        records = self._images.records(columns) if among is None else self._look_up(among, columns)
        wrong = {
            record["sha256"]: None
            for record in records
            if _mark(record) != marked.get(record["sha256"], (None, None))
        }

        def change(there: list[dict[str, Any]]) -> tuple[pa.Table, int]:
            changed = []
            for record in there:
                kept, how = marked.get(record["sha256"], (None, None))
                if _mark(record) != (kept, how):
                    changed.append({**record, "duplicate_of": kept, "duplicate_how": how})
            return pa.Table.from_pylist(changed, schema=IMAGES), len(changed)

        return sum(
            self._images.rewrite(["sha256"], sql_in("sha256", chunk), change)
            for chunk in chunks(wrong)
        )

    def add_verdicts(self, rows: Iterable[VerdictRow]) -> int:
        """Append what people said about pairs of pictures, in one commit; return how many that were."""
        table = to_table(rows, VERDICTS)
        if table.num_rows:
            self._verdicts.append(table)
        return int(table.num_rows)

    def verdicts(self) -> list[VerdictRow]:
        """Return everything that people said about pairs of pictures, earliest first."""
        rows = {
            from_record(VerdictRow, record) for record in self._verdicts.records(VERDICTS.names)
        }
        return sorted(rows, key=lambda row: (row.at, row.who, row.sha256, row.other, row.same))

    # ---- links ----

    def record_links(self, rows: Iterable[LinkRow]) -> int:
        """Record what became of addresses, one row a source and address; return how many are new.

        The row that was seen last stands, in whatever order they are recorded.
        """
        combined: dict[tuple[str, str], LinkRow] = {}
        for row in rows:
            key = (row.source, row.url)
            combined[key] = latest_link(combined.get(key, row), row)
        if not combined:
            return 0
        table = to_table(combined.values(), LINKS)
        return self._links.merge_newer(["source", "url"], table, by="seen_at")

    def links(self, source: str | None = None) -> Iterator[LinkRow]:
        """Yield what became of every address, or of those of one source."""
        where = None if source is None else f"source = {sql_text(source)}"
        for record in self._links.records(LINKS.names, where):
            yield from_record(LinkRow, record)

    def link_batches(
        self, columns: Sequence[str], where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the links as Arrow batches: the cheap way to read millions."""
        return self._links.batches(columns, where)

    # ---- embeddings ----

    def add_embeddings(
        self, encoder_id: str, sha256s: Sequence[str], vectors_ND: NDArray[np.floating[Any]]
    ) -> int:
        """Store vectors of 16 bits, those that are not there yet; return how many that were.

        An encoder gives an image one vector, so the one that was stored first stands.
        """
        if vectors_ND.ndim != 2 or len(vectors_ND) != len(sha256s):
            raise ValueError(f"{len(sha256s)} images but vectors of shape {vectors_ND.shape}")
        if not np.isfinite(vectors_ND).all():
            raise ValueError(f"vectors of {encoder_id} hold numbers that are not finite")
        if not sha256s:
            return 0
        dim = vectors_ND.shape[1]
        row_of: dict[str, int] = {}
        for row, sha256 in enumerate(sha256s):
            row_of.setdefault(sha256, row)
        flat = pa.array(vectors_ND[list(row_of.values())].astype(np.float16).ravel())
        columns = [pa.array(list(row_of)), pa.FixedSizeListArray.from_arrays(flat, dim)]
        schema = embeddings_schema(dim)
        table = self._embeddings(encoder_id, schema)
        return table.insert_missing(["sha256"], pa.Table.from_arrays(columns, schema=schema))

    def embeddings(
        self, encoder_id: str, sha256s: Sequence[str] | None = None
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Return ids and their vectors, float32 (N, D); D is 0 if the encoder has embedded nothing.

        Without `sha256s` all, in the order of ids; else those asked for, in the order asked, less
        those that have no vector. What `held_embeddings` holds is not read again.
        """
        held = self.held_embeddings(encoder_id)
        if held is not None:
            return held.of(None if sha256s is None else list(dict.fromkeys(sha256s)))
        wanted = None if sha256s is None else pa.array(dict.fromkeys(sha256s), pa.string())
        ids: list[str] = []
        parts: list[NDArray[np.float32]] = []
        dim = 0
        for batch in self._embeddings(encoder_id).batches(["sha256", "vector"], wide=True):
            dim = batch.schema.field("vector").type.list_size
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column("sha256"), value_set=wanted))  # noqa: PLW2901 - the same batch, narrowed
            ids += batch.column("sha256").to_pylist()
            parts.append(vectors_of(batch).astype(np.float32))
        vectors_ND = np.concatenate(parts) if parts else np.empty((0, dim), np.float32)
        row_of = {sha256: row for row, sha256 in enumerate(ids)}
        order = sorted(row_of) if sha256s is None else [s for s in sha256s if s in row_of]
        return order, vectors_ND[[row_of[sha256] for sha256 in order]]

    def held_embeddings(self, encoder_id: str, *, below: int = HELD_ROWS) -> Vectors | None:
        """Return all vectors as they are now, kept in memory; None where they are `below` or more.

        `flows.held_vectors` says how many are kept at most.
        """
        return self._held_vectors.get(self._embeddings(encoder_id), below=below)

    def embedding_batches(self, encoder_id: str) -> Iterator[tuple[pa.Array, NDArray[np.float32]]]:
        """Yield all ids and their vectors in batches, in the order in which they are stored."""
        for batch in self._embeddings(encoder_id).batches(["sha256", "vector"], wide=True):
            yield batch.column("sha256"), vectors_of(batch).astype(np.float32)

    def embedding_count(self, encoder_id: str) -> int:
        """Return how many images have a vector of that encoder."""
        return self._embeddings(encoder_id).count()

    def nearest(
        self, encoder_id: str, vector_D: NDArray[np.float32], *, limit: int
    ) -> list[tuple[str, float]]:
        """Return the ids whose vectors are nearest to a unit vector, and their cosines, best first.

        By the index where there is one: its cosines are wrong by .001, and .006 at most. What came
        after it is compared in memory, or by Lance where that is too much to be held.
        """
        table = self._embeddings(encoder_id, session=self._index_session)
        # Before the index is searched: what is put into it in between is then found twice, not never.
        outside = self._held_outside_index.get(table)
        by_index_alone = outside is not None
        found = dict(
            table.nearest(
                "vector", vector_D, limit, returned="sha256", by_index_alone=by_index_alone
            )
        )
        if outside is not None:
            found |= itertools.islice(outside.ranked(vector_D), limit)
        return sorted(found.items(), key=lambda each: -each[1])[:limit]

    def index_embeddings(self, encoder_id: str, *, from_rows: int = 0) -> bool:
        """Make the index that `nearest` is fast by, or add to it when much came since.

        Return whether anything was done; nothing is below `from_rows` vectors, where comparing all
        is as quick.
        """
        table = self._embeddings(encoder_id)
        if table.count() < max(1, from_rows):
            return False
        return table.index_vectors("vector") != "kept"

    @functools.cached_property
    def _index_session(self) -> LanceSession:
        """What searches keep of indices between them, within a bound."""
        from lance.lance import _Session as LanceSession

        return LanceSession(index_cache_size_bytes=_INDEX_CACHE_BYTES)

    def without_embedding(self, encoder_id: str) -> list[str]:
        """Return the ids of permitted images that the encoder has not embedded yet, in order."""
        with IdSet(self.permitted_batches()) as missing:
            for batch in self._embeddings(encoder_id).batches(["sha256"]):
                missing.discard(batch.column(0))
            return list(missing)

    # ---- pre-labels and decisions ----

    def put_prelabels(self, rows: Iterable[PreLabelRow]) -> int:
        """Write scores, one an image and label, over what is there; return how many changed."""
        left = {(row.sha256, row.label): row for row in rows}
        for there in self.prelabels():
            key = (there.sha256, there.label)
            if key in left and _as_stored(left[key]) == there:
                del left[key]
        if left:
            self._prelabels.upsert(["sha256", "label"], to_table(left.values(), PRELABELS))
        return len(left)

    def add_prelabels(self, rows: pa.Table) -> None:
        """Write scores (`flows.rows.PRELABELS`) over what is there, which is not read."""
        self._prelabels.upsert(["sha256", "label"], rows)

    def prelabel_batches(
        self, columns: Sequence[str], where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the scores as Arrow batches: the cheap way to read millions."""
        return self._prelabels.batches(columns, where)

    def prelabels(self) -> Iterator[PreLabelRow]:
        """Yield every score."""
        for record in self._prelabels.records(PRELABELS.names):
            yield from_record(PreLabelRow, record)

    def add_decisions(self, rows: Iterable[DecisionRow]) -> int:
        """Append what people said, in one commit; return how many decisions that were."""
        rows = list(rows)
        table = to_table(rows, DECISIONS)
        if table.num_rows:
            self._decisions.append(table)
        for row in rows:
            metrics.count(metrics.DECISIONS, label=row.label, answer=row.answer)
        return int(table.num_rows)

    def decisions(self) -> list[DecisionRow]:
        """Return everything that people said, earliest first."""
        # A commit whose answer got lost is made again: the same word twice was said once.
        rows = {
            from_record(DecisionRow, record) for record in self._decisions.records(DECISIONS.names)
        }
        return sorted(rows, key=_decision_order)

    def decisions_since(self, known: frozenset[str]) -> Since:
        """Return the decisions that are not in the pieces `known`, as `Table.since` does."""
        return self._decisions.since(DECISIONS.names, known)

    def latest_decisions(self) -> dict[tuple[str, str], DecisionRow]:
        """Return the last word on each (sha256, label), whoever said it; not what was said blind."""
        return {(row.sha256, row.label): row for row in self.decisions() if stands(row.note)}

    def disagreements(self) -> int:
        """Return on how many (sha256, label) the last words of two people are yes and no."""
        answers: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for row in self.decisions():
            answers[row.sha256, row.label][row.who] = row.answer
        return sum({"yes", "no"} <= set(by_person.values()) for by_person in answers.values())

    # ---- the whole ----

    def versions(self) -> dict[str, int]:
        """Return the number of the latest commit of every table that exists, by its name."""
        tables = [self._images, self._links, self._prelabels, self._decisions, self._verdicts]
        encoders = self._store.folders("tables/embeddings/")
        tables += [self._embeddings(folder.removesuffix(".lance")) for folder in encoders]
        found = ((table.name, table.version()) for table in tables)
        return {name: version for name, version in found if version is not None}

    def counts(self) -> dict[str, int]:
        """Return how much there is of everything."""
        return {
            "images": self._images.count(),
            "duplicates": self._images.count("duplicate_of IS NOT NULL"),
            "links": self._links.count(),
            "kept": self._links.count("outcome = 'kept'"),
            "rejected": self._links.count("outcome = 'rejected'"),
            "prelabels": self._prelabels.count(),
            "decisions": len(self.decisions()),
            "disagreements": self.disagreements(),
        }

    def _embeddings(
        self,
        encoder_id: str,
        schema: pa.Schema | None = None,
        session: LanceSession | None = None,
    ) -> Table:
        if not _ENCODER_ID.fullmatch(encoder_id):
            raise ValueError(f"encoder id {encoder_id!r} cannot be part of a path")
        return Table(self._store, f"embeddings/{encoder_id}", schema, session=session)

    def _look_up(self, sha256s: Iterable[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for chunk in chunks(dict.fromkeys(sha256s)):
            yield from self._images.records(columns, sql_in("sha256", chunk))


def _mark(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return record["duplicate_of"], record["duplicate_how"]


def _as_stored(row: PreLabelRow) -> PreLabelRow:
    return dataclasses.replace(row, score=float(np.float32(row.score)))


def _decision_order(row: DecisionRow) -> tuple[Any, ...]:
    """Order by time; what was said at the same microsecond is ordered by what was said."""
    score = -1.0 if row.score is None else row.score
    return (row.at, row.who, row.sha256, row.label, row.answer, row.note, score)
