"""Run records: a run id is an idempotency key."""

from __future__ import annotations

import dataclasses

import pytest

from flows.errors import Permanent
from flows.objects import ObjectStore
from flows.records import check_run_id, new_run_id, once


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A result such as a stage records."""

    number: int
    reasons: dict[str, int]


def test_a_stage_is_done_once_a_run(object_store: ObjectStore) -> None:
    """The second call gives the recorded result and does not work."""
    made = Counted(number=3, reasons={"svg": 1})
    calls = []

    def work() -> Counted:
        calls.append(1)
        return made

    assert once(object_store, "r1", "collect", Counted, work) == (made, False)
    assert once(object_store, "r1", "collect", Counted, work) == (made, True)
    assert len(calls) == 1


def test_another_run_and_another_stage_are_done(object_store: ObjectStore) -> None:
    """The record belongs to one run and one stage."""
    once(object_store, "r1", "collect", Counted, lambda: Counted(number=1, reasons={}))
    other_run = once(object_store, "r2", "collect", Counted, lambda: Counted(number=2, reasons={}))
    other_stage = once(object_store, "r1", "train", Counted, lambda: Counted(number=3, reasons={}))
    assert [other_run[0].number, other_stage[0].number] == [2, 3]


def test_a_stage_that_failed_leaves_no_record(object_store: ObjectStore) -> None:
    """A kill or an error before the end means that the stage is done again."""

    def fail() -> Counted:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        once(object_store, "r1", "collect", Counted, fail)
    result = once(object_store, "r1", "collect", Counted, lambda: Counted(number=1, reasons={}))
    assert result == (Counted(number=1, reasons={}), False)


def test_of_two_at_once_both_give_the_record_that_was_first(object_store: ObjectStore) -> None:
    """The loser of the race gives the winner's result: there is one truth about a run."""
    first = Counted(number=1, reasons={})

    def overtaken() -> Counted:
        once(object_store, "r1", "collect", Counted, lambda: first)
        return Counted(number=2, reasons={})

    assert once(object_store, "r1", "collect", Counted, overtaken) == (first, False)


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 101])
def test_an_id_that_could_leave_its_place_is_refused(run_id: str) -> None:
    with pytest.raises(Permanent, match="not usable"):
        check_run_id(run_id)


def test_new_ids_are_usable_and_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(3)]
    assert ids == sorted(ids)
    for run_id in ids:
        check_run_id(run_id)
