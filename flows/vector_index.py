"""The index over a table's vectors: made when there are many, kept up as more come, searched.

Lance's inverted file: vectors lie in partitions around centres, and a search looks into the partitions
nearest to what is sought, where it compares copies of a few bits a number (RaBitQ; Gao et al., 2025).
These are fine enough to rank by: the vectors themselves, a request to the store each, are not read.
Rows that came after the index was made are none of it (`outside`). The centres are found here: Lance's
own k-means, in the 16 bits of the stored vectors, takes minutes where BLAS takes seconds
(`flows/NOTES.md` has the figures that the numbers below were chosen by).

Shapes: N vectors of a sample, D dimensions, P partitions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lance

KIND = "IVF_RQ"
METRIC = "dot"
"""Of unit vectors the cosine; Lance's own "cosine" is on another scale in an index than outside it."""
_BITS = 6
"""A number: cosines are then wrong by .001, .006 at most. Each bit more costs twice the encoding."""
_PROBES = 4
"""Times the root of their number, so many partitions are looked into: a quarter of those of a million
rows. What is near lies in few partitions, however many there are."""

MOST_UNINDEXED = 0.02
"""Share of rows outside the index from which on they are added to it, as a part of its own."""
MOST_GROWN = 1.25
"""How many times as many rows as it was made for an index may hold; then it is made anew.

Its centres fit again, and it is one part again: a search looks into every part.
"""

_SAMPLED_ROWS = 64
_ROUNDS = 10

Done = Literal["made", "extended", "kept"]


def partitions_for(rows: int) -> int:
    """Return how many partitions so many rows want: 256 for a million."""
    return max(1, round(math.sqrt(rows) / 4))


def probes_for(partitions: int) -> int:
    """Return how many partitions a search looks into."""
    return max(8, math.ceil(_PROBES * math.sqrt(partitions)))


def partitions_of(dataset: lance.LanceDataset, column: str) -> int | None:
    """Return how many partitions the index of `column` has; None where there is none of today's kind."""
    known = _statistics(dataset, column)
    if known is None or not _is_ours(known):
        return None
    return int(known["indices"][0]["num_partitions"])


def outside(dataset: lance.LanceDataset, column: str) -> list[lance.LanceFragment]:
    """Return the fragments whose rows the index of `column` does not hold: all, where there is none."""
    fragments: list[lance.LanceFragment] = dataset.get_fragments()
    if partitions_of(dataset, column) is None:
        return fragments
    inside = {
        number
        for index in dataset.describe_indices()
        if index.name == _name(column)
        for segment in index.segments
        for number in segment.fragment_ids
    }
    return [each for each in fragments if each.fragment_id not in inside]


def keep_up(dataset: lance.LanceDataset, column: str) -> Done:
    """Make the index of `column`, add what came since when that is much, or let it be.

    At most two commits, each of which leaves the table whole; safe to repeat. Vectors of a width that
    is no multiple of 8, which Lance does not encode, are left without: searches compare them all.
    """
    if dataset.schema.field(column).type.list_size % 8:
        return "kept"
    rows = dataset.count_rows()
    known = _statistics(dataset, column)
    if (
        known is None
        or not _is_ours(known)
        or rows > MOST_GROWN * max(known["num_indexed_rows_per_delta"])
    ):
        # Thousands of small commits are packed first: every search opens what it reads.
        dataset.optimize.compact_files()
        partitions = partitions_for(rows)
        dataset.create_index(
            column,
            index_type=KIND,
            name=_name(column),
            metric=METRIC,
            replace=True,
            num_partitions=partitions,
            num_bits=_BITS,
            ivf_centroids=_centres(dataset, column, partitions),
        )
        return "made"
    if known["num_unindexed_rows"] <= MOST_UNINDEXED * rows:
        return "kept"
    dataset.optimize.compact_files()
    # As a part of its own (0): merged into the others, Lance 14 joins partitions of a few thousand
    # rows, down to a single one, in which a search compares everything.
    dataset.optimize.optimize_indices(num_indices_to_merge=0, index_names=[_name(column)])
    return "extended"


def _statistics(dataset: lance.LanceDataset, column: str) -> dict[str, Any] | None:
    name = _name(column)
    if not any(index.name == name for index in dataset.describe_indices()):
        return None
    known: dict[str, Any] = dataset.stats.index_stats(name)
    return known


def _is_ours(known: dict[str, Any]) -> bool:
    """Return whether an index is of the kind that is made today; those of before are made anew."""
    metrics = {each["metric_type"] for each in known["indices"]}
    return known["index_type"] == KIND and metrics == {METRIC}


def _name(column: str) -> str:
    return f"{column}_index"


def _centres(dataset: lance.LanceDataset, column: str, partitions: int) -> NDArray[np.float16]:
    """Return centres, float16 (P, D): spherical k-means on a sample, the same for the same rows."""
    # Only where an index is made: the studio, which reads tables, must not wait for scipy.
    from scipy.sparse import csr_matrix

    sampled = dataset.sample(min(dataset.count_rows(), partitions * _SAMPLED_ROWS), [column])
    chunk = sampled[column].combine_chunks()
    flat_N = chunk.flatten().to_numpy().astype(np.float32)
    vector_ND = _unit(flat_N.reshape(-1, chunk.type.list_size))
    chosen = np.random.default_rng(0).choice(len(vector_ND), partitions, replace=False)
    centre_PD = vector_ND[chosen]
    rows = np.arange(len(vector_ND))
    for _ in range(_ROUNDS):
        nearest_N = (vector_ND @ centre_PD.T).argmax(axis=1)
        member_PN = csr_matrix(
            (np.ones(len(rows), np.float32), (nearest_N, rows)), shape=(partitions, len(rows))
        )
        sum_PD = member_PN @ vector_ND
        held_P = np.linalg.norm(sum_PD, axis=1) > 0  # a centre that nothing is nearest to stays
        centre_PD[held_P] = _unit(sum_PD[held_P])
    return centre_PD.astype(np.float16)


def _unit(vector_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    norm_N1 = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = vector_ND / np.maximum(norm_N1, np.float32(1e-12))
    return unit_ND
