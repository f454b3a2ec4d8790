"""The child of `flows.pixel_feed`: reads bodies on stdin, writes what an encoder sees on stdout.

    python -m flows.pixel_worker MAX_PIXELS CPU_S PREPROCESSING

PREPROCESSING is `Preprocessing` as JSON. Both ways a message is four bytes of length, big-endian,
and so many bytes. An empty one goes out when it is ready. For every body either raw pixels come
back, uint8 (H, W, C) behind a "P", or the reason why there are none, JSON behind an "R": never a
pickle, because a decoder that is taken over must not be able to run anything in the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO

from crawler.decode import decode
from crawler.rejections import ImageRejected
from model.preprocess import Preprocessing

PIXELS, REFUSED = b"P", b"R"


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(len(message).to_bytes(4, "big"))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None when the other side has ended, also in mid-sentence."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "big")
    message = stream.read(size)
    return message if len(message) == size else None


def main() -> None:
    """Answer until stdin ends, which it does when the parent is gone."""
    max_pixels, cpu_s = int(sys.argv[1]), float(sys.argv[2])
    preprocessing = Preprocessing.of(json.loads(sys.argv[3]))
    # Decoders print: libtiff a line for every tag that it does not know. Answers go to a file
    # descriptor that they do not know of.
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    send(answers, b"")  # ready
    while (body := receive(sys.stdin.buffer)) is not None:
        # A hanging decoder sits in C, where no exception reaches it; SIGPROF's default action does.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        reply = _reply(body, max_pixels, preprocessing)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(answers, reply)


def _reply(body: bytes, max_pixels: int, preprocessing: Preprocessing) -> bytes:
    try:
        image = decode(body, max_pixels=max_pixels, reduce_to=preprocessing.draft_size)
    except ImageRejected as rejected:
        return REFUSED + json.dumps([rejected.reason, rejected.detail]).encode()
    return PIXELS + preprocessing.pixels(image).tobytes()


if __name__ == "__main__":
    main()
