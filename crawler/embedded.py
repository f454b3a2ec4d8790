"""What a picture file says about its own use: IPTC and PLUS in XMP, and C2PA's training assertion.

Follows the IPTC Photo Metadata Standard 2025.1 (plus:DataMining, with the PLUS vocabulary; rights and
licensor fields), the CAWG Training and Data Mining Assertion 1.1 and that of C2PA 1.x before it.

Statements are read wherever they stand in the bytes; signatures are not verified, as a refusal
needs no proof. XMP in UTF-16 is not read, nor what lies beyond the first segment of an extended one.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from crawler.about import NOTHING_SAID, About

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_PLUS = "{http://ns.useplus.org/ldf/xmp/1.0/}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
# Packets are some kilobytes; one that carries a thumbnail may reach a megabyte.
_MAX_PACKET = 2_000_000
_PNG_XMP = b"iTXtXML:com.adobe.xmp\0\1"
_ASSERTION = re.compile(rb"(?:c2pa|cawg)\.training-mining(?:__\d{1,4})?\0")
# Between an assertion's label and its content stand at most an id, a hash and a salt.
_MAX_DESCRIPTION = 512
_MAX_CBOR_DEPTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRights:
    """What one file says."""

    data_mining: str = ""
    """PLUS's word for what is prohibited: `DMI-PROHIBITED-AIMLTRAINING`, `DMI-ALLOWED`..."""
    training_mining: tuple[tuple[str, str], ...] = ()
    """C2PA's or CAWG's entries without their prefix, each with its use: `("ai_training", "notAllowed")`."""
    about: About = NOTHING_SAID


NO_RIGHTS = EmbeddedRights()


def read_rights(data: bytes) -> EmbeddedRights:
    """Return what the file `data` says about its use; nothing where it cannot be read.

    Never raises: the bytes come from strangers. Costs one search through them where there is nothing.
    """
    packet = _xmp_packet(data)
    root = _parse(packet) if packet else None
    entries = tuple(dict.fromkeys(_training_mining(data))) if b"training-mining" in data else ()
    if root is None:
        return EmbeddedRights(training_mining=entries) if entries else NO_RIGHTS
    return EmbeddedRights(
        data_mining=_value(root, _PLUS, "DataMining").rstrip("/").rsplit("/", 1)[-1],
        training_mining=entries,
        about=About(
            license=_value(root, _RIGHTS, "WebStatement") or _value(root, _RIGHTS, "UsageTerms"),
            creator=_value(root, _DC, "creator"),
            credit=_value(root, _PHOTOSHOP, "Credit") or _value(root, _DC, "rights"),
            acquire_license=_value(root, _PLUS, "LicensorURL"),
        ),
    )


def _xmp_packet(data: bytes) -> bytes:
    start = data.find(b"<x:xmpmeta")
    if start >= 0:
        end = data.find(b"</x:xmpmeta>", start, start + _MAX_PACKET)
        return data[start : end + 12] if end >= 0 else b""
    start = data.find(b"<rdf:RDF")
    if start >= 0:
        end = data.find(b"</rdf:RDF>", start, start + _MAX_PACKET)
        return data[start : end + 10] if end >= 0 else b""
    at = data.find(_PNG_XMP) if data.startswith(b"\x89PNG") else -1
    if at < 4:
        return b""
    # iTXt: keyword, 0, compressed?, method, language, 0, keyword translated, 0, text.
    length = int.from_bytes(data[at - 4 : at], "big")
    fields = data[at + len(_PNG_XMP) + 1 : at + 4 + length].split(b"\0", 2)
    try:
        return zlib.decompressobj().decompress(fields[-1], _MAX_PACKET)
    except zlib.error:
        return b""


def _parse(packet: bytes) -> etree._Element | None:
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, remove_pis=True
    )
    try:
        return etree.fromstring(packet, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _value(root: etree._Element, namespace: str, name: str) -> str:
    """Return an XMP property: an attribute, an element's text or resource, an array's items joined.

    Of alternatives by language the default one, which comes first, is the property's value.
    """
    for description in root.iter(f"{_RDF}Description", f"{_RDF}li"):
        if text := description.get(namespace + name):
            return " ".join(text.split())
    element = next(root.iter(namespace + name), None)
    if element is None:
        return ""
    if resource := element.get(f"{_RDF}resource"):
        return resource.strip()
    items = [" ".join((item.text or "").split()) for item in element.iter(f"{_RDF}li")]
    if next(element.iter(f"{_RDF}Alt"), None) is not None:
        items = items[:1]
    return ", ".join(filter(None, items)) or " ".join((element.text or "").split())


def _training_mining(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the entries of every training and data mining assertion."""
    data = _joined_jumbf(data)
    for label in _ASSERTION.finditer(data):
        window = data[label.end() : label.end() + _MAX_DESCRIPTION]
        box = re.search(rb"(....)(cbor|json)", window, re.DOTALL)
        if box is None:
            continue
        start = label.end() + box.end()
        payload = data[start : start - 8 + int.from_bytes(box[1], "big")]
        entries = _content(payload, is_cbor=box[2] == b"cbor")
        if isinstance(entries, dict) and isinstance(entries.get("entries"), dict):
            entries = entries["entries"]
        if not isinstance(entries, dict):
            continue
        for name, entry in entries.items():
            use = entry.get("use") if isinstance(entry, dict) else None
            if isinstance(name, str) and isinstance(use, str):
                yield name.rpartition(".")[2], use


def _joined_jumbf(data: bytes) -> bytes:
    """Return a JPEG's APP11 segments put together; other formats hold their boxes in one piece."""
    if not data.startswith(b"\xff\xd8"):
        return data
    pieces: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xEB and segment[:2] == b"JP":
            # Marker, box number, sequence number; from the second on the box's header again.
            first = int.from_bytes(segment[4:8], "big") <= 1
            pieces.append(segment[8:] if first else segment[16:])
        at += 2 + max(length, 2)
    return b"".join(pieces)


def _content(payload: bytes, *, is_cbor: bool) -> object:
    try:
        return _Cbor(payload).item(0) if is_cbor else json.loads(payload)
    except (ValueError, IndexError, RecursionError):
        return None


@dataclass(slots=True)
class _Cbor:
    """Reads as much of CBOR (RFC 8949) as assertions are written in. Raises ValueError, IndexError."""

    data: bytes
    at: int = 0

    def item(self, depth: int) -> object:
        if depth > _MAX_CBOR_DEPTH:
            raise ValueError("nested too deep")
        head = self.data[self.at]
        self.at += 1
        major, short = head >> 5, head & 31
        if short == 31 and major in {2, 3, 4, 5}:
            return self._endless(major, depth)
        if major == 7:
            self.at += {24: 1, 25: 2, 26: 4, 27: 8}.get(short, 0)
            return {20: False, 21: True}.get(short)
        number = self._number(short)
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2 | 3:
                return self._text(number, major)
            case 4:
                return [self.item(depth + 1) for _ in range(min(number, len(self.data)))]
            case 5:
                return self._map(
                    [self.item(depth + 1) for _ in range(min(2 * number, len(self.data)))]
                )
            case _:  # a tag: what it is put on counts
                return self.item(depth + 1)

    def _number(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise ValueError("reserved")
        size = 1 << (short - 24)
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("cut off")
        self.at += size
        return taken

    def _text(self, size: int, major: int) -> object:
        taken = self._take(size)
        return taken.decode("utf-8", errors="replace") if major == 3 else taken

    @staticmethod
    def _map(items: list[object]) -> dict[str, object]:
        pairs = zip(items[::2], items[1::2], strict=False)
        return {name: value for name, value in pairs if isinstance(name, str)}

    def _endless(self, major: int, depth: int) -> object:
        items: list[object] = []
        while self.data[self.at] != 0xFF:
            items.append(self.item(depth + 1))
        self.at += 1
        if major == 4:
            return items
        if major == 5:
            return self._map(items)
        return "".join(each for each in items if isinstance(each, str))
