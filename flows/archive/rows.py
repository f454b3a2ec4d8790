"""The rows of a shard: what is known of each picture, its vector, and the answers, as files.

The same rows give the same bytes: no clock, and nothing of the machine, is in them.

Shapes: N pictures, D embedding, L labels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.archive.question import Question

Format = Literal["parquet", "jsonl", "csv"]

_FACTS = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("size", pa.int64()),
        # Why there are no answers, for counting and for people; null where there are.
        pa.field("error", pa.string()),
        pa.field("error_detail", pa.string()),
    ]
)
_VECTOR = "embedding"
_KEPT = _FACTS.append(pa.field("transient", pa.bool_(), nullable=False))
"""With the vectors it is kept, too, what may be had at another time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where one picture lies, what its bytes are, and why it has no vector if it has none."""

    uri: str
    member: str
    offset: int | None
    sha256: str | None
    """Of its bytes; None when they were not had."""
    size: int | None
    error: str | None
    error_detail: str | None
    transient: bool = False
    """Whether the error may pass: a later run tries again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """The pictures of a shard; the vectors, float16 (N, D), are those of pictures without an error."""

    facts: tuple[Facts, ...]
    vectors_ND: NDArray[np.float16]

    @property
    def to_retry(self) -> frozenset[str]:
        """The places of which something may be had at another time."""
        return frozenset(each.uri for each in self.facts if each.transient)

    def without(self, left_out: Callable[[Facts], bool]) -> Self:
        """Return it without the pictures of which that is so."""
        kept_N = np.array([not left_out(each) for each in self.facts], bool)
        has_vector_N = np.array([each.error is None for each in self.facts], bool)
        return dataclasses.replace(
            self,
            facts=tuple(each for each, kept in zip(self.facts, kept_N, strict=True) if kept),
            vectors_ND=self.vectors_ND[kept_N[has_vector_N]],
        )

    def plus(self, other: Self) -> Self:
        """Return the pictures of both, one after the other."""
        vectors_ND = np.concatenate([self.vectors_ND, other.vectors_ND])
        return dataclasses.replace(self, facts=self.facts + other.facts, vectors_ND=vectors_ND)

    def in_order_of(self, uris: Iterable[str]) -> Self:
        """Return the pictures in the order in which their places come; of one place as they are."""
        rank = {uri: at for at, uri in enumerate(dict.fromkeys(uris))}
        order = sorted(range(len(self.facts)), key=lambda at: rank[self.facts[at].uri])
        vectors = iter(range(len(self.vectors_ND)))
        vector_N = [None if each.error is not None else next(vectors) for each in self.facts]
        rows = [row for row in (vector_N[at] for at in order) if row is not None]
        return dataclasses.replace(
            self,
            facts=tuple(self.facts[at] for at in order),
            vectors_ND=self.vectors_ND[rows],
        )


def embedded_to_parquet(embedded: Embedded) -> bytes:
    """Return facts and vectors as Parquet."""
    table = _facts_table(embedded.facts, _KEPT)
    dim = embedded.vectors_ND.shape[1]
    failed_N = np.array([each.error is not None for each in embedded.facts], bool)
    all_ND = np.zeros((len(embedded.facts), dim), np.float16)
    all_ND[~failed_N] = embedded.vectors_ND
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(all_ND.ravel()), dim, mask=pa.array(failed_N)
    )
    return _parquet(table.append_column(pa.field(_VECTOR, vectors.type), vectors))


def embedded_from_parquet(data: bytes) -> Embedded:
    """Return what `embedded_to_parquet` wrote."""
    table = pq.read_table(io.BytesIO(data))
    column = table.column(_VECTOR).combine_chunks()
    dim = column.type.list_size
    vectors_ND = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    facts = tuple(Facts(**row) for row in table.drop_columns([_VECTOR]).to_pylist())
    return Embedded(facts=facts, vectors_ND=vectors_ND.astype(np.float16, copy=False))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is in rows of answers."""

    labelled: int
    yes: dict[str, int]
    """By label."""
    errors: dict[str, int]
    """By reason."""


def answer(
    embedded: Embedded,
    question: Question,
    format: Format,  # noqa: A002 - the field's own word
) -> tuple[bytes, Counts]:
    """Return the rows of a shard with scores and answers, as a file of that format, and their counts.

    Scores come from vectors of 16 bits, kept or not, so that both give the same.
    """
    scores_NL = question.scores(embedded.vectors_ND.astype(np.float32))
    answers_NL = scores_NL >= question.thresholds_L
    table = _facts_table(embedded.facts, _FACTS)
    failed_N = np.array([each.error is not None for each in embedded.facts], bool)
    thresholds_NL = np.broadcast_to(question.thresholds_L, (table.num_rows, len(question.labels)))
    for name, array in (
        ("scores", _struct(question.labels, _spread(scores_NL, failed_N), failed_N)),
        ("answers", _struct(question.labels, _spread(answers_NL, failed_N), failed_N)),
        ("thresholds", _struct(question.labels, thresholds_NL, None)),
        ("model", pa.array([question.model] * table.num_rows, pa.string())),
        ("kind", pa.array([question.kind] * table.num_rows, pa.string())),
    ):
        table = table.append_column(name, array)
    return write_rows(table, format), count(table)


def count(rows: pa.Table) -> Counts:
    """Count rows that `read_rows` gave of a part, as `answer` does."""
    flat, given = rows.flatten(), "answers."
    errors = Counter(reason for reason in rows["error"].to_pylist() if reason is not None)
    return Counts(
        labelled=rows.num_rows - errors.total(),
        yes={
            name.removeprefix(given): pc.sum(flat[name]).as_py() or 0
            for name in flat.column_names
            if name.startswith(given)
        },
        errors=dict(sorted(errors.items())),
    )


def read_rows(data: bytes, format: Format) -> pa.Table:  # noqa: A002 - as above
    """Return the rows of a file of `answer` or `embedded_to_parquet`.

    Given to `write_rows`, any of them are written as they were.
    """
    if format == "parquet":
        return pq.read_table(io.BytesIO(data))
    if format == "jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in data.splitlines()])
    names = next(csv.reader([data.partition(b"\n")[0].decode()]))
    types = {
        "answers": pa.bool_(),
        "scores": pa.float32(),
        "thresholds": pa.float32(),
        **{field.name: field.type for field in _FACTS},
    }
    return pa.csv.read_csv(
        io.BytesIO(data),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: types.get(name.partition(".")[0], pa.string()) for name in names},
            # Nothing between two commas is null; "" is a text, such as the member of a lone file.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def write_rows(table: pa.Table, format: Format) -> bytes:  # noqa: A002 - as above
    """Return rows as a file of that format."""
    if format == "parquet":
        return _parquet(table)
    if format == "jsonl":
        rows = table.to_pylist()
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    buffer = io.BytesIO()
    # CSV knows no structs: scores.vinyl, answers.vinyl, thresholds.vinyl.
    pa.csv.write_csv(table.flatten(), buffer)
    return buffer.getvalue()


def _facts_table(facts: Sequence[Facts], schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array([getattr(each, field.name) for each in facts], field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _spread(values_NL: NDArray[np.generic], failed_N: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Return the values with empty rows where pictures failed."""
    all_NL = np.zeros((len(failed_N), values_NL.shape[1]), values_NL.dtype)
    all_NL[~failed_N] = values_NL
    return all_NL


def _struct(
    labels: Sequence[str], values_NL: NDArray[np.generic], null_N: NDArray[np.bool_] | None
) -> pa.StructArray:
    columns = [pa.array(np.ascontiguousarray(values_NL[:, at])) for at in range(len(labels))]
    mask = None if null_N is None else pa.array(null_N)
    return pa.StructArray.from_arrays(columns, names=list(labels), mask=mask)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
