"""Pictures that a page's elements show, link to, or offer: HTML, SVG and AMP."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from lxml import html

from crawler.about import NOTHING_SAID, About
from crawler.addresses import Addresses
from crawler.css import background_urls, picture_urls
from crawler.filenames import names_other_file, names_picture, names_placeholder
from crawler.sightings import LINKED, PLACEHOLDER, SHOWN, ZOOMED, Sight
from crawler.srcset import parse_srcset

# Where lazy loaders keep the address until the picture scrolls into view.
_LAZY = (
    "data-src",
    "data-original",
    "data-lazy",
    "data-lazy-src",
    "data-lazyload",
    "data-ll-src",
    "data-echo",
    "data-cfsrc",
    "data-pagespeed-lazy-src",
    "data-flickity-lazyload",
    "data-actualsrc",
    "data-defer-src",
    "data-image",
    "data-img",
    "data-url",
)
_LAZY_SRCSETS = (
    "data-srcset",
    "data-lazy-srcset",
    "data-original-set",
    "data-flickity-lazyload-srcset",
)
# Where shops and galleries keep the large version for a zoom, the largest first.
_ZOOM = (
    "data-orig-file",
    "data-full-url",
    "data-zoom-image",
    "data-zoom-src",
    "data-zoom",
    "data-large_image",
    "data-large-file",
    "data-highres",
    "data-hi-res-src",
    "data-pagespeed-high-res-src",
)
# Lazy backgrounds, each with the attribute that holds the same for fine screens.
_LAZY_BACKGROUNDS = (
    ("data-bg", "data-bg-hidpi"),
    ("data-bg-multi", "data-bg-multi-hidpi"),
    ("data-background", "data-background-hidpi"),
    ("data-background-image", "data-background-image-hidpi"),
    ("data-bg-src", "data-bg-src-hidpi"),
    ("data-bg-image", "data-bg-image-hidpi"),
    ("data-setbg", "data-setbg-hidpi"),
)
_STYLED = (
    "descendant-or-self::*[self::style or @style or "
    + " or ".join(f"@{name}" for name, _ in _LAZY_BACKGROUNDS)
    + "]"
)
_PREVIEWS = (
    "og:image",
    "og:image:url",
    "og:image:secure_url",
    "twitter:image",
    "twitter:image:src",
)
_UNDECODABLE_TYPES = frozenset(
    {"image/svg+xml", "image/jxl", "image/heic", "image/heif", "image/jp2", "image/jxr"}
)
_PREVIEW_NAME = re.compile(r"(?:og|twitter):image(?::|$)")
# Elements with one picture: how it is found, and where its address may stand.
_PLAIN = {
    "video": ("video[poster]", "poster"),
    "amp-video": ("video[poster]", "poster"),
    "input": ("input[src]", "src"),
    # libxml2 knows no SVG: `image` stands for the element of both languages.
    "image": ("svg image", "href", "xlink:href", "src"),
}
_AMP = ("amp-img", "amp-anim")
_IMAGES = ("img", *_AMP)
_MIN_WIDTH = re.compile(r"min-width:\s*(\d{1,5})")
_TINY = re.compile(r"(?:^|[;\s])(?:width|height)\s*:\s*[012](?:px)?\s*(?:;|$)", re.IGNORECASE)


def element_pictures(document: html.HtmlElement, addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures of `document`, each as its addresses; what people see comes first."""
    reader = _Reader(addresses)
    yield from reader.shown(document)
    yield from reader.backgrounds(document)
    yield from reader.previews(document)


@dataclass(frozen=True, slots=True)
class _Reader:
    addresses: Addresses
    _figures: dict[html.HtmlElement, About] = field(default_factory=dict)

    def shown(self, document: html.HtmlElement) -> Iterator[list[Sight]]:
        twins = _noscript_twins(document)
        in_noscript = {twin for group in twins.values() for twin in group}
        for element in document.iter("a", "picture", *_IMAGES, *_PLAIN, "object", "embed"):
            match element.tag:
                case "a":
                    yield list(self._linked(element))
                case "object" | "embed":
                    yield list(self._embedded(element))
                case "picture" | "img" | "amp-img" | "amp-anim":
                    if element not in in_noscript and _whole(element) is element:
                        group = (element, *twins.get(element, ()))
                        yield [sight for each in group for sight in self._addresses(each)]
                case "input" if element.get("type", "").lower() != "image":
                    pass
                case tag:
                    found_by, *attributes = _PLAIN[tag]
                    yield list(self._plain(element, attributes, found_by))

    def backgrounds(self, document: html.HtmlElement) -> Iterator[list[Sight]]:
        for element in document.xpath(_STYLED):
            if element.tag == "style":
                yield from self._css(background_urls(element.text_content()), "css")
            elif style := element.get("style"):
                yield from self._css(background_urls(style), "css")
            for plain, fine in _LAZY_BACKGROUNDS:
                if value := element.get(plain):
                    empty: list[str] = []
                    layers = zip_longest(
                        _layers(element.get(fine, "")), _layers(value), fillvalue=empty
                    )
                    yield from self._css((each[0] + each[1] for each in layers), f"[{plain}]")

    def previews(self, document: html.HtmlElement) -> Iterator[list[Sight]]:
        """Yield what the page offers to those that show a link to it, and what it loads first."""
        yield from self._metas(document)
        for link in document.iter("link"):
            rel = link.get("rel", "").lower().split()
            if "image_src" in rel:
                yield list(self._plain(link, ("href",), "link[image_src]"))
            if "preload" in rel and link.get("as", "").lower() == "image" and _decodable(link):
                yield list(self._preloaded(link))

    def _metas(self, document: html.HtmlElement) -> Iterator[list[Sight]]:
        """Yield og:image and twitter:image, each with the properties that follow it (ogp.me)."""
        said: dict[str, dict[str, str]] = {"og": {}, "twitter": {}}
        for meta in document.iter("meta"):
            names = (meta.get("property") or meta.get("name") or "").lower().split()
            name = next((each for each in names if _PREVIEW_NAME.match(each)), "")
            site = name.partition(":")[0]
            if not site:
                continue
            if name in _PREVIEWS and name in said[site]:
                yield list(self._preview(site, said[site]))
                said[site] = {}
            # Some sites say value where they mean content.
            said[site][name] = " ".join((meta.get("content") or meta.get("value") or "").split())
        for site, properties in said.items():
            yield list(self._preview(site, properties))

    def _preview(self, site: str, said: dict[str, str]) -> Iterator[Sight]:
        about = About(
            width=_pixels(said.get(f"{site}:image:width")),
            height=_pixels(said.get(f"{site}:image:height")),
        )
        alt = said.get(f"{site}:image:alt", "")
        for name in _PREVIEWS:
            if name in said:
                # The same picture by https, for those that need it so.
                rank = (SHOWN, float(name.endswith("secure_url")))
                yield from self._sight(said[name], f"meta[{name}]", alt, about, rank)

    def _preloaded(self, link: html.HtmlElement) -> Iterator[Sight]:
        for each in parse_srcset(link.get("imagesrcset", "")):
            rank = (SHOWN, each.width, each.density)
            yield from self._sight(each.url, "link[preload]", rank=rank)
        # A page's own vector graphics are preloaded more often than its pictures.
        if not names_other_file(link.get("href", "")):
            yield from self._plain(link, ("href",), "link[preload]")

    def _linked(self, anchor: html.HtmlElement) -> Iterator[Sight]:
        """Yield the full picture that a thumbnail or a text links to, and the thumbnail."""
        url = self.addresses.resolve(anchor.get("href"))
        if url is None or not names_picture(url):
            return
        images = [_whole(each) for each in anchor.iter(*_IMAGES)]
        alt = next(filter(None, (_text(each, "alt") for each in anchor.iter())), "")
        title = next(filter(None, (_text(each, "title") for each in anchor.iter())), "")
        about = About(title=title, anchor=_words(anchor)).or_else(self._figure(anchor))
        for image in images:
            about = about.or_else(self._figure(image))
        yield Sight(url, "a[href]", alt, about, (LINKED,))
        for image in images:
            yield from self._addresses(image)

    def _addresses(self, element: html.HtmlElement) -> Iterator[Sight]:
        """Yield every address of an img, a picture or its AMP kin; none of a counting pixel."""
        images = list(element.iter(*_IMAGES))
        if any(_is_counting_pixel(image) for image in images):
            return
        for image in images:
            yield from self._candidates(image, image.tag + "[{}]", image)
        for source in element.iter("source"):
            if _decodable(source):
                yield from self._candidates(
                    source, "picture source", images[0] if images else source
                )

    def _candidates(
        self, element: html.HtmlElement, found_by: str, described_by: html.HtmlElement
    ) -> Iterator[Sight]:
        alt = _text(described_by, "alt")
        said = About(title=_text(described_by, "title")).or_else(self._figure(described_by))
        size = _pixels(described_by.get("width")), _pixels(described_by.get("height"))
        # What a page keeps for wide screens is the larger one.
        screen = _MIN_WIDTH.search(element.get("media", ""))
        min_width = int(screen[1]) if screen else 0

        def sight(raw: str, attribute: str, *rank: float, width: int = 0) -> Iterator[Sight]:
            declared = (width, None) if width else size
            about = dataclasses.replace(said, width=declared[0], height=declared[1])
            yield from self._sight(raw, found_by.format(attribute), alt, about, rank)

        real = False
        for attribute in ("srcset", *_LAZY_SRCSETS):
            lazy = attribute != "srcset"
            for each in parse_srcset(element.get(attribute, "")):
                rank = (SHOWN, each.width, each.density, lazy, min_width)
                yield from sight(each.url, attribute, *rank, width=each.width)
                real = True
        for attribute in _LAZY:
            if value := element.get(attribute):
                yield from sight(_widest(value, element), attribute, SHOWN, 0, 1, 1, 0)
                real = True
        for attribute in _ZOOM:
            if value := element.get(attribute):
                yield from sight(value, attribute, ZOOMED)
                real = True
        source = element.get("src", "")
        yield from sight(source, "src", SHOWN, 0, 1, 0, 0)
        if not real and (not source or names_placeholder(source)):
            # A loader that is not known here: whatever attribute of it names a picture.
            for attribute, value in element.items():
                if attribute.startswith("data-") and names_picture(value.strip()):
                    yield from sight(value, attribute, SHOWN, 0, 1, 1, 0)

    def _embedded(self, element: html.HtmlElement) -> Iterator[Sight]:
        """Yield what an object or embed shows, if it calls it a picture or it is named like one."""
        attribute = "data" if element.tag == "object" else "src"
        kind = element.get("type", "").strip().lower()
        url = self.addresses.resolve(element.get(attribute), data_too=True)
        if url is None or kind in _UNDECODABLE_TYPES:
            return
        if kind.startswith("image/") or (not kind and (url[:5] == "data:" or names_picture(url))):
            yield from self._plain(element, (attribute,), f"{element.tag}[{attribute}]")

    def _plain(
        self, element: html.HtmlElement, attributes: Iterable[str], found_by: str
    ) -> Iterator[Sight]:
        """Yield the picture that the first of `attributes` to say something names."""
        raw = next(filter(None, (element.get(name) for name in attributes)), "")
        about = About(title=_text(element, "title")).or_else(self._figure(element))
        yield from self._sight(raw, found_by, _text(element, "alt"), about)

    def _figure(self, element: html.HtmlElement) -> About:
        """Return the caption and the licence that the figure around `element` gives to it."""
        figure = next(element.iterancestors("figure"), None)
        if figure is None:
            return NOTHING_SAID
        if figure not in self._figures:
            caption = next(
                (
                    _words(each)
                    for each in figure.iter("figcaption")
                    if next(each.iterancestors("figure")) is figure
                ),
                "",
            )
            licence = self.addresses.resolve(license_link(figure)) or ""
            self._figures[figure] = About(caption=caption, license=licence)
        return self._figures[figure]

    def _css(self, pictures: Iterable[list[str]], found_by: str) -> Iterator[list[Sight]]:
        """Yield backgrounds, each with its addresses, the finest first."""
        for raw_urls in pictures:
            yield [sight for raw in raw_urls for sight in self._sight(raw, found_by, rank=(SHOWN,))]

    def _sight(
        self,
        raw: str,
        found_by: str,
        alt: str = "",
        about: About = NOTHING_SAID,
        rank: tuple[float, ...] = (SHOWN,),
    ) -> Iterator[Sight]:
        url = self.addresses.resolve(raw, data_too=True)
        if url is not None:
            if names_placeholder(url):
                rank = (PLACEHOLDER,)
            yield Sight(url, found_by, alt, about, rank)


def _noscript_twins(document: html.HtmlElement) -> dict[html.HtmlElement, list[html.HtmlElement]]:
    """Return, for each lazy picture, those in the noscript beside it: the same without a script."""
    twins: dict[html.HtmlElement, list[html.HtmlElement]] = {}
    for noscript in document.iter("noscript"):
        inside = [each for each in noscript.iter("picture", "img") if _whole(each) is each]
        # The noscript stands after its picture, or before it when that one has its own already.
        for neighbour in (noscript.getprevious(), noscript.getnext()):
            if neighbour is None or not inside:
                continue
            beside = next(neighbour.iter("picture", "img"), None)
            if beside is not None and beside not in twins and _is_lazy(beside):
                twins[beside] = inside
                break
    return twins


def _is_lazy(element: html.HtmlElement) -> bool:
    for image in element.iter("img", "source"):
        if any(image.get(name) for name in (*_LAZY, *_LAZY_SRCSETS)):
            return True
        source = image.get("src", "")
        if image.tag == "img" and not image.get("srcset"):
            return not source or names_placeholder(source)
    return False


def _whole(element: html.HtmlElement) -> html.HtmlElement:
    """Return the picture or AMP element around an img, or the element itself."""
    return next(element.iterancestors("picture", *_AMP), element)


def _is_counting_pixel(image: html.HtmlElement) -> bool:
    """Return whether an img declares itself one or two pixels in size and loads nothing lazily."""
    if any(image.get(name) for name in (*_LAZY, *_LAZY_SRCSETS)):
        return False
    sides = (image.get("width", ""), image.get("height", ""))
    tiny = [side.strip().removesuffix("px") in {"0", "1", "2"} for side in sides]
    return all(tiny) or len(_TINY.findall(image.get("style", ""))) > 1


def _decodable(element: html.HtmlElement) -> bool:
    return element.get("type", "").strip().lower() not in _UNDECODABLE_TYPES


def _widest(value: str, element: html.HtmlElement) -> str:
    """Return a lazy address with its `{width}` filled in, as lazysizes does from data-widths."""
    if "{width}" not in value:
        return value
    try:
        widths = json.loads(element.get("data-widths", ""))
        return re.sub(r"\{width\}", str(max(int(width) for width in widths)), value)
    except (ValueError, TypeError):  # none, or nothing that can be a width
        return ""


def license_link(element: html.HtmlElement) -> str:
    """Return the address of the first rel=license in `element`, as it is written; "" if none."""
    for link in element.iter("a", "link", "area"):
        if "license" in link.get("rel", "").lower().split():
            return str(link.get("href", "")).strip()
    return ""


def _layers(value: str) -> list[list[str]]:
    """Return the backgrounds of a lazy attribute: CSS values, or one plain address."""
    if not value.strip():
        return []
    return picture_urls(value) if "(" in value else [[value]]


def _words(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _text(element: html.HtmlElement, attribute: str) -> str:
    return " ".join((element.get(attribute) or "").split())


def _pixels(value: str | None) -> int | None:
    """Return a declared size in pixels; None for a share, nonsense, or none."""
    text = (value or "").strip().lower().removesuffix("px")
    return int(text) if re.fullmatch(r"0*[1-9][0-9]{0,5}", text) else None
