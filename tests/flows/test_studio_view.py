"""Filters, pages and queues over what the catalogue holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from flows.rows import Answer, DecisionRow, PreLabelRow
from flows.studio.view import RETRACTED, Picture, View

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
    return View.of(
        pictures=pictures,
        prelabels=[
            PreLabelRow(
                sha256=an_id(number), label="vinyl", score=score, taxonomy_id="t", encoder_id="e"
            )
            for number, score in (scores or {}).items()
        ],
        decisions=decisions,
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


def test_two_ledgers_made_of_one_do_not_know_of_each_others_decisions() -> None:
    """The one is held while the other is being read from the tables, and takes its place."""
    first = a_view([a_picture(0)])
    row = a_decision(0, "yes", note="#decision-1")
    held = first.decisions.plus_rows([row])
    read = first.decisions.plus_rows([a_decision(1, "no", second=5)])
    assert held.knows("decision-1")
    assert not read.knows("decision-1")
    both = read.plus_rows([row])
    assert both.decisions == 2
    assert both.plus_rows([row]).decisions == 2


def test_a_catalogue_without_duplicates_has_no_groups() -> None:
    assert a_view([a_picture(0)]).duplicates_of == {}


def test_an_empty_catalogue_has_no_groups() -> None:
    assert a_view([]).duplicates_of == {}
