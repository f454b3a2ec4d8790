"""What is to be asked next, one queue a label, made after each night: `queues/<label>.json`.

A queue is advice: whoever reads it leaves out what has been decided since, and makes one anew with
`model.active.choose` when there is none or it is stale.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict

from flows.errors import NotFound
from flows.objects import ObjectStore
from model.active import Why

Reason = Why | Literal["drift", "spot check"]
"""Why a picture is asked about: it would teach, it is unlike what was trained on, or by lot."""

STALE_AFTER = timedelta(days=2)
"""Two nights have passed without a new queue: nothing makes them any more."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueuedPick(_Stored):
    """One picture to ask about, in the order of the queue."""

    sha256: str
    why: Reason
    score: float | None
    """The label's score when the queue was made, in [0, 1]; None where there was none."""


class Queue(_Stored):
    """What to ask about one label, first things first."""

    label: str
    made_at: AwareDatetime
    version: str | None
    """The model whose scores it was made from; None: pre-labels."""
    picks: tuple[QueuedPick, ...]

    def stale(self, *, version: str | None, now: datetime | None = None) -> bool:
        """Say whether another model is in production than it was made with, or it is too old."""
        now = now or datetime.now(UTC)
        return self.version != version or now - self.made_at > STALE_AFTER


def read(store: ObjectStore, label: str) -> Queue | None:
    """Return the queue of that label, or None before there is one."""
    try:
        data = store.get(_key(label))
    except NotFound:
        return None
    return Queue.model_validate_json(data)


def write(store: ObjectStore, queue: Queue) -> None:
    """Put the queue in place of the one before; of two at once, either is a whole queue."""
    store.put(_key(queue.label), queue.model_dump_json(indent=1).encode())


def _key(label: str) -> str:
    return f"queues/{quote(label, safe='')}.json"
