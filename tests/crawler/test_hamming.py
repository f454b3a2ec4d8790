"""The Hamming index answers exactly what comparing all with all would, by scan and by bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crawler.hamming import HammingIndex

# Few bits set and few values, so that near hashes are common; and any hash at all.
hashes = st.lists(
    st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 4095), st.just(2**64 - 1)), max_size=40
)


def near(left: list[int], right: list[int], distance: int) -> list[list[int]]:
    """Return what HammingIndex should, the slow way."""
    return [
        [i, j]
        for i, first in enumerate(left)
        for j, second in enumerate(right)
        if (first ^ second).bit_count() <= distance
    ]


def index_of(values: list[int]) -> HammingIndex:
    index = HammingIndex()
    index.add(np.array(values, dtype=np.uint64))
    return index


@settings(deadline=None)
@given(hashes, hashes, st.integers(0, 63))
@example([0], [2**64 - 1], 63)
@example([0, 255], [0, 2**63], 8)
def test_a_query_finds_exactly_the_near_pairs(
    asked: list[int], held: list[int], distance: int
) -> None:
    found = index_of(held).query(np.array(asked, dtype=np.uint64), distance)
    assert found.tolist() == near(asked, held, distance)


@settings(deadline=None)
@given(hashes, st.integers(0, 63))
def test_a_self_join_finds_exactly_the_near_pairs_once(held: list[int], distance: int) -> None:
    found = index_of(held).self_join(distance)
    assert found.tolist() == [[i, j] for i, j in near(held, held, distance) if i < j]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=10))
def test_hashes_that_differ_in_few_bits_anywhere_are_found(value: int, flipped: set[int]) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    found = index_of([value, other]).self_join(8)
    assert len(found) == (len(flipped) <= 8)


def test_many_equal_hashes_are_joined_in_blocks() -> None:
    """More pairs than one block holds: 600 x 600."""
    assert len(index_of([7] * 600).self_join(0)) == 600 * 599 // 2


def test_positions_go_on_counting_over_several_additions() -> None:
    index = index_of([1])
    index.add(np.array([2**40, 1], dtype=np.uint64))
    assert (len(index), index.self_join(0).tolist()) == (3, [[0, 2]])


@pytest.mark.parametrize("distance", [-1, 64])
def test_a_distance_out_of_range_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="max_distance"):
        index_of([1]).self_join(distance)


def many(kind: str, seed: int) -> NDArray[np.uint64]:
    """Return more hashes than are scanned, of which skewed ones agree in many bands."""
    rng = np.random.default_rng(seed)
    held = rng.integers(0, 2**64, 4200, dtype=np.uint64)
    match kind:
        case "biased":
            held &= rng.integers(0, 2**64, len(held), dtype=np.uint64)
        case "near a few":
            held = held[rng.integers(0, 300, len(held))]
            for _ in range(5):
                held ^= np.uint64(1) << rng.integers(0, 64, len(held), dtype=np.uint64)
        case "equal above":
            held &= np.uint64(2**40 - 1)
    return held


def all_near(asked: NDArray[np.uint64], held: NDArray[np.uint64], distance: int) -> list[list[int]]:
    """Return what HammingIndex.query should, a row at a time."""
    found = []
    for at, each in enumerate(asked):
        near_N = np.flatnonzero(np.bitwise_count(each ^ held) <= distance)
        found += [[at, other] for other in near_N.tolist()]
    return found


@pytest.mark.parametrize("distance", [0, 3, 7, 10])
@pytest.mark.parametrize("kind", ["uniform", "biased", "near a few", "equal above"])
def test_thousands_of_hashes_of_every_kind_are_joined_and_found_exactly(
    kind: str, distance: int
) -> None:
    held = many(kind, distance)
    index = HammingIndex()
    for part in np.array_split(held, 3):
        index.add(part)
    expected = all_near(held, held, distance)
    assert index.self_join(distance).tolist() == [[i, j] for i, j in expected if i < j]
    assert index.query(held[:50], distance).tolist() == [each for each in expected if each[0] < 50]


def test_more_pairs_than_a_block_holds_are_found_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of 16 pairs, where single buckets hold more."""
    held = many("near a few", 1)
    index = HammingIndex()
    index.add(held)
    joined, found = index.self_join(10), index.query(held[:50], 10)
    monkeypatch.setattr("crawler.hamming._AT_ONCE", 16)
    blocks = list(index.self_join_blocks(10))
    assert len(blocks) > 100
    assert sorted(np.concatenate(blocks).tolist()) == joined.tolist()
    assert np.array_equal(index.query(held[:50], 10), found)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=14), st.sampled_from([5, 8, 10])
)
def test_among_thousands_two_that_differ_in_few_bits_anywhere_are_found(
    value: int, flipped: set[int], distance: int
) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    crowd = many("equal above", 2) | np.uint64(1 << 63)
    near_the_crowd = np.bitwise_count(crowd ^ np.uint64(other)) <= distance
    index = HammingIndex()
    index.add(np.append(crowd[~near_the_crowd], np.uint64(value)))
    found = index.query(np.array([other], dtype=np.uint64), distance)
    assert len(found) == (len(flipped) <= distance)
