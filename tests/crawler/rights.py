"""Picture files that say something about their own use, made on the spot."""

from __future__ import annotations

import json
import struct
import zlib

from PIL.PngImagePlugin import PngInfo

from tests.crawler.pictures import encoded, picture

_PLUS = 'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'
_VOCABULARY = "http://ns.useplus.org/ldf/vocab/"


def xmp(properties: str, attributes: str = "") -> bytes:
    """Return an XMP packet whose one description has these properties and attributes."""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" {_PLUS} xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def mining(word: str) -> bytes:
    """Return an XMP packet with IPTC's data mining property, as exiftool writes it."""
    return xmp(f"<plus:DataMining>{_VOCABULARY}{word}</plus:DataMining>")


def mining_attribute(word: str) -> bytes:
    """Return the same as an attribute, as Adobe's tools write it."""
    return xmp("", f'plus:DataMining="{_VOCABULARY}{word}"')


def mining_resource(word: str) -> bytes:
    """Return the same as a reference."""
    return xmp(f'<plus:DataMining rdf:resource="{_VOCABULARY}{word}"/>')


def file_with_xmp(packet: bytes, format_name: str = "JPEG", *, compressed: bool = False) -> bytes:
    """Return a picture with that packet: JPEG, PNG (which permits compression), WEBP, AVIF or TIFF."""
    match format_name:
        case "PNG":
            chunks = PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=compressed)
            return encoded(picture(1), "PNG", pnginfo=chunks)
        case "TIFF":
            return encoded(picture(1), "TIFF", tiffinfo={700: packet})
        case _:
            return encoded(picture(1), format_name, xmp=packet)


def jpeg_with_c2pa(
    uses: dict[str, str], label: str = "c2pa.training-mining", segment_bytes: int = 60_000
) -> bytes:
    """Return a JPEG with a C2PA assertion on training, its boxes cut into segments of that size."""
    plain = encoded(picture(1), "JPEG")
    boxes = _manifest_store(uses, label)
    segments = b""
    for number, start in enumerate(range(0, len(boxes), segment_bytes), 1):
        piece = boxes[start : start + segment_bytes]
        if number > 1:
            piece = boxes[:8] + piece
        body = b"JP" + struct.pack(">HI", 1, number) + piece
        segments += b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body
    return plain[:2] + segments + plain[2:]


def png_with_c2pa(uses: dict[str, str], label: str = "cawg.training-mining") -> bytes:
    """Return a PNG with a C2PA assertion on training, in JSON, as the first version had it."""
    return _with_png_chunk(b"caBX", _manifest_store(uses, label, as_json=True))


def _with_png_chunk(kind: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body
    chunk += struct.pack(">I", zlib.crc32(kind + body))
    plain = encoded(picture(1), "PNG")
    return plain[:33] + chunk + plain[33:]


def _manifest_store(uses: dict[str, str], label: str, *, as_json: bool = False) -> bytes:
    prefix = label.partition(".")[0]
    entries = {f"{prefix}.{name}": {"use": use} for name, use in uses.items()}
    said = {"entries": entries}
    content = _box(b"json", json.dumps(said).encode()) if as_json else _box(b"cbor", _cbor(said))
    assertion = _superbox(b"cbor", label, content)
    # What a claim says about the assertion must not be taken for it.
    claim = _superbox(
        b"c2cl", "c2pa.claim", _box(b"cbor", _cbor({"url": f"self#jumbf=c2pa.assertions/{label}"}))
    )
    store = _superbox(b"c2as", "c2pa.assertions", assertion)
    return _superbox(b"c2pa", "c2pa", _superbox(b"c2ma", "urn:c2pa:1", claim + store))


def _superbox(kind: bytes, label: str, content: bytes) -> bytes:
    uuid = kind + bytes.fromhex("00110010800000aa00389b71")
    return _box(b"jumb", _box(b"jumd", uuid + b"\3" + label.encode() + b"\0") + content)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _cbor(value: object) -> bytes:
    match value:
        case str():
            text = value.encode()
            return (
                bytes([0x60 + len(text)]) if len(text) < 24 else bytes([0x78, len(text)])
            ) + text
        case dict():
            pairs = b"".join(_cbor(each) for pair in value.items() for each in pair)
            return bytes([0xA0 + len(value)]) + pairs
    raise TypeError(f"no CBOR for {value!r} here")
