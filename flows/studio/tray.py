"""What somebody tries the model on: kept in memory for a while, never stored, and not too much."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crawler.decode import Candidate

KEPT_S = 900.0
KEPT_BYTES = 64 * 2**20
_MINUTE_S = 60.0
_CLIENTS = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """A picture that was scored: its bytes, what the encoder saw of it, and its unit vector."""

    candidate: Candidate
    pixels_HWC: NDArray[np.uint8]
    vector_D: NDArray[np.float32]
    encoder_id: str


class Tray:
    """Pictures by id for `KEPT_S`, up to `KEPT_BYTES`; the oldest go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Tried]] = OrderedDict()

    def put(self, tried: Tried) -> None:
        """Keep a picture for a while."""
        with self._lock:
            sha256 = tried.candidate.fingerprint.sha256
            self._kept.pop(sha256, None)
            self._kept[sha256] = (time.monotonic(), tried)
            self._drop()

    def get(self, sha256: str) -> Tried | None:
        """Return a picture that was put not long ago, or None."""
        with self._lock:
            self._drop()
            found = self._kept.get(sha256)
            return found[1] if found else None

    def _drop(self) -> None:
        held = sum(_size(each) for _, each in self._kept.values())
        while self._kept:
            put_at, oldest = next(iter(self._kept.values()))
            if held <= KEPT_BYTES and time.monotonic() - put_at < KEPT_S:
                return
            self._kept.popitem(last=False)
            held -= _size(oldest)


def _size(tried: Tried) -> int:
    return len(tried.candidate.fetched.data) + tried.pixels_HWC.nbytes + tried.vector_D.nbytes


class Pace:
    """How many pictures, or tries, one client may bring in a minute: a bucket that refills by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, pictures: int, *, a_minute: int) -> float:
        """Take `pictures` from the client's bucket and return 0, or return how long to wait first.

        One request may bring a whole minute's worth, and more than that is taken for it.
        """
        asked = min(pictures, a_minute)
        now = time.monotonic()
        with self._lock:
            left, at = self._left.pop(client, (float(a_minute), now))
            left = min(a_minute, left + (now - at) * a_minute / _MINUTE_S)
            missing = asked - left
            self._left[client] = (left if missing > 0 else left - asked, now)
            while len(self._left) > _CLIENTS:
                self._left.popitem(last=False)
        return max(0.0, missing * _MINUTE_S / a_minute)
