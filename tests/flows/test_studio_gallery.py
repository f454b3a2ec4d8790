"""Which pictures the Images page lists, and in which order."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from flows.studio.gallery import Order, Show, Wanted, formats, make_listing
from flows.studio.view import AnswerFilter, View
from tests.flows.test_studio_view import NOW, a_decision, a_picture, a_view, an_id


def listed(view: View, **wanted: object) -> list[int]:
    """Return the numbers of the pictures that are listed."""
    found = make_listing(view, dataclasses.replace(Wanted(label="vinyl"), **wanted))  # type: ignore[arg-type]  # the fields' names are the test's to get right
    return [int(each, 16) for each in found.sha256s]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("any", [3, 2, 1, 0]), ("yes", [0]), ("no", [1]), ("unsure", [2]), ("undecided", [3])],
)
def test_pictures_are_filtered_by_answer(answer: AnswerFilter, expected: list[int]) -> None:
    rows = [a_decision(0, "yes"), a_decision(1, "no"), a_decision(2, "unsure")]
    view = a_view([a_picture(n) for n in range(4)], decisions=rows)
    assert listed(view, answer=answer) == expected


def test_a_duplicate_has_the_answer_of_the_picture_that_is_kept() -> None:
    view = a_view([a_picture(0), a_picture(1, of=0)], decisions=[a_decision(0, "yes")])
    assert listed(view, answer="yes", show="duplicates") == [1]


@pytest.mark.parametrize(
    ("show", "expected"),
    [("kept", [3, 0]), ("duplicates", [2, 1]), ("all", [3, 2, 1, 0]), ("grouped", [0, 1, 2])],
)
def test_pictures_are_filtered_by_being_a_duplicate(show: Show, expected: list[int]) -> None:
    """Groups stand together, the kept picture first; one without duplicates is in none."""
    view = a_view([a_picture(0), a_picture(1, of=0), a_picture(2, of=0), a_picture(3)])
    assert listed(view, show=show) == expected


def test_a_group_is_found_by_any_of_its_pictures() -> None:
    view = a_view([a_picture(0), a_picture(1, of=0), a_picture(2)])
    assert listed(view, group=an_id(1)) == [1, 0]
    assert listed(view, group=an_id(9)) == []


def test_a_score_range_leaves_out_pictures_without_a_score() -> None:
    view = a_view([a_picture(n) for n in range(4)], {0: 0.2, 1: 0.5, 2: 0.8})
    assert listed(view, low=0.5) == [2, 1]
    assert listed(view, high=0.5) == [1, 0]


def test_pictures_are_filtered_by_source() -> None:
    view = a_view([a_picture(0), a_picture(1, source="archive")])
    assert listed(view, source="archive") == [1]


def test_pictures_are_filtered_by_format() -> None:
    view = a_view([a_picture(0), dataclasses.replace(a_picture(1), format="webp")])
    assert formats(view) == ("png", "webp")
    assert listed(view, format="webp") == [1]


def test_the_shorter_side_is_what_a_size_is_about() -> None:
    wide = dataclasses.replace(a_picture(1), width=500)
    view = a_view([a_picture(0), wide, dataclasses.replace(wide, sha256=an_id(2), height=300)])
    assert listed(view, min_side=11) == [2]
    assert listed(view, max_side=10) == [1, 0]


def test_both_days_are_included() -> None:
    view = a_view([a_picture(0), a_picture(86_399), a_picture(86_400)])
    day = NOW.date()
    assert listed(view, since=day, until=day) == [86_399, 0]
    assert listed(view, since=date(day.year, day.month, day.day + 1)) == [86_400]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("highest", [1, 0, 2]),
        ("lowest", [0, 1, 2]),
        ("newest", [2, 1, 0]),
        ("oldest", [0, 1, 2]),
        ("largest", [2, 0, 1]),
        ("smallest", [0, 1, 2]),
    ],
)
def test_each_order_ends_with_what_has_none_and_breaks_ties_by_id(
    order: Order, expected: list[int]
) -> None:
    large = dataclasses.replace(a_picture(2), width=100_000, height=100_000)
    view = a_view([a_picture(0), a_picture(1), large], {0: 0.2, 1: 0.7})
    assert listed(view, order=order) == expected


def test_what_a_search_found_keeps_its_order_and_passes_the_filter_all_the_same() -> None:
    view = a_view([a_picture(0), a_picture(1, of=0), a_picture(2)])
    found = {an_id(2): 0.9, an_id(1): 0.8, an_id(7): 0.7, an_id(0): 0.6}
    listing = make_listing(view, Wanted(label="vinyl", words="a record"), found)
    assert listing.sha256s == (an_id(2), an_id(0))
