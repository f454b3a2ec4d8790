"""What of a JPEG file is the picture: which parts of it, if they are equal, give equal pixels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

# Application data that says how the colours are coded: JFIF means YCbCr, Adobe may mean RGB or CMYK.
# The others (EXIF, XMP, colour profiles, maker's notes) and comments do not change a decoded pixel.
_APP0, _APP14, _APP15, _COMMENT = 0xE0, 0xEE, 0xEF, 0xFE
_START_OF_SCAN = 0xDA
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE = {0x01, *range(0xD0, 0xD9)}


def coded_picture(data: bytes, orientation: int) -> _Hash:
    """Return a SHA-256 of what the pixels of a JPEG come from, upright (`orientation` as in EXIF).

    Tables, frame header and scans as they are coded (ITU T.81, annex B): files that differ in
    metadata alone agree, files that agree have the same pixels. The same pixels coded otherwise (a
    lossless transcoding, a PNG made of a JPEG) do not agree; their hashes are for that.
    """
    digest = hashlib.sha256(b"jpeg, orientation %d:" % orientation)
    view = memoryview(data)
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may come before any marker
            at += 1
            continue
        if marker == _START_OF_SCAN:
            break
        length = 0 if marker in _BARE else int.from_bytes(data[at + 2 : at + 4], "big")
        if not (_APP0 < marker <= _APP15 and marker != _APP14) and marker != _COMMENT:
            digest.update(view[at : at + 2 + length])
        at += 2 + length
    # From the first scan, or from what is no marker, to the end of the file: what lies behind the
    # end mark may be another picture, and is not worth looking for.
    digest.update(view[at:])
    return digest
