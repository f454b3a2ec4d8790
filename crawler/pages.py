"""Pictures and further pages out of one page's HTML. Pure: nothing is fetched.

A picture counts once a page, at its largest: the full picture that a thumbnail links to, the largest
candidate of a srcset, the real address behind a lazy placeholder.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from urllib.parse import urlsplit

from lxml import etree, html

from crawler.addresses import Addresses
from crawler.consent import (
    PRODUCT,
    UNSAID,
    Consent,
    Headers,
    consent_from_headers,
    consent_from_html,
    may_follow_links,
)
from crawler.css import background_urls, picture_urls
from crawler.srcset import parse_srcset

# Where lazy loaders keep the address until the picture scrolls into view.
_LAZY = ("data-src", "data-original", "data-lazy", "data-lazy-src")
_LAZY_SRCSETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
# Where shops and galleries keep the large version for a zoom.
_ZOOM = ("data-zoom-image", "data-large_image", "data-orig-file", "data-full-url")
# Lazy backgrounds, each with the attribute that holds the same for fine screens.
_LAZY_BACKGROUNDS = (
    ("data-bg", "data-bg-hidpi"),
    ("data-bg-multi", "data-bg-multi-hidpi"),
    ("data-background", "data-background-hidpi"),
    ("data-background-image", "data-background-image-hidpi"),
)
_PREVIEWS = ("og:image", "og:image:url", "twitter:image", "twitter:image:src")
_PICTURE_NAME = re.compile(r"\.(?:jpe?g|jpe|jfif|png|webp|avif|gif|bmp|tiff?)$", re.IGNORECASE)
_OTHER_FILE = re.compile(
    r"\.(?:svgz?|ico|pdf|zip|t?gz|bz2|xz|7z|rar|dmg|exe|iso|apk|mp[34]|m4[av]|wav|ogg|og[av]|flac"
    r"|webm|avi|mov|mkv|woff2?|ttf|otf|eot|css|js|mjs|json|xml|rss|atom|csv|docx?|xlsx?|pptx?|epub)$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"(?:^|[/_.-])(?:spacer|blank|pixel|placeholder|transparent|loading|loader|lazy|1x1|empty)"
    r"(?:[._-][^/]*)?\.(?:gif|png|svg|jpe?g|webp)$",
    re.IGNORECASE,
)
# What kind of address a picture has, from a stand-in until a script runs to the page's own choice.
_PLACEHOLDER_RANK, _SHOWN, _ZOOMED, _LINKED = range(4)
_UNDECODABLE_TYPES = frozenset({"image/svg+xml", "image/jxl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a page, a feed or a table of addresses says about a picture, beside its alternative text.

    Claims as they were found, white space collapsed; nothing here was checked against the picture.
    """

    title: str = ""
    caption: str = ""
    anchor: str = ""
    """The text of the link that leads to it."""
    width: int | None = None
    """Declared, in pixels."""
    height: int | None = None
    license: str = ""
    """The address of a licence, or its name."""
    creator: str = ""
    credit: str = ""
    """The line that is to be shown with it; a copyright notice if there is no other."""
    acquire_license: str = ""
    """The page on which a licence may be had."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of a table of addresses, by name."""

    def to_json(self) -> str:
        """Return what is said as one line of JSON, without what is not: `{}` for nothing."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return json.dumps(said, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> About:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


NOTHING_SAID = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLink:
    """A picture's address and how it was found."""

    url: str
    page_url: str
    """The page that shows it; empty when the address was given as such."""
    found_by: str
    """Where in the page: `img[src]`, `img[srcset]`, `a[href]`, `css`, `meta[og:image]`, `browser`..."""
    alt: str = ""
    page_title: str = ""
    about: About = NOTHING_SAID
    consent: Consent = UNSAID
    """What the page said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What one page holds."""

    title: str
    consent: Consent
    images: tuple[ImageLink, ...]
    passed_over: frozenset[str]
    """Smaller versions and placeholders of `images`."""
    page_links: tuple[str, ...]
    """Pages that it leads to; none if its meta robots ask that they be left alone."""
    has_script: bool
    """Whether a script may show more than the HTML does."""


def extract_images(html_text: str, base_url: str) -> list[ImageLink]:
    """Return the pictures of a page that lies at `base_url`, each once, at its largest."""
    return list(read_page(html_text, base_url).images)


def extract_page_links(html_text: str, base_url: str) -> list[str]:
    """Return the addresses of pages that a page leads to, each once, without fragments."""
    return list(read_page(html_text, base_url).page_links)


def read_page(
    html_text: str, page_url: str, *, headers: Headers = (), user_agent: str = PRODUCT
) -> PageContent:
    """Return everything that a page at `page_url` holds; any text is a page, if an empty one.

    `headers` are the response's: what they forbid counts with what the page says itself.
    """
    document = _parse(html_text)
    addresses = Addresses(_base_url(document, page_url))
    consent = consent_from_headers(headers, url=page_url, user_agent=user_agent).merge(
        consent_from_html(document, url=page_url, user_agent=user_agent)
    )
    title = " ".join((document.findtext(".//title") or "").split())
    pictures = _Pictures(addresses)
    pictures.find(document)
    follow = may_follow_links(document, headers, user_agent=user_agent)
    return PageContent(
        title=title,
        consent=consent,
        images=tuple(
            ImageLink(
                url=url,
                page_url=page_url,
                found_by=sight.found_by,
                alt=sight.alt,
                page_title=title,
                about=About(title=sight.title),
                consent=consent,
            )
            for url, sight in pictures.found.items()
            if url not in pictures.better
        ),
        passed_over=frozenset(pictures.better),
        page_links=tuple(dict.fromkeys(_page_links(document, addresses))) if follow else (),
        has_script=any(_runs(script) for script in document.iter("script")),
    )


@dataclass(frozen=True, slots=True)
class _Sight:
    """One address at which a picture may be had."""

    url: str
    found_by: str
    alt: str = ""
    title: str = ""
    rank: tuple[float, ...] = (_SHOWN,)
    """The larger, the better: kind, width, density, laziness."""


@dataclass(slots=True)
class _Pictures:
    """Collects a page's pictures: `found`, in order, and which address is `better` than which."""

    addresses: Addresses
    found: dict[str, _Sight] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)

    def find(self, document: html.HtmlElement) -> None:
        """Take every picture of `document`; what people see first, as it has alternative texts."""
        twins = _noscript_twins(document)
        in_noscript = {twin for group in twins.values() for twin in group}
        for element in document.iter("a", "picture", "img", "input", "video"):
            match element.tag:
                case "a":
                    self._take(self._linked(element))
                case "video":
                    self._take(self._plain(element, "poster", "video[poster]"))
                case "input" if element.get("type", "").lower() == "image":
                    self._take(self._plain(element, "src", "input[src]"))
                case "picture" | "img" if element not in in_noscript and _whole(element) is element:
                    group = (element, *twins.get(element, ()))
                    self._take(sight for each in group for sight in self._shown(each))
        self._take_backgrounds(document)
        self._take_previews(document)

    def _take(self, sights: Iterable[_Sight]) -> None:
        """Take one picture, of which `sights` are the addresses."""
        sights = list(sights)
        if not sights:
            return
        best = max(sights, key=lambda each: each.rank)
        self.found.setdefault(best.url, best)
        for sight in sights:
            # Two elements that each call the other's address the smaller one must not lose both.
            if self._best(best.url) != sight.url:
                self.better.setdefault(sight.url, best.url)

    def _best(self, url: str) -> str:
        while url in self.better:
            url = self.better[url]
        return url

    def _linked(self, anchor: html.HtmlElement) -> Iterator[_Sight]:
        """Yield the full picture that a thumbnail or a text links to, and the thumbnail."""
        url = self.addresses.resolve(anchor.get("href"))
        if url is None or not _names_picture(url):
            return
        images = list(anchor.iter("img"))
        described = [anchor, *images]
        alt = next(filter(None, (_text(each, "alt") for each in described)), "")
        title = next(filter(None, (_text(each, "title") for each in described)), "")
        yield _Sight(url, "a[href]", alt, title, (_LINKED,))
        for image in images:
            yield from self._shown(_whole(image))

    def _shown(self, element: html.HtmlElement) -> Iterator[_Sight]:
        """Yield every address of an img or picture; none of a counting pixel."""
        images = list(element.iter("img"))
        if any(_is_counting_pixel(image) for image in images):
            return
        for image in images:
            yield from self._addresses_of(image, "img[{}]", image)
        for source in element.iter("source"):
            if source.get("type", "").strip().lower() not in _UNDECODABLE_TYPES:
                yield from self._addresses_of(
                    source, "picture source", images[0] if images else source
                )

    def _addresses_of(
        self, element: html.HtmlElement, found_by: str, described_by: html.HtmlElement
    ) -> Iterator[_Sight]:
        alt, title = _text(described_by, "alt"), _text(described_by, "title")

        def sight(raw: str, attribute: str, *rank: float) -> Iterator[_Sight]:
            url = self.addresses.resolve(raw, data_too=True)
            if url is not None:
                stands_in = url.startswith("data:") or _PLACEHOLDER.search(urlsplit(url).path)
                ranks = (_PLACEHOLDER_RANK,) if stands_in else rank
                yield _Sight(url, found_by.format(attribute), alt, title, ranks)

        for attribute in ("srcset", *_LAZY_SRCSETS):
            for each in parse_srcset(element.get(attribute, "")):
                yield from sight(each.url, attribute, _SHOWN, each.width, each.density)
        for attribute in _LAZY:
            yield from sight(element.get(attribute, ""), attribute, _SHOWN, 0, 1, 1)
        for attribute in _ZOOM:
            yield from sight(element.get(attribute, ""), attribute, _ZOOMED)
        yield from sight(element.get("src", ""), "src", _SHOWN, 0, 1)

    def _plain(self, element: html.HtmlElement, attribute: str, found_by: str) -> Iterator[_Sight]:
        url = self.addresses.resolve(element.get(attribute), data_too=True)
        if url is not None:
            yield _Sight(url, found_by, _text(element, "alt"), _text(element, "title"))

    def _take_backgrounds(self, document: html.HtmlElement) -> None:
        for element in document.iter(etree.Element):
            if element.tag == "style":
                self._take_css(background_urls(element.text_content()), "css")
            elif style := element.get("style"):
                self._take_css(background_urls(style), "css")
            for plain, fine in _LAZY_BACKGROUNDS:
                if value := element.get(plain):
                    empty: list[str] = []
                    layers = zip_longest(
                        _layers(element.get(fine, "")), _layers(value), fillvalue=empty
                    )
                    self._take_css((each[0] + each[1] for each in layers), f"[{plain}]")

    def _take_css(self, pictures: Iterable[list[str]], found_by: str) -> None:
        """Take backgrounds, each with its addresses, the finest first."""
        for raw_urls in pictures:
            urls = (self.addresses.resolve(raw, data_too=True) for raw in raw_urls)
            self._take(_Sight(url, found_by) for url in urls if url is not None)

    def _take_previews(self, document: html.HtmlElement) -> None:
        """Take what the page offers to those that show a link to it."""
        for meta in document.iter("meta"):
            name = (meta.get("property") or meta.get("name") or "").strip().lower()
            if name in _PREVIEWS:
                # Some sites say value where they mean content.
                attribute = "content" if meta.get("content") else "value"
                self._take(self._plain(meta, attribute, f"meta[{name}]"))
        for link in document.iter("link"):
            if "image_src" in link.get("rel", "").lower().split():
                self._take(self._plain(link, "href", "link[image_src]"))


def _parse(text: str) -> html.HtmlElement:
    # As bytes: a page that declares another encoding has been decoded already, and must not be
    # decoded twice. libxml2 stops at a NUL.
    data = text.replace("\0", "").encode("utf-8", errors="replace")
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        return html.document_fromstring(data, parser=parser)
    except etree.ParserError:  # no element in it
        return html.document_fromstring(b"<html></html>", parser=parser)


def _base_url(document: html.HtmlElement, page_url: str) -> str:
    for base in document.iter("base"):
        if base.get("href"):
            return Addresses(page_url).resolve(base.get("href")) or page_url
    return page_url


def _page_links(document: html.HtmlElement, addresses: Addresses) -> Iterator[str]:
    for element in document.iter("a", "area", "link", "iframe", "frame"):
        rel = element.get("rel", "").lower().split()
        if "nofollow" in rel or (element.tag == "link" and "next" not in rel):
            continue
        url = addresses.resolve(element.get("src" if "frame" in element.tag else "href"))
        if (
            url is not None
            and not _names_picture(url)
            and not _OTHER_FILE.search(urlsplit(url).path)
        ):
            yield url


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
            return not source or source.startswith("data:") or bool(_PLACEHOLDER.search(source))
    return False


def _whole(element: html.HtmlElement) -> html.HtmlElement:
    """Return the picture element around an img, or the element itself."""
    return next(element.iterancestors("picture"), element)


def _is_counting_pixel(image: html.HtmlElement) -> bool:
    """Return whether an img declares itself one or two pixels in size and loads nothing lazily."""
    sides = (image.get("width", ""), image.get("height", ""))
    return all(side.strip() in {"0", "1", "2"} for side in sides) and not any(
        image.get(name) for name in (*_LAZY, *_LAZY_SRCSETS)
    )


def _names_picture(url: str) -> bool:
    """Return whether an address ends like a picture's file name.

    A colon in the name is MediaWiki's: `File:Name.jpg` is the page about the picture.
    """
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    return bool(_PICTURE_NAME.search(name)) and ":" not in name and "%3a" not in name.lower()


def _runs(script: html.HtmlElement) -> bool:
    kind = script.get("type", "").strip().lower()
    return kind in {"", "module"} or kind.endswith(("javascript", "ecmascript"))


def _layers(value: str) -> list[list[str]]:
    """Return the backgrounds of a lazy attribute: CSS values, or one plain address."""
    if not value.strip():
        return []
    return picture_urls(value) if "(" in value else [[value]]


def _text(element: html.HtmlElement, attribute: str) -> str:
    return " ".join((element.get(attribute) or "").split())
