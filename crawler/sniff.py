"""What a body is, read from its first bytes: names and Content-Type headers are often wrong."""

from __future__ import annotations

import re
import zlib

# The formats that are decoded, by the name that the catalogue keeps; Pillow's name for each.
SUPPORTED = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "avif": "AVIF",
    "bmp": "BMP",
    "tiff": "TIFF",
}

# How much of a body is looked at, and how much of a compressed SVG is unpacked: enough for a long
# comment or DOCTYPE before the first element.
_HEAD_BYTES = 65_536

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"8BPS", "psd"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"qoif", "qoi"),
    (b"DDS ", "dds"),
    (b"BLP", "blp"),
    (b"%PDF", "pdf"),
    (b"BM", "bmp"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# An SVG is XML whose first element is <svg>: what may come before it is skipped.
_XML_PROLOGUE = re.compile(
    rb"\A(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+[^\[>]*(?:\[.*?\]\s*)?>)*",
    re.DOTALL | re.IGNORECASE,
)
_SVG = re.compile(rb"<(?:[\w.-]+:)?svg[\s>/]", re.IGNORECASE)
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|script|meta|div|p|h1|table)\b", re.IGNORECASE
)


def sniff(data: bytes) -> str:
    """Return the format of a body: a key of `SUPPORTED`, "svg", "html", another name, or ""."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _heif_format(data)
    if data.startswith(b"\x1f\x8b"):
        return "svg" if _sniff_markup(_gunzipped_head(data)) == "svg" else "gzip"
    return _sniff_markup(data[:_HEAD_BYTES])


def ends_early(data: bytes, format_name: str) -> bool:
    """Return whether the format's own end mark, or length field, says that bytes are missing.

    This is what parts a body that was cut off (worth fetching again) from one that is broken.
    TIFF has no such mark, so a cut-off TIFF counts as broken.
    """
    match format_name:
        case "jpeg":
            # FF D9 cannot occur in entropy-coded data (FF is followed by 00 or a restart mark), but
            # it does in the thumbnail inside EXIF: look behind the last start of scan alone.
            return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xda" not in data
        case "png":
            return b"IEND" not in data[-64:] and b"IEND\xaeB`\x82" not in data
        case "gif":
            return not data.rstrip(b"\0").endswith(b";")
        case "webp":
            return len(data) < int.from_bytes(data[4:8], "little") + 8
        case "bmp":
            return len(data) < int.from_bytes(data[2:6], "little")
        case "avif":
            return _boxes_end_early(data)
    return False


def _heif_format(data: bytes) -> str:
    size = int.from_bytes(data[:4], "big")
    brands = data[8 : min(max(size, 16), 512)]
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    return "heif" if any(brand in brands for brand in _HEIF_BRANDS) else "mp4"


def _gunzipped_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[:_HEAD_BYTES], _HEAD_BYTES)
    except zlib.error:
        return b""


def _sniff_markup(head: bytes) -> str:
    for bom, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(bom):
            head = head[2:].decode(encoding, errors="ignore").encode()
    head = head.removeprefix(b"\xef\xbb\xbf")
    prologue = _XML_PROLOGUE.match(head)
    if _SVG.match(head, prologue.end() if prologue else 0):
        return "svg"
    return "html" if _HTML.match(head.lstrip()) else ""


def _boxes_end_early(data: bytes) -> bool:
    """Return whether the last top-level ISO BMFF box claims more bytes than there are."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:  # this box runs to the end of the file
            return False
        if size < 8:
            return False
        at += size
    return at != len(data)
