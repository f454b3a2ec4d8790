"""What a run did, written once when a stage ends: `runs/<run>/<stage>.json` in the bucket.

A run id is an idempotency key. A stage that is asked for again under the id of a run in which it
has ended gives the recorded result and does nothing; one that was killed before its end has no
record, and is carried to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import TypeAdapter

from flows import observe
from flows.errors import Permanent
from flows.objects import ObjectStore

R = TypeVar("R")

_OF_A_SOURCE = ("collect", "plan")
"""Stages whose name goes on with that of a source."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new_run_id() -> str:
    """Return an id for a run that starts now; ids sort by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")


def check_run_id(run_id: str) -> None:
    """Refuse an id that could not be part of an object's key."""
    if not _RUN_ID.fullmatch(run_id):
        raise Permanent(
            f"run id {run_id!r} is not usable: take letters, digits, '.', '_' and '-', 100 at most"
        )


def is_done(store: ObjectStore, run_id: str, stage: str) -> bool:
    """Say whether `stage` has ended in run `run_id`."""
    return store.head(_key(run_id, stage)) is not None


def once(
    store: ObjectStore, run_id: str, stage: str, kind: type[R], work: Callable[[], R]
) -> tuple[R, bool]:
    """Return the result of `stage` in run `run_id`, and whether it had been done before.

    `kind` is the dataclass of the result. When two processes do the same stage at once, both
    results are equally true, and the one whose record was first is what both return.
    """
    check_run_id(run_id)
    adapter = TypeAdapter(kind)
    key = _key(run_id, stage)
    if is_done(store, run_id, stage):
        return adapter.validate_json(store.get(key)), True
    name, _, rest = stage.partition("-")
    with observe.stage(name, run=run_id, source=rest if name in _OF_A_SOURCE else ""):
        result = work()
    if store.put_once(key, adapter.dump_json(result, indent=2)):
        return result, False
    return adapter.validate_json(store.get(key)), False


def _key(run_id: str, stage: str) -> str:
    return f"runs/{run_id}/{stage}.json"
