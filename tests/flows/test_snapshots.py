"""What holds of several answers to one question, and what is new since the last snapshot."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from flows.encoders import EncoderSource
from flows.review import apply_decisions
from flows.rows import Answer, DecisionRow
from flows.snapshots import make_snapshot, new_decisions, settle
from tests.flows.line import Line, answers

START = datetime(2026, 1, 2, tzinfo=UTC)


def said(*words: tuple[str, str, Answer]) -> list[DecisionRow]:
    """Return what people said of `vinyl`, a minute apart: picture, person, answer."""
    return [
        DecisionRow(
            sha256=sha256,
            label="vinyl",
            answer=answer,
            who=who,
            at=START + timedelta(minutes=minute),
            score=None,
            note="",
        )
        for minute, (sha256, who, answer) in enumerate(words)
    ]


def test_the_later_of_two_people_holds_and_the_disagreement_is_counted() -> None:
    found = settle(said(("a", "ann", "yes"), ("a", "bob", "no")), ["vinyl"], {})
    assert found.of == {"a": {"vinyl": False}}
    assert found.disputed == {("a", "vinyl")}


def test_who_changes_their_own_mind_disagrees_with_nobody() -> None:
    found = settle(said(("a", "ann", "yes"), ("a", "ann", "no")), ["vinyl"], {})
    assert found.of == {"a": {"vinyl": False}}
    assert found.disputed == frozenset()


def test_people_who_come_to_agree_are_not_counted() -> None:
    words = said(("a", "ann", "yes"), ("a", "bob", "no"), ("a", "ann", "no"))
    assert settle(words, ["vinyl"], {}).disputed == frozenset()


def test_unsure_takes_an_answer_back_and_is_no_disagreement() -> None:
    found = settle(said(("a", "ann", "yes"), ("a", "bob", "unsure")), ["vinyl"], {})
    assert found.of == {}
    assert found.disputed == frozenset()


def test_answers_to_copies_of_a_picture_are_answers_to_one_question() -> None:
    found = settle(said(("copy", "ann", "yes"), ("a", "bob", "no")), ["vinyl"], {"copy": "a"})
    assert found.of == {"a": {"vinyl": False}}
    assert found.disputed == {("a", "vinyl")}


def test_labels_that_the_project_has_no_more_are_left_out() -> None:
    found = settle(said(("a", "ann", "yes"), ("a", "bob", "no")), ["turntable"], {})
    assert found.of == {}
    assert found.disputed == frozenset()


@pytest.mark.slow
def test_an_answer_given_and_taken_back_is_new_in_between(line: Line) -> None:
    """Two people differ on it afterwards: the snapshot counts that, and is the same otherwise."""
    encoder_id = EncoderSource(line.workspace).id()
    before = make_snapshot(line.workspace, encoder_id)
    given = answers(line.truth, line.site, "shop")[1]
    other = dataclasses.replace(given, answer="no" if given.answer == "yes" else "yes")
    apply_decisions(line.workspace, [other], who="somebody else")
    assert new_decisions(line.workspace) == 1
    apply_decisions(line.workspace, [given], who="test")
    assert new_decisions(line.workspace) == 0
    after = make_snapshot(line.workspace, encoder_id)
    assert after.id == before.id
    assert after.disagreements[given.label] == before.disagreements.get(given.label, 0) + 1
