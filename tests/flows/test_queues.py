"""Queues as they lie in the bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flows.objects import ObjectStore
from flows.queues import STALE_AFTER, Queue, QueuedPick, read, write
from tests.flows.catalog_rows import START, sha


def _queue(label: str = "vinyl", *, made_at: datetime = START, picks: int = 2) -> Queue:
    return Queue(
        label=label,
        made_at=made_at,
        version="v1",
        picks=tuple(QueuedPick(sha256=sha(n), why="unsure", score=0.5) for n in range(picks)),
    )


def test_a_queue_is_read_as_it_was_written(object_store: ObjectStore) -> None:
    """Whatever the label is called."""
    queue = _queue("b/w prints, 50%")
    write(object_store, queue)
    assert read(object_store, "b/w prints, 50%") == queue


def test_before_the_first_night_there_is_none(object_store: ObjectStore) -> None:
    assert read(object_store, "vinyl") is None


def test_the_last_queue_stands(object_store: ObjectStore) -> None:
    for picks in (2, 1):
        write(object_store, _queue(picks=picks))
    assert read(object_store, "vinyl") == _queue(picks=1)


def test_another_model_makes_a_queue_stale() -> None:
    """What one model was unsure about is not what the next one is."""
    assert not _queue().stale(version="v1", now=START)
    assert _queue().stale(version="v2", now=START)


def test_a_queue_that_nobody_renews_is_stale() -> None:
    later = START + STALE_AFTER + timedelta(seconds=1)
    assert _queue().stale(version="v1", now=later)
    assert not _queue(made_at=datetime.now(UTC)).stale(version="v1")
