"""Pictures and pages out of feeds and sitemaps. Pure: nothing is fetched or unpacked.

Follows RSS 2.0 (rssboard.org), RSS 1.0, Atom (RFC 4287), Media RSS (rssboard.org/media-rss), iTunes'
image, sitemaps.org and Google's image sitemaps. What is not well formed is read as far as it can be.
A document type is cut out before anything is parsed: no entity expands, and no DTD is loaded.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from lxml import etree

from crawler.about import About
from crawler.addresses import Addresses, page_address
from crawler.elements import element_pictures
from crawler.filenames import names_ornament, names_other_file, names_picture
from crawler.markup import parse_html, words
from crawler.pages import ImageLink
from crawler.sightings import PLACEHOLDER, SHOWN, Sight, Sightings

_MEDIA = "http://search.yahoo.com/mrss"
_TEXTS = frozenset({"description", "encoded", "content", "summary"})
"""Elements that hold a story's HTML: RSS description, content:encoded, Atom content and summary."""

_DOCTYPE = re.compile(rb"<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedContent:
    """What one feed holds."""

    images: tuple[ImageLink, ...]
    """In the feed's order, which is newest first by custom; `page_url` is the entry's page."""
    page_links: tuple[str, ...]
    """The entries' pages, and the feed's next page (RFC 5005)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitemapContent:
    """What one sitemap, or index of sitemaps, holds."""

    images: tuple[ImageLink, ...]
    page_links: tuple[str, ...]
    sitemaps: tuple[str, ...]
    """Further sitemaps, some of them gzip files."""


def read_feed(data: bytes, url: str) -> FeedContent:
    """Return what the RSS or Atom feed at `url` holds; nothing if it is none."""
    root = _parse(data, url)
    images: list[ImageLink] = []
    pages: dict[str, None] = {}
    if root is None:
        return FeedContent(images=(), page_links=())
    for entry in root.iter("{*}item", "{*}entry"):
        addresses = Addresses(entry.base or url)
        page = page_address(next(_links(entry, addresses, "alternate"), ""))
        if page:
            pages[page] = None
        images += _entry_images(entry, addresses, page or url)
    for feed in root.iter("{*}channel", "{*}feed"):
        pages |= dict.fromkeys(_links(feed, Addresses(feed.base or url), "next"))
    return FeedContent(images=_each_once(images), page_links=tuple(pages))


def read_sitemap(data: bytes, url: str) -> SitemapContent:
    """Return what the sitemap at `url` holds: urlset, sitemapindex, or one address a line."""
    root = _parse(data, url)
    addresses = Addresses(url)
    images: list[ImageLink] = []
    pages: dict[str, None] = {}
    sitemaps: dict[str, None] = {}
    if root is None:
        for line in data.decode("utf-8-sig", errors="replace").splitlines():
            if re.match(r"\s*https?://\S+\s*$", line) and (page := addresses.resolve(line)):
                pages[page_address(page)] = None
    else:
        for entry in root.iter("{*}sitemap"):
            if sitemap := addresses.resolve(_child(entry, "loc")):
                sitemaps[sitemap] = None
        for entry in root.iter("{*}url"):
            page = page_address(addresses.resolve(_child(entry, "loc")) or "")
            if page:
                pages[page] = None
            images += _sitemap_images(entry, addresses, page or url)
    return SitemapContent(
        images=_each_once(images), page_links=tuple(pages), sitemaps=tuple(sitemaps)
    )


def _parse(data: bytes, url: str) -> etree._Element | None:
    """Return the root of an XML document, mended where it is broken; None if it is no XML."""
    if not re.match(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*<", data):
        return None
    parser = etree.XMLParser(
        recover=True,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(_DOCTYPE.sub(b"", data.lstrip(), count=1), parser, base_url=url)
    except (etree.XMLSyntaxError, ValueError):  # nothing to mend; a NUL in it
        return None


def _entry_images(
    entry: etree._Element, addresses: Addresses, page_url: str
) -> Iterator[ImageLink]:
    """Yield the pictures of one story, first what it is illustrated with, then those in its text."""
    title = _child(entry, "title")
    pictures = Sightings()
    for sights in chain(
        _media(entry, addresses, title),
        _attached(entry, addresses, title),
        _in_text(entry, addresses),
    ):
        pictures.take(sights)
    for sight in pictures.best():
        yield ImageLink(
            url=sight.url,
            page_url=page_url,
            found_by=sight.found_by,
            alt=sight.alt,
            page_title=title,
            about=sight.about,
        )


def _media(entry: etree._Element, addresses: Addresses, title: str) -> Iterator[list[Sight]]:
    """Yield Media RSS's pictures: the contents of a group are one, those beside each other are not.

    A thumbnail counts where there is nothing that it could be the thumbnail of.
    """
    thumbnails = [each for each in entry if _is_media(each, "thumbnail")]
    contents: list[tuple[Iterable[etree._Element], etree._Element]]
    contents = [(each, each) for each in entry if _is_media(each, "group")]
    contents += [([each], entry) for each in entry if _is_media(each, "content")]
    pictures = [list(_media_sights(*each, addresses, title)) for each in contents]
    pictures = [sights for sights in pictures if sights]
    shown = list(_media_sights(thumbnails, entry, addresses, title))
    if pictures:
        pictures[0] += shown
    elif shown:
        pictures.append(shown)
    yield from pictures


def _media_sights(
    elements: Iterable[etree._Element], around: etree._Element, addresses: Addresses, title: str
) -> Iterator[Sight]:
    """Yield the addresses that media:content and media:thumbnail give, the latter as lesser ones."""
    for element in elements:
        url = addresses.resolve(element.get("url"))
        is_content = _is_media(element, "content")
        if is_content:
            # What a picture's thumbnail or words are may stand in it.
            yield from _media_sights(element, element, addresses, title)
        kind = element.get("medium") or element.get("type", "").split("/")[0].lower()
        if not is_content and not _is_media(element, "thumbnail"):
            continue
        if url is None or names_ornament(url) or names_other_file(url):
            continue
        if is_content and kind != "image" and (kind or not names_picture(url)):
            continue
        width, height = _integer(element.get("width")), _integer(element.get("height"))
        yield Sight(
            url,
            "media:content" if is_content else "media:thumbnail",
            about=About(
                title=_media_word(element, around, "title") or title,
                caption=_media_word(element, around, "description"),
                creator=_media_word(element, around, "credit"),
                credit=_media_word(element, around, "copyright"),
                license=_license(element, around, addresses),
                width=width or None,
                height=height or None,
            ),
            rank=(SHOWN if is_content else PLACEHOLDER, width),
        )


def _attached(entry: etree._Element, addresses: Addresses, title: str) -> Iterator[list[Sight]]:
    """Yield enclosures and a story's own image."""
    for element in entry:
        name = etree.QName(element).localname
        kind = element.get("type", "").lower()
        if name == "enclosure" or (name == "link" and element.get("rel") == "enclosure"):
            url = addresses.resolve(element.get("url") or element.get("href"))
            if url and (kind.startswith("image/") or (not kind and names_picture(url))):
                yield [Sight(url, "feed enclosure", about=About(title=title))]
        elif name == "image":
            # iTunes has an attribute, others an address or a <url>.
            url = addresses.resolve(
                element.get("href") or _child(element, "url") or (element.text or "")
            )
            if url and not names_other_file(url):
                yield [Sight(url, "feed image", about=About(title=title))]


def _in_text(entry: etree._Element, addresses: Addresses) -> Iterator[list[Sight]]:
    """Yield the pictures of a story's HTML, escaped or not."""
    for element in entry:
        if etree.QName(element).localname not in _TEXTS or element.get("type", "") == "text":
            continue
        text = element.text or ""
        if len(element):
            text = etree.tostring(element, encoding="unicode", method="html")
        if "<" in text:
            for sights in element_pictures(parse_html(text), addresses):
                yield [dataclasses.replace(each, found_by="feed content") for each in sights]


def _sitemap_images(
    entry: etree._Element, addresses: Addresses, page_url: str
) -> Iterator[ImageLink]:
    """Yield the pictures that Google's extension lists for one page; a video's thumbnail as well."""
    for image in entry.iter("{*}image"):
        url = addresses.resolve(_child(image, "loc"))
        if url and not names_other_file(url):
            licence = _child(image, "license")
            yield ImageLink(
                url=url,
                page_url=page_url,
                found_by="sitemap image",
                about=About(
                    title=_child(image, "title"),
                    caption=_child(image, "caption"),
                    license=addresses.resolve(licence) or licence,
                ),
            )
    for thumbnail in entry.iter("{*}thumbnail_loc"):
        url = addresses.resolve(thumbnail.text)
        if url and not names_other_file(url):
            yield ImageLink(url=url, page_url=page_url, found_by="sitemap video")


def _links(entry: etree._Element, addresses: Addresses, rel: str) -> Iterator[str]:
    """Yield the addresses of `rel` links; RSS's plain link is the alternate."""
    for link in entry.iterchildren("{*}link"):
        if (link.get("rel") or "alternate") == rel:
            url = addresses.resolve(link.get("href") or link.text)
            if url is not None:
                yield url


def _each_once(images: list[ImageLink]) -> tuple[ImageLink, ...]:
    return tuple({image.url: image for image in reversed(images)}.values())[::-1]


def _is_media(element: etree._Element, name: str) -> bool:
    qualified = etree.QName(element)
    return qualified.localname == name and (qualified.namespace or "").rstrip("/") == _MEDIA


def _media_word(element: etree._Element, around: etree._Element, name: str) -> str:
    """Return the words of a Media RSS element in `element`, or else beside it."""
    for holder in (element, around):
        for each in holder:
            if _is_media(each, name):
                return _words(each)
    return ""


def _license(element: etree._Element, around: etree._Element, addresses: Addresses) -> str:
    for holder in (element, around):
        for each in holder:
            if _is_media(each, "license"):
                return addresses.resolve(each.get("href")) or words(each.text or "")
    return ""


def _child(element: etree._Element, name: str) -> str:
    """Return the text of the first child of that name, in whatever namespace but Media RSS's."""
    for child in element.iterchildren(f"{{*}}{name}"):
        if not _is_media(child, name):
            return _words(child)
    return ""


def _words(element: etree._Element) -> str:
    return words(etree.tostring(element, method="text", encoding="unicode", with_tail=False))


def _integer(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else 0
