"""The child of `crawler.decode_pool`: reads bodies on stdin, writes what they are on stdout.

    python -m crawler.decode_worker MAX_PIXELS MIN_SIDE CPU_S

Both ways a message is four bytes of length, big-endian, and so many bytes. An empty one goes out when
it is ready. Then a body comes in and JSON goes out, never a pickle: a decoder that is taken over must
not be able to run anything in the parent.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# One picture is no work for several threads, and BLAS starts them when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from crawler.consent import UNSAID, Consent, consent_from_file
from crawler.decode import Examined, Fingerprint, examine
from crawler.rejections import ImageRejected, Reason

Refusal = tuple[Reason, str]

_DATA_BYTES = 384 * 2**20
"""What a picture may add to the worker's memory: 100 million pixels of RGB, once, and some more.

A few hundred kilobytes can hold a picture of any size; the kernel holds the line where a decoder,
which may be asked for frames or tiles beyond what its header said, does not.
"""

_BYTES = ("tiny", "views")
"""Fields of a fingerprint that JSON cannot hold as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the worker made of a body, and what the body says about its own use."""

    seen: Examined | Refusal
    consent: Consent


def reply_to_json(reply: Reply) -> bytes:
    """Return a reply as JSON; `reply_from_json` reads it back."""
    return json.dumps(
        {"seen": _seen_to_fields(reply.seen), "consent": reply.consent.to_json()}
    ).encode()


def reply_from_json(text: bytes) -> Reply:
    """Return what `reply_to_json` wrote."""
    fields = json.loads(text)
    return Reply(
        seen=_seen_from_fields(fields["seen"]), consent=Consent.from_json(fields["consent"])
    )


def _seen_to_fields(reply: Examined | Refusal) -> dict[str, object]:
    if not isinstance(reply, Examined):
        return {"reason": reply[0], "detail": reply[1]}
    fingerprint = dataclasses.asdict(reply.fingerprint)
    for name in _BYTES:
        fingerprint[name] = base64.b64encode(fingerprint[name]).decode()
    thumbnail = base64.b64encode(reply.thumbnail).decode()
    return {"fingerprint": fingerprint, "format": reply.format, "thumbnail": thumbnail}


def _seen_from_fields(fields: dict[str, Any]) -> Examined | Refusal:
    if "reason" in fields:
        return Reason(fields["reason"]), str(fields["detail"])
    fingerprint = fields["fingerprint"]
    for name in _BYTES:
        fingerprint[name] = base64.b64decode(fingerprint[name])
    return Examined(
        fingerprint=Fingerprint(**fingerprint),
        format=fields["format"],
        thumbnail=base64.b64decode(fields["thumbnail"]),
    )


def main() -> None:
    """Answer until stdin ends, which it does when the parent is gone."""
    max_pixels, min_side, cpu_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    # Decoders print: libtiff a line for every tag that it does not know. Answers go to a file
    # descriptor that they do not know of.
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _limit_memory()
    _send(answers, b"")  # ready
    while (body := _next_message(sys.stdin.buffer)) is not None:
        # A hanging decoder sits in C, where no exception reaches it; SIGPROF's default action does.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        seen = _examined(body, max_pixels, min_side)
        # Only what would be kept is asked what it says.
        consent = consent_from_file(body) if isinstance(seen, Examined) else UNSAID
        reply = reply_to_json(Reply(seen=seen, consent=consent))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, reply)


def _examined(body: bytes, max_pixels: int, min_side: int) -> Examined | Refusal:
    try:
        return examine(body, max_pixels=max_pixels, min_side=min_side)
    except MemoryError:
        return _TOO_MUCH
    except ImageRejected as rejected:
        return _TOO_MUCH if _ran_out_of_memory(rejected) else (rejected.reason, rejected.detail)


_TOO_MUCH = (Reason.TOO_MANY_PIXELS, f"decoding takes more than {_DATA_BYTES >> 20} MiB")


def _ran_out_of_memory(rejected: ImageRejected) -> bool:
    return isinstance(rejected.__cause__, MemoryError)


def _limit_memory() -> None:
    """Bound what this process may allocate beyond what it has already."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    limit = pages * resource.getpagesize() + _DATA_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(4, "big") + message)
    stream.flush()


def _next_message(stream: IO[bytes]) -> bytes | None:
    head = stream.read(4)
    return stream.read(int.from_bytes(head, "big")) if len(head) == 4 else None


if __name__ == "__main__":
    main()
