"""Pictures that lie inside their address (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from crawler.fetched import Fetched
from crawler.pages import ImageLink
from crawler.refusals import Refused
from crawler.rejections import Reason


def from_data_url(link: ImageLink, *, max_bytes: int) -> Fetched:
    """Return the body that the data: URL of `link` holds; raise `Refused` when there is none."""
    head, comma, payload = link.url[5:].partition(",")
    if not comma:
        raise Refused(Reason.NOT_AN_IMAGE, "a data: address without a comma")
    # Every byte takes at least one character, in base64 four for three.
    if len(payload) > 3 * max_bytes:
        raise Refused(Reason.TOO_LARGE, f"the data: address is over {max_bytes} bytes")
    content_type, *parameters = head.split(";")
    data = unquote_to_bytes(payload)
    if any(parameter.strip().lower() == "base64" for parameter in parameters):
        try:
            # Padding is often left out.
            data = base64.b64decode(data + b"=" * (-len(data) % 4))
        except binascii.Error as error:
            raise Refused(Reason.CORRUPT, f"the data: address is not base64: {error}") from error
    if len(data) > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"the data: address is over {max_bytes} bytes")
    return Fetched(
        link=link,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        final_url=link.url,
        content_type=content_type.strip().lower() or "text/plain",
        etag="",
        last_modified="",
        fetched_at=datetime.now(UTC),
        consent=link.consent,
    )
