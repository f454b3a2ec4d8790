"""Filters, pages and queues over what the catalogue holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.rows import Answer, DecisionRow
from flows.studio.view import (
    RETRACTED,
    AnswerFilter,
    Filter,
    Picture,
    Show,
    Sort,
    View,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def an_id(number: int) -> str:
    return f"{number:064x}"


def a_picture(number: int, *, of: int | None = None, source: str = "shop") -> Picture:
    return Picture(
        sha256=an_id(number),
        width=10,
        height=10,
        format="png",
        size=100,
        duplicate_of=None if of is None else an_id(of),
        duplicate_how=None if of is None else "perceptual",
        added_at=NOW + timedelta(seconds=number),
        sources=(source,),
        title="",
        page_url="",
    )


def a_decision(number: int, answer: Answer, *, second: int = 0, note: str = "") -> DecisionRow:
    return DecisionRow(
        sha256=an_id(number),
        label="vinyl",
        answer=answer,
        who="me",
        at=NOW + timedelta(seconds=second),
        note=note,
    )


def a_view(
    pictures: Sequence[Picture],
    scores: Mapping[int, float] | None = None,
    decisions: Sequence[DecisionRow] = (),
) -> View:
    scored = {an_id(number): score for number, score in (scores or {}).items()}
    return View(
        pictures={each.sha256: each for each in pictures},
        links=(),
        prelabels={"vinyl": scored},
        decisions=sorted(decisions, key=lambda row: row.at),
    )


def numbers(pictures: Sequence[Picture]) -> list[int]:
    return [int(each.sha256, 16) for each in pictures]


def test_the_queue_starts_with_the_most_uncertain_score() -> None:
    view = a_view([a_picture(n) for n in range(4)], {0: 0.9, 1: 0.45, 2: 0.1, 3: 0.56})
    assert numbers(view.queue("vinyl", after=None, limit=9).pictures) == [1, 3, 0, 2]


def test_the_queue_leaves_out_what_is_decided_and_what_is_a_duplicate() -> None:
    view = a_view(
        [a_picture(0), a_picture(1), a_picture(2, of=0)],
        {0: 0.5, 1: 0.5, 2: 0.5},
        [a_decision(1, "no")],
    )
    assert numbers(view.queue("vinyl", after=None, limit=9).pictures) == [0]


def test_a_queue_page_goes_on_after_its_last_picture_even_when_that_is_decided_by_now() -> None:
    pictures = [a_picture(n) for n in range(4)]
    scores = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8}
    first = a_view(pictures, scores).queue("vinyl", after=None, limit=2)
    assert first.next is not None
    second = a_view(pictures, scores, [a_decision(1, "yes")]).queue(
        "vinyl", after=first.next, limit=2
    )
    assert (numbers(first.pictures), numbers(second.pictures)) == ([0, 1], [2, 3])


def test_the_latest_decision_is_the_answer() -> None:
    rows = [a_decision(0, "yes", second=1), a_decision(0, "no", second=2)]
    assert a_view([a_picture(0)], decisions=rows).answer(an_id(0), "vinyl") == "no"


def test_a_decision_that_was_taken_back_leaves_the_picture_undecided() -> None:
    rows = [a_decision(0, "yes"), a_decision(0, "unsure", second=1, note=RETRACTED)]
    view = a_view([a_picture(0)], {0: 0.5}, rows)
    assert view.answer(an_id(0), "vinyl") is None
    assert view.reviewed == 0
    assert numbers(view.queue("vinyl", after=None, limit=9).pictures) == [0]


def test_an_answer_given_to_a_duplicate_counts_for_the_picture_that_is_kept() -> None:
    view = a_view([a_picture(0), a_picture(1, of=0)], {0: 0.5}, [a_decision(1, "yes")])
    assert view.answer(an_id(0), "vinyl") == "yes"
    assert view.label_count("vinyl").waiting == 0


def test_unsure_counts_as_decided() -> None:
    view = a_view([a_picture(0)], {0: 0.5}, [a_decision(0, "unsure")])
    assert view.label_count("vinyl").unsure == 1
    assert view.label_count("vinyl").waiting == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("any", [3, 2, 1, 0]), ("yes", [0]), ("no", [1]), ("unsure", [2]), ("undecided", [3])],
)
def test_pictures_are_filtered_by_answer(answer: AnswerFilter, expected: list[int]) -> None:
    rows = [a_decision(0, "yes"), a_decision(1, "no"), a_decision(2, "unsure")]
    view = a_view([a_picture(n) for n in range(4)], decisions=rows)
    page = view.page(Filter(label="vinyl", answer=answer), after=None, limit=9)
    assert numbers(page.pictures) == expected


@pytest.mark.parametrize(
    ("show", "expected"), [("kept", [0]), ("duplicates", [1]), ("all", [1, 0])]
)
def test_pictures_are_filtered_by_being_a_duplicate(show: Show, expected: list[int]) -> None:
    view = a_view([a_picture(0), a_picture(1, of=0)])
    page = view.page(Filter(label="vinyl", show=show), after=None, limit=9)
    assert numbers(page.pictures) == expected


def test_a_score_range_leaves_out_pictures_without_a_score() -> None:
    view = a_view([a_picture(n) for n in range(4)], {0: 0.2, 1: 0.5, 2: 0.8})
    page = view.page(Filter(label="vinyl", low=0.5), after=None, limit=9)
    assert numbers(page.pictures) == [2, 1]


def test_pictures_are_filtered_by_source() -> None:
    view = a_view([a_picture(0), a_picture(1, source="archive")])
    page = view.page(Filter(label="vinyl", source="archive"), after=None, limit=9)
    assert numbers(page.pictures) == [1]


@pytest.mark.parametrize(
    ("sort", "expected"), [("highest", [1, 0, 2]), ("lowest", [0, 1, 2]), ("newest", [2, 1, 0])]
)
def test_pictures_without_a_score_come_last_when_sorted_by_score(
    sort: Sort, expected: list[int]
) -> None:
    view = a_view([a_picture(n) for n in range(3)], {0: 0.2, 1: 0.7})
    page = view.page(Filter(label="vinyl", sort=sort), after=None, limit=9)
    assert numbers(page.pictures) == expected


@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=30),
    sort=st.sampled_from(["newest", "highest", "lowest"]),
    limit=st.integers(1, 7),
)
def test_the_pages_together_hold_every_picture_once_in_the_order_of_one_long_page(
    scores: list[float], sort: Sort, limit: int
) -> None:
    view = a_view([a_picture(n) for n in range(len(scores))], dict(enumerate(scores)))
    wanted = Filter(label="vinyl", sort=sort)
    found: list[int] = []
    after = None
    while True:
        page = view.page(wanted, after=after, limit=limit)
        found += numbers(page.pictures)
        after = page.next
        if after is None:
            break
    assert found == numbers(view.page(wanted, after=None, limit=1000).pictures)
    assert sorted(found) == list(range(len(scores)))


def test_a_picture_without_a_pre_label_comes_last_in_the_queue() -> None:
    view = a_view([a_picture(n) for n in range(3)], {0: 1.0, 2: 0.0})
    assert numbers(view.queue("vinyl", after=None, limit=9).pictures) == [0, 2, 1]


def test_the_queue_of_the_grid_starts_with_the_highest_score() -> None:
    """One without a pre-label comes last, and a page goes on after its last picture."""
    pictures = [a_picture(number) for number in range(4)]
    view = a_view(pictures, {0: 0.2, 1: 0.9, 2: 0.6})
    first = view.queue("vinyl", after=None, limit=2, order="highest")
    assert numbers(first.pictures) == [1, 2]
    second = view.queue("vinyl", after=first.next, limit=2, order="highest")
    assert (numbers(second.pictures), second.next) == ([0, 3], None)
