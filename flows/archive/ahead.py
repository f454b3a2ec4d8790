"""A stream that is read ahead by a thread of its own, no further than so many bytes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

HELD_BYTES = 64 * 2**20
"""Of bodies that wait to be decoded; one larger body is always let through."""

_CHECK_EVERY_S = 0.1
_WAITING = 64  # items without bytes to count


class Closed(Exception):
    """Whoever took from the stream has stopped."""


class HeldBytes:
    """Counts the bytes that are held, and has whoever adds some wait while there are too many."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._most = most
        self._held = 0
        self._freed = threading.Condition()
        self._closed = False

    def add(self, count: int) -> None:
        """Return when `count` more bytes may be held; raises `Closed` when they never will."""
        with self._freed:
            self._freed.wait_for(
                lambda: self._closed or not self._held or self._held + count <= self._most
            )
            if self._closed:
                raise Closed
            self._held += count

    def free(self, count: int) -> None:
        """Note that `count` bytes are no longer held."""
        with self._freed:
            self._held -= count
            self._freed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._freed:
            self._closed = True
            self._freed.notify_all()


class Ahead(Generic[T]):
    """What a producer, in a thread of its own, puts; it is told by `Closed` when nobody takes it."""

    def __init__(self) -> None:
        self._queue: queue.Queue[T | BaseException | None] = queue.Queue(_WAITING)
        self._closed = threading.Event()

    def put(self, item: T | BaseException | None) -> None:
        """Hand an item over, as soon as there is room."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_CHECK_EVERY_S)
            except queue.Full:
                continue
            return
        raise Closed

    def __iter__(self) -> Iterator[T]:
        """Yield what was put until the producer ends; what it raises comes out here."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Have the producer stop."""
        self._closed.set()


@contextmanager
def ahead(produce: Callable[[Callable[[T], None]], None], name: str) -> Iterator[Iterator[T]]:
    """Run `produce(put)` in a thread for as long as the context lasts; give what it puts."""
    stream: Ahead[T] = Ahead()

    def run() -> None:
        try:
            try:
                produce(stream.put)
            except Closed:
                return
            except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
                stream.put(error)
            stream.put(None)
        except Closed:
            return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield iter(stream)
    finally:
        stream.close()
        thread.join()
