"""What an answer to a page request holds: a page, a feed, a sitemap, or a picture itself."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from scrapy.http import HtmlResponse, Response

from crawler.addresses import web_address
from crawler.browser import Rendered
from crawler.consent import UNSAID, Consent, consent_from_headers
from crawler.feeds import read_feed, read_sitemap
from crawler.filenames import names_placeholder
from crawler.ledger import Page
from crawler.pages import ImageLink, PageContent, read_page
from crawler.spiders.network import is_feed, is_page
from crawler.transport import BodyTooLarge

# sitemaps.org: no more than 50 MB, unpacked.
_MAX_UNPACKED_BYTES = 50_000_000
_SITEMAP_ROOT = re.compile(rb"<(?:\w+:)?(?:urlset|sitemapindex)[\s>]")
_FEED_ROOT = re.compile(rb"<(?:rss|feed|rdf:RDF)[\s>]", re.IGNORECASE)
_ROOT_WITHIN = 4096
# What a page offers to those that show a link to it, or loads ahead: its scripts may show more.
_PREVIEWS = ("meta[", "link[", "json-ld", "microdata")
# The element that an application draws itself into, still empty: what stands around it is a frame.
_EMPTY_APPLICATION = re.compile(
    r"""<(?:div|main|section)\b[^>]*\bid\s*=\s*["']?(?:root|app|app-root|application|__next|__nuxt"""
    r"""|___gatsby|react-root|main-app|gallery-root|svelte)["']?[^>]*>\s*</"""
    r"""|<app-root\b[^>]*>\s*</app-root""",
    re.IGNORECASE,
)
# A frame's own pictures: a logo, a banner.
_FEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What one answer holds."""

    images: tuple[ImageLink, ...] = ()
    page_links: tuple[str, ...] = ()
    next_pages: frozenset[str] = frozenset()
    """Of `page_links`, those that go on with the same list."""
    feeds: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()
    style_sheets: tuple[str, ...] = ()
    title: str = ""
    consent: Consent = UNSAID
    passed_over: frozenset[str] = frozenset()
    """Smaller versions of `images`, and what stands in for them."""
    wants_browser: bool = False
    """Whether it shows too little, and has a script that may show more."""


def read_response(
    page: Page, response: Response, *, user_agent: str, rendered: Rendered | None = None
) -> Holdings:
    """Return what the answer to the request for `page` holds; nothing for a file of another kind.

    `rendered` is what the browser made of it, if it was shown there.

    Raises `BodyTooLarge` for a packed sitemap that unpacks to too much.
    """
    content_type = (response.headers.get("Content-Type") or b"").decode("latin-1")
    if page.kind != "page" or is_feed(content_type):
        return _listed(page, response)
    if isinstance(response, HtmlResponse):
        return _page(response, user_agent, rendered)
    if content_type.strip().lower().startswith("image/"):
        consent = consent_from_headers(_pairs(response), url=response.url, user_agent=user_agent)
        itself = ImageLink(
            url=response.url, page_url=page.parent, found_by="a[href]", consent=consent
        )
        return Holdings(images=(itself,), consent=consent)
    return Holdings()


def as_scrapy(url: str, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> Response:
    """Return an answer as Scrapy has it; only a page becomes an `HtmlResponse`."""
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    content_type = next(
        (values[0] for name, values in by_name.items() if name.lower() == "content-type"), ""
    )
    kind = HtmlResponse if body and is_page(content_type) else Response
    return kind(url, status=status, headers=by_name, body=body)


def _listed(page: Page, response: Response) -> Holdings:
    """Return what a feed or sitemap lists.

    What its headers say is not about the pictures: sites keep feeds out of search results as a
    matter of course (`X-Robots-Tag: noindex`), and mean no more by it.
    """
    data = _unpacked(response.body)
    root = data[:_ROOT_WITHIN]
    if page.kind == "sitemap" or _SITEMAP_ROOT.search(root):
        sitemap = read_sitemap(data, response.url)
        return Holdings(
            images=sitemap.images, page_links=sitemap.page_links, sitemaps=sitemap.sitemaps
        )
    if page.kind == "feed" or _FEED_ROOT.search(root):
        feed = read_feed(data, response.url)
        return Holdings(images=feed.images, page_links=feed.page_links)
    return Holdings()


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(data, _MAX_UNPACKED_BYTES)
    except zlib.error:
        return b""  # packed in name only: it lists nothing
    if unpacking.unconsumed_tail:
        raise BodyTooLarge(f"it unpacks to more than {_MAX_UNPACKED_BYTES} bytes")
    return unpacked


def _page(response: HtmlResponse, user_agent: str, rendered: Rendered | None) -> Holdings:
    headers = _pairs(response)
    content = read_page(response.text, response.url, headers=headers, user_agent=user_agent)
    images = content.images
    if rendered is not None:
        images = _each_once(
            (*images, *_framed(content, rendered, response.url, user_agent)), content.passed_over
        )
        images += tuple(_only_loaded(content, images, rendered, response.url))
    return Holdings(
        images=images,
        page_links=content.page_links,
        next_pages=frozenset(content.next_pages),
        feeds=content.feeds,
        style_sheets=content.style_sheets,
        title=content.title,
        consent=content.consent,
        passed_over=content.passed_over,
        wants_browser=content.has_script and _shows_too_little(content, response.text),
    )


def _shows_too_little(content: PageContent, text: str) -> bool:
    """Return whether a page, as served, hardly shows a picture.

    It shows none, previews and placeholders aside; or at most a few beside an element that a script
    has yet to fill.
    """
    shown = [
        image
        for image in content.images
        if not image.found_by.startswith(_PREVIEWS) and not names_placeholder(image.url)
    ]
    return not shown or (len(shown) <= _FEW and bool(_EMPTY_APPLICATION.search(text)))


def _framed(
    content: PageContent, rendered: Rendered, page_url: str, user_agent: str
) -> Iterator[ImageLink]:
    """Yield the pictures of the frames within a page; what the page forbids counts for them too."""
    for url, html in rendered.frames:
        for image in read_page(html, url, user_agent=user_agent).images:
            consent = content.consent.merge(image.consent)
            yield dataclasses.replace(image, page_url=page_url, consent=consent)


def _only_loaded(
    content: PageContent, images: tuple[ImageLink, ...], rendered: Rendered, page_url: str
) -> Iterator[ImageLink]:
    """Yield the pictures that the browser loaded and no HTML shows."""
    known = {image.url for image in images} | content.passed_over
    for loaded in rendered.pictures:
        url = web_address(loaded)
        if url is not None and url not in known:
            yield ImageLink(
                url=url,
                page_url=page_url,
                found_by="browser",
                page_title=content.title,
                consent=content.consent,
            )


def _each_once(images: tuple[ImageLink, ...], passed_over: frozenset[str]) -> tuple[ImageLink, ...]:
    first: dict[str, ImageLink] = {}
    for image in images:
        if image.url not in passed_over:
            first.setdefault(image.url, image)
    return tuple(first.values())


def _pairs(response: Response) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]
