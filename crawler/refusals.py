"""Why an attempt to fetch came to nothing, and whether another is worth it."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

import aiohttp

from crawler.consent import Consent
from crawler.guard import AddressForbidden
from crawler.rejections import Reason
from crawler.transport import BodyTooLarge, TooManyRedirects

TRANSPORT_ERRORS = (
    AddressForbidden,
    BodyTooLarge,
    TooManyRedirects,
    aiohttp.ClientError,
    OSError,  # TimeoutError among them
)
"""What `refusal` makes sense of."""


class Refused(Exception):
    """This attempt came to nothing."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        transient: bool = False,
        again: bool = False,
        overloaded: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.transient = transient
        """A later run may succeed."""
        self.again = again
        """A later attempt in this run may succeed."""
        self.overloaded = overloaded
        """The server said that it has too much to do."""
        self.retry_after_s = retry_after_s

    @classmethod
    def by(cls, consent: Consent) -> Self:
        """Return the refusal of what `consent` forbids, with the evidence."""
        evidence = "; ".join(
            f"{signal.kind} says {signal.value!r} at {signal.where}" for signal in consent.signals
        )
        return cls(consent.reason or Reason.ROBOTS_TXT, evidence)


def require_consent(consent: Consent) -> None:
    """Raise `Refused` with the evidence unless `consent` allows."""
    if not consent.allowed:
        raise Refused.by(consent)


def refusal(error: Exception) -> Refused:
    """Return what an exception of the transport means for the link."""
    said = str(error) or type(error).__name__
    match error:
        case AddressForbidden():
            return Refused(Reason.ADDRESS_FORBIDDEN, said)
        case TooManyRedirects():
            return Refused(Reason.TOO_MANY_REDIRECTS, said)
        case BodyTooLarge():
            return Refused(Reason.TOO_LARGE, said)
        case TimeoutError():
            return Refused(Reason.TIMEOUT, "no answer in time", transient=True, again=True)
        case aiohttp.ClientPayloadError():
            # Fewer bytes than Content-Length, or a chunked body without its end.
            return Refused(Reason.TRUNCATED, said, transient=True, again=True)
        case aiohttp.InvalidURL():
            return Refused(Reason.ADDRESS_FORBIDDEN, f"not a valid address: {said}")
        case aiohttp.ClientConnectorDNSError() if _is_unknown(error.os_error):
            return Refused(Reason.CONNECTION_FAILED, said, transient=True)
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError() | ssl.SSLError():
            return Refused(Reason.CONNECTION_FAILED, said, transient=True)
        case aiohttp.ClientConnectionError() | OSError():
            return Refused(Reason.CONNECTION_FAILED, said, transient=True, again=True)
    return Refused(Reason.HTTP_ERROR, f"not an HTTP answer: {said}")


def _is_unknown(error: OSError) -> bool:
    """Return whether DNS has answered, and knows no such name: no attempt in this run mends that."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


def retry_after_s(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either of its two forms."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
