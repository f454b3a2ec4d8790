"""Snapshots are exact and say so; splits never part kin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import Example, Snapshot, grouped_folds, kin_groups
from tests.model.synthetic import draw_pictures, snapshot_of

SNAPSHOT = Snapshot(
    labels=("turntable", "vinyl"),
    examples=(
        Example(sha256="aa", group="aa", answers={"turntable": True, "vinyl": False}),
        Example(sha256="bb", group="aa", answers={"vinyl": True}),
    ),
    encoder_id="tiny",
    table_versions={"decisions": 4},
    seed=7,
)


def test_an_unreviewed_label_is_neither_yes_nor_no() -> None:
    np.testing.assert_array_equal(SNAPSHOT.targets_NL(), [[1, 0], [np.nan, 1]])


def test_snapshot_round_trips_through_json() -> None:
    assert Snapshot.from_json(SNAPSHOT.to_json()) == SNAPSHOT


@given(st.lists(st.lists(st.sampled_from([True, False, None]), min_size=2, max_size=2), max_size=8))
@settings(max_examples=30, deadline=None)
def test_targets_round_trip_through_json(answers: list[list[bool | None]]) -> None:
    """What was decided, and what was not, is what is read back, for any answers."""
    targets = np.array(answers, dtype=np.float32).reshape(-1, 2)
    again = Snapshot.from_json(snapshot_of(targets).to_json())
    np.testing.assert_array_equal(again.targets_NL(), targets)


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": ("vinyl", "turntable")},
        {"encoder_id": "other"},
        {"seed": 8},
        {"examples": SNAPSHOT.examples[:1]},
        {
            "examples": (
                SNAPSHOT.examples[0],
                Example(sha256="bb", group="bb", answers={"vinyl": True}),
            )
        },
        {
            "examples": (
                SNAPSHOT.examples[0],
                Example(sha256="bb", group="aa", answers={"vinyl": False}),
            )
        },
        {
            "examples": (
                SNAPSHOT.examples[0],
                Example(sha256="bc", group="aa", answers={"vinyl": True}),
            )
        },
    ],
)
def test_id_changes_with_whatever_decides_the_model(changed: dict[str, object]) -> None:
    other = dataclasses.replace(SNAPSHOT, **changed)  # type: ignore[arg-type]  # fields by name
    assert other.id != SNAPSHOT.id


def test_id_does_not_change_with_the_version_of_a_table() -> None:
    """The same rows read from a later version of the table are the same snapshot."""
    assert dataclasses.replace(SNAPSHOT, table_versions={"decisions": 5}).id == SNAPSHOT.id


def test_id_does_not_change_with_the_order_of_answers() -> None:
    first = dataclasses.replace(SNAPSHOT.examples[0], answers={"vinyl": False, "turntable": True})
    other = dataclasses.replace(SNAPSHOT, examples=(first, SNAPSHOT.examples[1]))
    assert other.id == SNAPSHOT.id


def test_id_is_the_same_in_every_process_and_version() -> None:
    """Pinned: a change of the form would orphan every snapshot that is stored."""
    assert SNAPSHOT.id == "eec4d700828959e0"


def test_examples_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"order of their sha256.*aa follows bb"):
        dataclasses.replace(SNAPSHOT, examples=SNAPSHOT.examples[::-1])


def test_an_example_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each once"):
        dataclasses.replace(SNAPSHOT, examples=SNAPSHOT.examples[:1] * 2)


def test_an_answer_to_an_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="image aa is answered for vinyl"):
        dataclasses.replace(SNAPSHOT, labels=("turntable",))


def test_duplicates_are_kin_however_different_their_embeddings() -> None:
    groups = kin_groups(["b", "a", "c"], np.eye(3, dtype=np.float32), {"b": "a"})
    assert groups == {"a": "a", "b": "a", "c": "c"}


def test_duplicates_of_an_absent_picture_are_kin() -> None:
    groups = kin_groups(["b", "c"], np.eye(2, dtype=np.float32), {"b": "a", "c": "a"})
    assert groups == {"b": "b", "c": "b"}


def test_pictures_near_in_embedding_are_kin() -> None:
    near = np.array([[1, 0, 0], [0.98, np.sqrt(1 - 0.98**2), 0], [0, 0, 1]], np.float32)
    assert kin_groups(["a", "b", "c"], near, {}) == {"a": "a", "b": "a", "c": "c"}


def test_near_pairs_are_those_of_the_whole_matrix() -> None:
    """Pruning in the leading directions loses no pair of any picture."""
    rng = np.random.default_rng(3)
    shoots = np.repeat(rng.normal(size=(100, 128)), 3, axis=0)
    vectors = shoots + 0.17 * rng.normal(size=shoots.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [f"{row:03d}" for row in range(300)]
    groups = kin_groups(names, vectors, {}, near=0.97)

    near = vectors @ vectors.T >= 0.97
    assert 150 < near.sum() - 300 < 450, "the case has pairs on both sides of the line"
    expected = {name: {name} for name in names}
    for left, right in np.argwhere(near):
        united = expected[names[left]] | expected[names[right]]
        for name in united:
            expected[name] = united
    assert groups == {name: min(members) for name, members in expected.items()}


def test_an_encoder_that_finds_all_alike_makes_no_group_of_half_the_pictures() -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (100, 1))
    groups = kin_groups([f"{row:02d}" for row in range(100)], vectors, {})
    largest = max(list(groups.values()).count(group) for group in set(groups.values()))
    assert largest <= 10


@given(
    number=st.integers(6, 60),
    kin=st.integers(1, 7),
    folds=st.integers(2, 5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_fold_never_parts_a_group(number: int, kin: int, folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.choice([0.0, 1.0, np.nan], size=(number, 3)).astype(np.float32)
    groups = [str(group) for group in rng.integers(0, max(1, number // kin), number)]
    if len(set(groups)) < folds:
        with pytest.raises(ValueError, match="folds cannot be made"):
            grouped_folds(targets, groups, folds=folds, seed=seed)
        return
    fold = grouped_folds(targets, groups, folds=folds, seed=seed)
    assert len(set(zip(groups, fold.tolist(), strict=True))) == len(set(groups))
    assert set(fold.tolist()) == set(range(folds)), "and no fold is empty"


def test_each_fold_has_its_share_of_every_label() -> None:
    """Of 10 pictures of a rare label in 200, each of five folds gets two."""
    targets = np.zeros((200, 2), np.float32)
    targets[:10, 0] = 1
    targets[5:105, 1] = 1
    fold = grouped_folds(targets, [str(row) for row in range(200)], folds=5, seed=0)
    assert np.bincount(fold).tolist() == [40] * 5
    assert np.bincount(fold[targets[:, 0] == 1]).tolist() == [2] * 5
    assert np.bincount(fold[targets[:, 1] == 1]).tolist() == [20] * 5


def test_folds_differ_by_seed_and_repeat_by_seed() -> None:
    targets = draw_pictures(60).targets
    groups = [str(row) for row in range(60)]
    first, second, again = (grouped_folds(targets, groups, folds=5, seed=s) for s in (0, 1, 0))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
