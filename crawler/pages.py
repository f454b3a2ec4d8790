"""Pictures and further pages out of one page's HTML. Pure: nothing is fetched.

A picture counts once a page, at its largest: the full picture that a thumbnail links to, the largest
candidate of a srcset, the real address behind a lazy placeholder. Where they are looked for:

    elements.py      img, picture, a, video, input, svg, object, embed, AMP, CSS, og:image, preload
    structured.py    JSON-LD, microdata, RDFa
    script_state.py  the JSON that scripts carry
    css.py           style sheets, for whoever fetches those that `PageContent.style_sheets` lists
    feeds.py         RSS, Atom and sitemaps, which are no pages
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from lxml import html

from crawler.about import NOTHING_SAID, About
from crawler.addresses import Addresses, page_address
from crawler.consent import (
    PRODUCT,
    UNSAID,
    Consent,
    Headers,
    consent_from_headers,
    consent_from_html,
    may_follow_links,
)
from crawler.css import imported_sheets
from crawler.elements import element_pictures, license_link
from crawler.filenames import names_other_file, names_picture
from crawler.markup import parse_html
from crawler.script_state import runs, script_pictures
from crawler.sightings import Sightings
from crawler.structured import structured_pictures

__all__ = [
    "NOTHING_SAID",
    "About",
    "ImageLink",
    "PageContent",
    "extract_images",
    "extract_page_links",
    "read_page",
]

_FEED_TYPES = frozenset(
    {
        "application/rss+xml",
        "application/atom+xml",
        "application/rdf+xml",
        "text/xml",
        "application/xml",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLink:
    """A picture's address and how it was found."""

    url: str
    page_url: str
    """The page that shows it; empty when the address was given as such."""
    found_by: str
    """Where in the page: `img[src]`, `img[srcset]`, `a[href]`, `css`, `meta[og:image]`, `json-ld`,
    `microdata`, `script`, `browser`..."""
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
    style_sheets: tuple[str, ...] = ()
    """Sheets that it links to or imports; `crawler.css` reads them."""
    feeds: tuple[str, ...] = ()
    """RSS and Atom feeds that it names as its alternates."""
    next_pages: tuple[str, ...] = ()
    """Of `page_links`, those that continue the list that it shows: `rel=next`."""


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
    document = parse_html(html_text)
    addresses = Addresses(_base_url(document, page_url))
    consent = consent_from_headers(headers, url=page_url, user_agent=user_agent).merge(
        consent_from_html(document, url=page_url, user_agent=user_agent)
    )
    title = " ".join((document.findtext(".//title") or "").split())
    pictures = Sightings()
    for sights in chain(
        element_pictures(document, addresses),
        structured_pictures(document, addresses),
        script_pictures(document, addresses),
    ):
        pictures.take(sights)
    # HTML's rel=license speaks of the page's main content: of pictures that have no licence of theirs.
    of_page = About(license=addresses.resolve(license_link(document)) or "")
    follow = may_follow_links(document, headers, user_agent=user_agent)
    leads_to = list(_page_links(document, addresses)) if follow else []
    return PageContent(
        title=title,
        consent=consent,
        images=tuple(
            ImageLink(
                url=sight.url,
                page_url=page_url,
                found_by=sight.found_by,
                alt=sight.alt,
                page_title=title,
                about=sight.about.or_else(of_page),
                consent=consent,
            )
            for sight in pictures.best()
        ),
        passed_over=frozenset(pictures.better),
        page_links=tuple(dict.fromkeys(url for url, _ in leads_to)),
        next_pages=tuple(dict.fromkeys(url for url, is_next in leads_to if is_next)),
        has_script=any(runs(script) for script in document.iter("script")),
        style_sheets=tuple(dict.fromkeys(_style_sheets(document, addresses))),
        feeds=tuple(dict.fromkeys(_feeds(document, addresses))) if follow else (),
    )


def _base_url(document: html.HtmlElement, page_url: str) -> str:
    for base in document.iter("base"):
        if base.get("href"):
            return Addresses(page_url).resolve(base.get("href")) or page_url
    return page_url


def _page_links(document: html.HtmlElement, addresses: Addresses) -> Iterator[tuple[str, bool]]:
    """Yield the pages that a page leads to, and whether they are said to be its next."""
    for element in document.iter("a", "area", "link", "iframe", "frame"):
        rel = element.get("rel", "").lower().split()
        if "nofollow" in rel or (element.tag == "link" and "next" not in rel):
            continue
        url = addresses.resolve(element.get("src" if "frame" in element.tag else "href"))
        if url is not None and not names_picture(url) and not names_other_file(url):
            yield page_address(url), "next" in rel


def _style_sheets(document: html.HtmlElement, addresses: Addresses) -> Iterator[str]:
    """Yield the sheets that a screen uses: not those for print, and none that is switched off."""
    for element in document.iter("link", "style"):
        if element.tag == "style":
            yield from imported_sheets(element.text_content(), addresses.base_url)
            continue
        rel = element.get("rel", "").lower().split()
        if "stylesheet" in rel and element.get("media", "").strip().lower() != "print":
            url = addresses.resolve(element.get("href"))
            if url is not None:
                yield url


def _feeds(document: html.HtmlElement, addresses: Addresses) -> Iterator[str]:
    for link in document.iter("link"):
        kind = link.get("type", "").split(";")[0].strip().lower()
        if "alternate" in link.get("rel", "").lower().split() and kind in _FEED_TYPES:
            url = addresses.resolve(link.get("href"))
            if url is not None:
                yield url
