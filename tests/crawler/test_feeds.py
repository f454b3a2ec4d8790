"""Pictures and pages out of feeds and sitemaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.about import About
from crawler.feeds import FeedContent, SitemapContent, read_feed, read_sitemap

FEED = "https://shop.example/feeds/new.xml"
_NAMESPACES = """xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
 xmlns:content="http://purl.org/rss/1.0/modules/content/" """


def _rss(item: str) -> FeedContent:
    text = f"""<?xml version="1.0" encoding="utf-8"?><rss version="2.0" {_NAMESPACES}><channel>
      <title>New</title><image><url>/logo.png</url></image>
      <item><title>A record</title><link>/records/1?utm_source=rss</link>{item}</item></channel></rss>"""
    return read_feed(text.encode(), FEED)


def _found(content: FeedContent | SitemapContent) -> list[tuple[str, str]]:
    return [
        (image.url.removeprefix("https://shop.example"), image.found_by) for image in content.images
    ]


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ('<enclosure url="/a.jpg" type="image/jpeg" length="9"/>', [("/a.jpg", "feed enclosure")]),
        ('<enclosure url="/a.jpg" length="9"/>', [("/a.jpg", "feed enclosure")]),
        ('<enclosure url="/a.mp3" type="audio/mpeg" length="9"/>', []),
        ('<atom:link rel="enclosure" type="image/png" href="/a"/>', [("/a", "feed enclosure")]),
        ('<media:content url="/a" medium="image"/>', [("/a", "media:content")]),
        ('<media:content url="/a.mp4" type="video/mp4"><media:thumbnail url="/a.jpg"/></media:content>',
         [("/a.jpg", "media:thumbnail")]),
        # Beside each other they are several pictures, in a group they are one.
        ('<media:content url="/a.jpg"/><media:content url="/b.jpg"/><media:thumbnail url="/t.jpg"/>',
         [("/a.jpg", "media:content"), ("/b.jpg", "media:content")]),
        ("""<media:group><media:content url="/s.jpg" width="100"/><media:content url="/l.jpg" width="900"/>
            </media:group>""", [("/l.jpg", "media:content")]),
        ('<media:thumbnail url="/a.jpg"/>', [("/a.jpg", "media:thumbnail")]),
        ('<media:content url="https://0.gravatar.com/avatar/7f?s=96" medium="image"/>', []),
        ('<itunes:image href="/a.jpg"/>', [("/a.jpg", "feed image")]),
        ('<description>&lt;img src="/s.jpg" srcset="/l.jpg 2x"&gt; text</description>',
         [("/l.jpg", "feed content")]),
        ('<content:encoded><![CDATA[<a href="/l.jpg"><img src="/s.jpg"></a>]]></content:encoded>',
         [("/l.jpg", "feed content")]),
        ('<enclosure url="/a.jpg" type="image/jpeg"/><description>&lt;img src="/a.jpg"&gt;</description>',
         [("/a.jpg", "feed enclosure")]),
        ("<description>no picture</description>", []),
    ],
)  # fmt: skip
def test_rss(item: str, found: list[tuple[str, str]]) -> None:
    """The feed's own logo is no picture of a story."""
    content = _rss(item)
    assert _found(content) == found
    assert content.page_links == ("https://shop.example/records/1",)
    assert all(image.page_url == content.page_links[0] for image in content.images)
    assert all(image.page_title == "A record" for image in content.images)


def test_atom() -> None:
    """Bases, XHTML within, and the next page of the feed (RFC 5005)."""
    text = b"""<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://shop.example/blog/">
      <link rel="self" href="feed"/><link rel="next" href="feed?page=2"/>
      <entry xml:base="2026/"><title>One</title><link href="one"/><link rel="related" href="two"/>
      <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><img src="a.jpg" alt="A"/></div></content>
      <summary type="text">&lt;img src="no.jpg"&gt;</summary></entry></feed>"""
    content = read_feed(text, FEED)
    assert _found(content) == [("/blog/2026/a.jpg", "feed content")]
    assert content.images[0].alt == "A"
    assert content.page_links == (
        "https://shop.example/blog/2026/one",
        "https://shop.example/blog/feed?page=2",
    )


def test_what_media_rss_says_comes_along() -> None:
    content = _rss("""<media:content url="/a.jpg" medium="image" width="900" height="600">
      <media:title>Blue</media:title><media:description>The  sleeve</media:description>
      <media:credit>Ann</media:credit><media:license href="/terms">CC BY</media:license></media:content>""")
    assert content.images[0].about == About(
        title="Blue", caption="The sleeve", creator="Ann", license="https://shop.example/terms", width=900, height=600
    )  # fmt: skip


def test_a_sitemap_with_pictures() -> None:
    text = b"""<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
      xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"
      xmlns:video="http://www.google.com/schemas/sitemap-video/1.1">
      <url><loc> https://shop.example/1 </loc><image:image><image:loc>https://cdn.example/a.jpg</image:loc>
      <image:caption>C</image:caption><image:license>https://shop.example/terms</image:license></image:image>
      <image:image><image:loc>/b.jpg</image:loc></image:image></url>
      <url><loc>https://shop.example/2</loc><video:video>
      <video:thumbnail_loc>/c.jpg</video:thumbnail_loc></video:video></url></urlset>"""
    content = read_sitemap(text, "https://shop.example/sitemap.xml")
    assert _found(content) == [
        ("https://cdn.example/a.jpg", "sitemap image"),
        ("/b.jpg", "sitemap image"),
        ("/c.jpg", "sitemap video"),
    ]
    assert content.images[0].about == About(caption="C", license="https://shop.example/terms")
    assert content.page_links == ("https://shop.example/1", "https://shop.example/2")
    assert content.images[0].page_url == "https://shop.example/1"


def test_an_index_of_sitemaps() -> None:
    """Also one that is cut off."""
    text = b"""<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
      <sitemap><loc>https://shop.example/a.xml.gz</loc></sitemap><sitemap><loc>/b.xml</loc></sitemap><site"""
    content = read_sitemap(text, "https://shop.example/sitemap.xml")
    assert content.sitemaps == ("https://shop.example/a.xml.gz", "https://shop.example/b.xml")
    assert content.page_links == ()


def test_a_sitemap_of_plain_lines() -> None:
    text = b"\xef\xbb\xbfhttps://shop.example/1\r\nhttps://shop.example/2\n\nnonsense\n"
    content = read_sitemap(text, "https://shop.example/sitemap.txt")
    assert content.page_links == ("https://shop.example/1", "https://shop.example/2")


_LOLS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
_ENTITIES = f"""<!DOCTYPE rss [<!ENTITY secret SYSTEM "file:///etc/hostname">
  <!ENTITY a0 "/lol.jpg">{_LOLS}]>"""


def test_entities_are_neither_expanded_nor_fetched() -> None:
    """A billion lols and a file of this machine; the rest of the feed is read."""
    text = f"""{_ENTITIES}<rss><channel><item><title>&a9;&secret;!</title><link>/1</link>
      <enclosure url="/a.jpg" type="image/jpeg"/></item></channel></rss>"""
    content = read_feed(text.encode(), FEED)
    assert [(image.url, image.page_title) for image in content.images] == [
        ("https://shop.example/a.jpg", "!")
    ]


_NOTHING_FED = FeedContent(images=(), page_links=())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f\x8b\x08\0",
        b"<!doctype html><title>404</title>",
        b"{}",
        b"<rss><channel>",
        b"<\0>",
    ],
)
def test_what_is_no_feed(data: bytes) -> None:
    assert read_feed(data, FEED) == _NOTHING_FED
    assert read_sitemap(data, FEED) == SitemapContent(images=(), page_links=(), sitemaps=())


@given(st.binary(max_size=60))
def test_any_bytes_are_read(data: bytes) -> None:
    read_feed(b"<rss><item><link>/1</link><description>" + data, FEED)
    read_sitemap(b"<urlset><url><loc>" + data, FEED)
