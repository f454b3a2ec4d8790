"""Decisions as all of our JSON files carry them, whatever else the tool's format holds.

    {"label": "vinyl", "answer": "yes", "who": "ann", "at": "2026-01-02T03:04:05.678901+00:00",
     "score": 0.25, "note": ""}

under `decisions`, a word each, beside the picture's `sha256`. Tools keep fields that they do not
know, so that a dataset comes back from them with everybody's word and its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args

from flows.exchange.json_stream import Entry
from flows.exchange.pictures import Picture
from flows.review import Answered
from flows.rows import Answer

ANSWERS: dict[object, Answer] = {answer: answer for answer in get_args(Answer)}


def sayings(picture: Picture) -> list[dict[str, object]]:
    """Return a picture's decisions as JSON; what is empty is left out."""
    said = []
    for row in picture.decisions:
        fields: dict[str, object] = {
            "label": row.label,
            "answer": row.answer,
            "who": row.who,
            "at": row.at.isoformat(),
        }
        if row.score is not None:
            fields["score"] = row.score
        if row.note:
            fields["note"] = row.note
        said.append(fields)
    return said


def read_sayings(entry: Entry, value: object, images: tuple[str, ...]) -> Iterator[Answered]:
    """Yield the decisions that `sayings` wrote, on the picture that one of `images` names."""
    if not isinstance(value, list):
        raise entry.wrong("decisions is not a list")
    for said in value:
        if not isinstance(said, dict):
            raise entry.wrong(f"a decision is {said!r} instead of an object")
        try:
            yield Answered(
                image=images[0],
                also=images[1:],
                label=str(said["label"]),
                answer=answer_of(entry, said["answer"]),
                who=str(said["who"]),
                at=time_of(entry, said["at"]),
                score=None if said.get("score") is None else float(said["score"]),
                note=str(said.get("note", "")),
            )
        except KeyError as error:
            raise entry.wrong(f"a decision has no {error.args[0]}") from None
        except (TypeError, ValueError):
            raise entry.wrong(f"score {said['score']!r} is no number") from None


def answer_of(entry: Entry, value: object) -> Answer:
    """Return an answer, which has to be one."""
    answer = ANSWERS.get(value) if isinstance(value, str) else None
    if answer is None:
        raise entry.wrong(f"answer {value!r} is not one of {', '.join(get_args(Answer))}")
    return answer


def time_of(entry: Entry, value: object) -> datetime:
    """Return an ISO 8601 time with its zone, in UTC."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise entry.wrong(f"{value!r} is no time with a zone, such as 2026-01-02T03:04:05Z")
    return at.astimezone(UTC)


def text_at(entry: Entry, value: dict[str, Any], key: str) -> str:
    """Return a text that has to be there."""
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise entry.wrong(f"it has no {key}")
    return found


def names_of(entry: Entry, value: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return by what the picture of an entry may be known: its `sha256` alone, or else `keys`.

    An id is not followed by an address: another picture may have come from there.
    """
    for group in (("sha256",), keys):
        names = tuple(name for key in group if isinstance(name := value.get(key), str) and name)
        if names:
            return names
    raise entry.wrong(f"it has neither {' nor '.join(('sha256', *keys))}")
