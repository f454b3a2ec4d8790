"""Pictures in a page's structured data: JSON-LD, microdata and RDFa, in schema.org's words.

Follows schema.org (ImageObject, image, contentUrl, thumbnailUrl) and Google's image licence metadata
(license, acquireLicensePage, creditText, creator, copyrightNotice), which are IPTC's fields by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from lxml import html

from crawler.about import NOTHING_SAID, About
from crawler.addresses import Addresses
from crawler.filenames import names_other_file, names_picture
from crawler.markup import words
from crawler.script_state import pictures_in_text
from crawler.sightings import PLACEHOLDER, SHOWN, Sight

_IMAGE_TYPES = frozenset({"imageobject", "photograph", "barcode", "imageobjectsnapshot"})
# Properties whose values are pictures, or objects that describe one; thumbnails are lesser ones.
_THUMBNAILS = frozenset({"thumbnail", "thumbnailurl"})
_PICTURES = frozenset({"image", "photo", "images", "primaryimageofpage"}) | _THUMBNAILS
# What belongs to whoever made the page, and not to what it shows.
_NOT_SHOWN = frozenset({"logo", "publisher", "author", "provider", "ispartof"})
# A page has some dozen objects; what goes beyond this is not meant for reading.
_MAX_NODES = 20_000
_WRAPPED = re.compile(r"^\s*(?:<!--|//\s*<!\[CDATA\[|/\*\s*<!\[CDATA\[\s*\*/|<!\[CDATA\[)")
_UNWRAPPED = re.compile(r"(?:-->|//\s*\]\]>|/\*\s*\]\]>\s*\*/|\]\]>)\s*;?\s*$")


def structured_pictures(document: html.HtmlElement, addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures that structured data names, each as its addresses."""
    for script in document.iter("script"):
        if script.get("type", "").split(";")[0].strip().lower() == "application/ld+json":
            yield from _json_ld(script.text or "", addresses)
    yield from _microdata(document, addresses)


def _json_ld(text: str, addresses: Addresses) -> Iterator[list[Sight]]:
    text = _UNWRAPPED.sub("", _WRAPPED.sub("", text)).strip().rstrip(";")
    try:
        # Line breaks within strings are the commonest fault.
        root = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        for raw in pictures_in_text(text):
            yield list(_sights(raw, "json-ld", addresses, NOTHING_SAID))
        return
    left: list[Any] = [root]
    for _ in range(_MAX_NODES):
        if not left:
            return
        node = left.pop()
        if isinstance(node, list):
            left += reversed(node)
        elif isinstance(node, dict):
            yield from _node_pictures(node, addresses)
            left += [
                value
                for key, value in reversed(node.items())
                if isinstance(value, dict | list) and _name(key) not in _NOT_SHOWN
            ]


def _node_pictures(node: Mapping[str, Any], addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures that one JSON-LD object names itself; the objects in it come separately."""
    if _is_image(node):
        about = _about(node, addresses)
        main = [
            sight
            for key in ("contentUrl", "url", "@id", "image")
            for raw in _strings(node.get(key))
            if key != "@id" or names_picture(raw)
            for sight in _sights(raw, "json-ld", addresses, about)
        ][:1]
        small = [
            sight
            for key in ("thumbnailUrl", "thumbnail")
            for raw in _strings(node.get(key))
            for sight in _sights(raw, "json-ld", addresses, about, PLACEHOLDER)
        ]
        yield main + small
        return
    about = About(title=_text(node.get("name")) or _text(node.get("headline")))
    shown: list[list[Sight]] = []
    thumbnails: list[list[Sight]] = []
    for key, value in node.items():
        if (name := _name(key)) in _PICTURES:
            for raw in _strings(value):
                rank = PLACEHOLDER if name in _THUMBNAILS else SHOWN
                sights = list(_sights(raw, "json-ld", addresses, about, rank))
                (thumbnails if name in _THUMBNAILS else shown).append(sights)
    if shown:
        shown[0] += chain.from_iterable(thumbnails)
    yield from shown or thumbnails


def _is_image(node: Mapping[str, Any]) -> bool:
    kinds = [_name(kind) for kind in _strings(node.get("@type"))]
    if kinds:
        return any(kind in _IMAGE_TYPES for kind in kinds)
    # An object without a type that has an address and a size is a picture's.
    return "contentUrl" in node or ("url" in node and "width" in node and "height" in node)


def _about(node: Mapping[str, Any], addresses: Addresses) -> About:
    licence, acquire = (_reference(node.get(key)) for key in ("license", "acquireLicensePage"))
    return About(
        title=_text(node.get("name")) or _text(node.get("headline")),
        caption=_text(node.get("caption")) or _text(node.get("description")),
        width=_size(node.get("width")),
        height=_size(node.get("height")),
        license=addresses.resolve(licence) or licence if "/" in licence else licence,
        creator=_people(node.get("creator")) or _people(node.get("author")),
        credit=_text(node.get("creditText")) or _text(node.get("copyrightNotice")),
        acquire_license=addresses.resolve(acquire) or "",
    )


def _microdata(document: html.HtmlElement, addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures of itemprop and of RDFa's property, with what their item says of them."""
    for element in document.xpath("//*[@itemprop or @property]"):
        names = {
            _name(name)
            for name in f"{element.get('itemprop', '')} {element.get('property', '')}".split()
            if not name.lower().startswith(("og:", "twitter:"))
        }
        item = next(element.iterancestors(), None)
        while item is not None and item.get("itemscope") is None and not item.get("typeof"):
            item = item.getparent()
        kinds = "" if item is None else f"{item.get('itemtype', '')} {item.get('typeof', '')}"
        of_image = any(_name(kind) in _IMAGE_TYPES for kind in kinds.split())
        if names & _PICTURES or (of_image and names & {"contenturl", "url"}):
            if element.get("itemscope") is not None or element.get("typeof"):
                continue  # an object, whose own properties say where the picture is
            about = _item_about(item, addresses) if of_image and item is not None else NOTHING_SAID
            small = bool(of_image and names & _THUMBNAILS)
            rank = PLACEHOLDER if small else SHOWN
            yield list(_sights(_value(element), "microdata", addresses, about, rank))


def _item_about(item: html.HtmlElement, addresses: Addresses) -> About:
    said: dict[str, Any] = {}
    for element in item.xpath(".//*[@itemprop or @property]"):
        for name in f"{element.get('itemprop', '')} {element.get('property', '')}".split():
            said.setdefault(name.rpartition(":")[2], _value(element) or element.text_content())
    return _about(said, addresses)


def _value(element: html.HtmlElement) -> str:
    """Return an element's property value where it is an address or hidden; "" where it is text."""
    for attribute in ("content", "src", "href", "data", "resource"):
        value: str | None = element.get(attribute)
        if value:
            return value
    return ""


def _sights(
    raw: str, found_by: str, addresses: Addresses, about: About, rank: int = SHOWN
) -> Iterator[Sight]:
    url = addresses.resolve(raw, data_too=True)
    if url is not None and not names_other_file(url):
        yield Sight(url, found_by, about=about, rank=(rank,))


def _name(name: str) -> str:
    """Return a type's or property's own name: of `https://schema.org/image`, `schema:image`."""
    return re.split(r"[/#:]", name)[-1].lower()


def _strings(value: object) -> Iterator[str]:
    """Yield a value that is a string, or the strings of a list."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict) and isinstance(each.get("@value"), str):
            yield each["@value"]


def _reference(value: object) -> str:
    """Return an address given as such or as an object that has one; "" if there is none."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            return words(each)
        if isinstance(each, dict):
            return _reference(each.get("url") or each.get("@id") or each.get("name"))
    return ""


def _people(value: object) -> str:
    """Return names, with commas between."""
    people = value if isinstance(value, list) else [value]
    names = [_text(each.get("name") if isinstance(each, dict) else each) for each in people]
    return ", ".join(filter(None, names))


def _text(value: object) -> str:
    return words(next(_strings(value), ""))


def _size(value: object) -> int | None:
    """Return a size in pixels, which may be a number, "640px" or a QuantitativeValue."""
    if isinstance(value, dict):
        value = value.get("value")
    match = re.match(
        r"\s*([1-9][0-9]{0,5})(?:\.0*)?\s*(?:px|pixels?)?\s*$", str(value), re.IGNORECASE
    )
    return int(match[1]) if match else None
