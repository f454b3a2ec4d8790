"""Pictures and links out of HTML, each picture once and at its largest."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.pages import NOTHING_SAID, About, extract_images, extract_page_links, read_page
from crawler.rejections import Reason
from crawler.srcset import largest, parse_srcset

PAGE = "https://shop.example/records/list.html"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


def _names(html: str) -> list[str]:
    """Return what was found, as file names on the page's own folder where it lies there."""
    return [
        image.url.removeprefix("https://shop.example/records/")
        for image in extract_images(html, PAGE)
    ]


@pytest.mark.parametrize(
    ("html", "name", "found_by"),
    [
        ('<img src="a.jpg">', "a.jpg", "img[src]"),
        ('<img src=" a.jpg\n">', "a.jpg", "img[src]"),
        ('<img src="a.jpg#top">', "a.jpg", "img[src]"),
        ('<img src="a b.jpg">', "a%20b.jpg", "img[src]"),
        (r'<img src="pics\a.jpg">', "pics/a.jpg", "img[src]"),
        ('<img srcset="s.jpg 300w, l.jpg 900w" src="s.jpg">', "l.jpg", "img[srcset]"),
        ('<img srcset="s.jpg, l.jpg 2x">', "l.jpg", "img[srcset]"),
        (f'<img src="{PIXEL}" data-src="a.jpg">', "a.jpg", "img[data-src]"),
        ('<img src="/img/spacer.gif" data-original="a.jpg">', "a.jpg", "img[data-original]"),
        ('<img src="blurred.jpg" data-lazy="a.jpg">', "a.jpg", "img[data-lazy]"),
        ('<img data-srcset="s.jpg 1x, l.jpg 2x">', "l.jpg", "img[data-srcset]"),
        ('<img srcset="s.jpg 900w" data-zoom-image="z.jpg">', "z.jpg", "img[data-zoom-image]"),
        ('<input type="image" src="a.jpg">', "a.jpg", "input[src]"),
        ('<video poster="a.jpg"><source src="a.mp4"></video>', "a.jpg", "video[poster]"),
        ('<a href="full.jpg">see</a>', "full.jpg", "a[href]"),
        ('<a href="full.jpg"><img src="thumb.jpg"></a>', "full.jpg", "a[href]"),
        ('<a href="F.JPEG?v=2"><img data-src="t.jpg"></a>', "F.JPEG?v=2", "a[href]"),
        ('<p style="background: #fff url(a.jpg) no-repeat">', "a.jpg", "css"),
        ("<p style=\"background-image:url('a;b.jpg')\">", "a;b.jpg", "css"),
        ("<style>.x{color:red;background:url( a.jpg )}</style>", "a.jpg", "css"),
        ("<style>.x{--hero:url(a.jpg)}</style>", "a.jpg", "css"),
        ('<p style=\'background:image-set("s.jpg" 1x, "l.jpg" 2x)\'>', "l.jpg", "css"),
        ("<p style='background:image-set(url(s.jpg) 1x, url(l.jpg) 2x)'>", "l.jpg", "css"),
        ('<p data-bg="a.jpg">', "a.jpg", "[data-bg]"),
        ('<p data-bg="url(a.jpg)">', "a.jpg", "[data-bg]"),
        ('<p data-bg="s.jpg" data-bg-hidpi="l.jpg">', "l.jpg", "[data-bg]"),
        ('<meta property="og:image" content="a.jpg">', "a.jpg", "meta[og:image]"),
        ('<meta name="twitter:image" content="a.jpg">', "a.jpg", "meta[twitter:image]"),
        ('<link rel="image_src" href="a.jpg">', "a.jpg", "link[image_src]"),
        (
            '<meta property="og:image:secure_url x:image" content="a.jpg">',
            "a.jpg",
            "meta[og:image:secure_url]",
        ),
        ('<link rel="preload" as="image" href="a.jpg">', "a.jpg", "link[preload]"),
        (
            '<link rel="preload" as="image" href="s.jpg" imagesrcset="s.jpg 1x, l.jpg 2x">',
            "l.jpg",
            "link[preload]",
        ),
        ('<svg><image href="a.jpg"/></svg>', "a.jpg", "svg image"),
        ('<svg><image xlink:href="a.jpg"/></svg>', "a.jpg", "svg image"),
        ('<object data="a.jpg" type="image/jpeg"></object>', "a.jpg", "object[data]"),
        ('<object data="a.jpg"></object>', "a.jpg", "object[data]"),
        ('<embed src="a" type="image/png">', "a", "embed[src]"),
        ('<amp-img src="s.jpg" srcset="s.jpg 1x, l.jpg 2x"></amp-img>', "l.jpg", "amp-img[srcset]"),
        ('<amp-anim src="a.gif"></amp-anim>', "a.gif", "amp-anim[src]"),
        (
            '<amp-img src="a.jpg"><noscript><img src="a.jpg"></noscript></amp-img>',
            "a.jpg",
            "amp-img[src]",
        ),
        ('<amp-video poster="a.jpg" src="a.mp4"></amp-video>', "a.jpg", "video[poster]"),
        (f'<img src="{PIXEL}" data-of-no-name="a.jpg">', "a.jpg", "img[data-of-no-name]"),
        (
            '<img data-src="a_{width}x.jpg" data-widths="[180, 720, 360]">',
            "a_720x.jpg",
            "img[data-src]",
        ),
        ('<img src="s.jpg" srcset="blurred.jpg" data-srcset="l.jpg">', "l.jpg", "img[data-srcset]"),
        ('<p data-setbg="a.jpg">', "a.jpg", "[data-setbg]"),
        ('<script type="application/ld+json">{"image": "a.jpg"}</script>', "a.jpg", "json-ld"),
        ('<script>x = {"image": "a.jpg"}</script>', "a.jpg", "script"),
    ],
)
def test_where_a_picture_is_found(html: str, name: str, found_by: str) -> None:
    """One picture, at its best address, with the place that gave it."""
    (image,) = extract_images(html, PAGE)
    assert image.url == urljoin(PAGE, name)
    assert image.found_by == found_by
    assert image.page_url == PAGE


@pytest.mark.parametrize(
    "html",
    [
        "",
        "   ",
        "just text",
        '<img src="">',
        '<img src="#">',
        '<img src="javascript:void(0)">',
        '<img src="http://[broken">',
        '<img src="blob:https://shop.example/1">',
        '<img width="1" height="1" src="https://count.example/t?id=1">',
        '<a href="page.html"><b>text</b></a>',
        '<a href="mailto:me@shop.example">write</a>',
        '<link rel="icon" href="favicon.png">',
        "<style>@font-face{src:url(a.woff)} .x{cursor:url(a.cur)}</style>",
        '<svg><rect style="fill:url(#g)"/></svg>',
        "<p style='background:linear-gradient(red, blue)'>",
        "<!-- <img src='a.jpg'> -->",
        '<img style="width:1px; height: 1px" src="https://count.example/t?id=1">',
        '<img src="{{ picture }}"><img src="${picture}.jpg">',
        '<img data-src="a_{width}x.jpg">',
        '<link rel="preload" as="image" href="logo.svg"><link rel="preload" as="font" href="a.png">',
        '<link rel="preload" as="image" type="image/jxl" href="a">',
        '<object data="film.swf"></object><embed src="song" type="audio/ogg">',
        '<object data="a.svg" type="image/svg+xml"></object>',
        '<script>track("https://count.example/pixel?id=1"); load("app.js")</script>',
    ],
)
def test_what_is_no_picture(html: str) -> None:
    assert extract_images(html, PAGE) == []


@pytest.mark.parametrize(
    "html",
    [
        # A picture element and its formats.
        """<picture><source type="image/webp" srcset="s.webp 300w"><source srcset="best.jpg 900w">
           <img src="s.jpg" alt="x"></picture>""",
        # Formats without sizes: the one that every program reads.
        """<picture><source type="image/avif" srcset="a.avif"><img src="best.jpg"></picture>""",
        # What cannot be decoded does not count.
        """<picture><source type="image/jxl" srcset="a.jxl 900w"><img src="best.jpg"></picture>""",
        # Thumbnail and full picture, the thumbnail shown a second time elsewhere.
        """<a href="best.jpg"><img src="t.jpg" srcset="t2.jpg 2x"></a><img src="t.jpg">""",
        """<img src="t.jpg"><a href="best.jpg"><picture><source srcset="t.webp"><img src="t.jpg">
           </picture></a>""",
        # A lazy picture and its twin for browsers without scripts, on either side.
        f"""<img src="{PIXEL}" data-src="best.jpg"><noscript><img src="best.jpg"></noscript>""",
        f"""<img class="lazy" src="{PIXEL}"><noscript><img src="best.jpg"></noscript>""",
        """<noscript><img src="best.jpg" srcset="s.jpg 5w"></noscript>
           <img data-srcset="s.jpg 5w, best.jpg 9w">""",
        # The same address in several places.
        """<meta property="og:image" content="best.jpg"><img src="best.jpg" alt="x">
           <p style="background:url(best.jpg)">""",
        # One address in two spellings, and with a visitor's traces.
        """<img src="best.jpg"><img src="HTTPS://SHOP.example:443/records/./best.jpg#x">
           <img src="best.jpg?utm_source=feed">""",
        # What a page keeps for wide screens is the larger one.
        """<picture><source media="(min-width: 800px)" srcset="best.jpg"><source srcset="m.jpg">
           <img src="s.jpg"></picture>""",
        """<meta property="og:image" content="http://shop.example/records/best.jpg">
           <meta property="og:image:secure_url" content="best.jpg">""",
        """<script type="application/ld+json">{"@type": "ImageObject", "contentUrl": "best.jpg",
           "thumbnailUrl": "t.jpg"}</script><img src="t.jpg">""",
        # A smaller candidate of one picture shown on its own.
        """<img srcset="s.jpg 1x, best.jpg 2x"><img src="s.jpg">""",
    ],
)
def test_a_picture_counts_once_a_page(html: str) -> None:
    assert _names(html) == ["best.jpg"]


def test_lazy_pictures_in_a_row_keep_their_own_twins() -> None:
    """In either order of picture and noscript."""
    lazy = f'<img src="{PIXEL}">'
    after = "".join(f'{lazy}<noscript><img src="{n}.jpg"></noscript>' for n in "abc")
    before = "".join(f'<noscript><img src="{n}.jpg"></noscript>{lazy}' for n in "abc")
    assert _names(f"<div>{after}</div>") == ["a.jpg", "b.jpg", "c.jpg"]
    assert _names(f"<div>{before}</div>") == ["a.jpg", "b.jpg", "c.jpg"]


def test_two_elements_that_disagree_about_the_larger_one_lose_no_picture() -> None:
    """Each calls the other's address the smaller one; one of the two stays."""
    assert _names('<img srcset="a.jpg 1x, b.jpg 2x"><img srcset="b.jpg 1x, a.jpg 2x">') == ["b.jpg"]


def test_a_wiki_page_about_a_file_is_no_picture() -> None:
    """`File:Name.jpg` is HTML: the thumbnail is all that the page has of the picture."""
    html = '<a href="/wiki/File:Disc.jpg"><img src="/thumb/Disc.jpg"></a>'
    assert [image.found_by for image in extract_images(html, PAGE)] == ["img[src]"]
    assert extract_page_links(html, PAGE) == ["https://shop.example/wiki/File:Disc.jpg"]


def test_a_lone_data_address_is_kept_as_it_is() -> None:
    """Nothing better is known, and it may be the picture itself."""
    (image,) = extract_images(f'<img src="{PIXEL}">', PAGE)
    assert image.url == PIXEL


def test_the_base_element_moves_addresses_and_not_the_page() -> None:
    (image,) = extract_images('<base href="/img/"><img src="a.jpg">', PAGE)
    assert image.url == "https://shop.example/img/a.jpg"
    assert image.page_url == PAGE


def test_words_about_a_picture_come_along() -> None:
    """Also when the full picture is linked and the words stand with the thumbnail."""
    html = """<title> Used
      records</title><a href="f.jpg"><img src="t.jpg" alt="Blue  Train" title="LP"></a>"""
    (image,) = extract_images(html, PAGE)
    assert (image.alt, image.about.title, image.page_title) == ("Blue Train", "LP", "Used records")


def _about(html: str) -> About:
    (image,) = extract_images(html, PAGE)
    return image.about


@pytest.mark.parametrize(
    ("html", "about"),
    [
        (
            '<figure><img src="a.jpg"><figcaption>A <b>fine</b>\nrecord</figcaption></figure>',
            About(caption="A fine record"),
        ),
        (
            """<figure><figure><img src="a.jpg"></figure><figcaption>Of the group</figcaption></figure>""",
            NOTHING_SAID,
        ),
        ('<a href="a.jpg">Large  version</a>', About(anchor="Large version")),
        (
            """<figure><a href="a.jpg"><img src="s.jpg"></a><figcaption>C</figcaption></figure>""",
            About(caption="C"),
        ),
        ('<img src="a.jpg" width="640" height="480px">', About(width=640, height=480)),
        ('<img src="a.jpg" width="100%" height="-1">', NOTHING_SAID),
        ('<img srcset="s.jpg 320w, a.jpg 960w" width="320" height="240">', About(width=960)),
        (
            """<meta property="og:image" content="a.jpg"><meta property="og:image:width" content="1200">
            <meta property="og:image:height" content="630">""",
            About(width=1200, height=630),
        ),
        (
            '<link rel="license" href="/terms"><img src="a.jpg">',
            About(license="https://shop.example/terms"),
        ),
        (
            """<a rel="license" href="/site">x</a><figure><img src="a.jpg">
            <a rel="nofollow license" href="/own">x</a></figure>""",
            About(license="https://shop.example/own"),
        ),
        ('<img src="a.jpg" title="LP"><script>x = {"image": "a.jpg"}</script>', About(title="LP")),
    ],
)
def test_what_is_said_about_a_picture(html: str, about: About) -> None:
    """Caption, anchor, declared size, licence: by what is nearest to it."""
    assert _about(html) == about


def test_og_alt_is_that_of_its_own_picture() -> None:
    html = """<meta property="og:image" content="a.jpg"><meta property="og:image:alt" content="A">
      <meta property="og:image" content="b.jpg"><meta property="og:image:alt" content="B">"""
    assert [image.alt for image in extract_images(html, PAGE)] == ["A", "B"]


def test_style_sheets_and_feeds_are_listed_for_those_that_fetch_them() -> None:
    """What a screen uses; feeds only where links may be followed."""
    html = """<link rel="stylesheet" href="a.css"><link rel="stylesheet" media="print" href="p.css">
      <style>@import "b.css";</style><link rel="icon" href="i.png">
      <link rel="alternate" type="application/rss+xml" href="/feed"><link rel="alternate" hreflang="de" href="/de">"""
    content = read_page(html, PAGE)
    assert content.style_sheets == (
        "https://shop.example/records/a.css",
        "https://shop.example/records/b.css",
    )
    assert content.feeds == ("https://shop.example/feed",)
    assert read_page('<meta name="robots" content="nofollow">' + html, PAGE).feeds == ()


def test_what_the_page_forbids_goes_with_each_picture() -> None:
    html = '<meta name="robots" content="noimageai"><img src="a.jpg">'
    (image,) = extract_images(html, PAGE)
    assert image.consent.reason is Reason.META_ROBOTS
    assert image.consent.signals[0].where == PAGE


def test_what_the_headers_forbid_goes_with_each_picture() -> None:
    content = read_page('<img src="a.jpg">', PAGE, headers=[("X-Robots-Tag", "noai")])
    assert content.images[0].consent.reason is Reason.X_ROBOTS_TAG


def test_page_links() -> None:
    """Pages only, each once, without fragments, and none that asks to be left alone."""
    html = """<head><link rel="next" href="?page=2"><link rel="stylesheet" href="s.css"></head>
      <a href="a.html">1</a><a href="a.html?utm_source=x#x">2</a><a href="full.jpg">3</a><a href="x.pdf">4</a>
      <a href="b.html" rel="nofollow">5</a><a href="javascript:go()">6</a><a href="//other.example">7</a>
      <map><area href="c.html"></map><iframe src="d.html"></iframe><a>8</a>"""
    assert extract_page_links(html, PAGE) == [
        "https://shop.example/records/list.html?page=2",
        "https://shop.example/records/a.html",
        "https://other.example/",
        "https://shop.example/records/c.html",
        "https://shop.example/records/d.html",
    ]


def test_no_links_of_a_page_that_asks_for_it() -> None:
    html = '<meta name="robots" content="nofollow"><a href="a.html">a</a><img src="a.jpg">'
    assert extract_page_links(html, PAGE) == []
    assert _names(html) == ["a.jpg"]


@pytest.mark.parametrize(
    ("html", "runs"),
    [
        ("<script>go()</script>", True),
        ('<script type="module" src="a.js"></script>', True),
        ('<script type="application/ld+json">{}</script>', False),
        ("<p>", False),
    ],
)
def test_whether_a_script_may_show_more(html: str, runs: bool) -> None:
    assert read_page(html, PAGE).has_script is runs


@given(
    st.text(alphabet=st.sampled_from("<>/\"'= \0\x0c\ud800aimgsrcset&;:(){}-!,.[]#"), max_size=80)
)
def test_any_text_is_a_page(text: str) -> None:
    """Broken markup, NULs and lone surrogates included: nothing is raised, addresses are absolute."""
    content = read_page(f'<img src="{text}"><a href="{text}">{text}', PAGE)
    assert all(image.url.startswith(("http", "data:")) for image in content.images)


def test_a_document_of_great_depth_is_read() -> None:
    assert _names("<div>" * 1500 + '<img src="a.jpg">') == ["a.jpg"]


def test_srcset_as_browsers_read_it(shared: Path) -> None:
    """56 cases of the web platform tests; in them the largest is also what a browser picks."""
    cases = json.loads((shared / "data/html_srcset/srcset_vectors.json").read_text())
    picked = {}
    for case in cases:
        best = largest(parse_srcset(case["srcset"]))
        picked[case["srcset"]] = best.url if best else ""
    assert picked == {case["srcset"]: case["expect"] for case in cases}


@pytest.mark.parametrize("name", ["black_coffee_records", "vinyl_store", "music_store"])
def test_every_reference_of_a_real_shop_is_found(shared: Path, name: str) -> None:
    """What a second, independent reading of the pages lists as img[src], backslashes included."""
    folder = shared / "data/sites" / name
    expected: dict[str, set[str]] = {}
    with (folder / "_image_refs.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["attribute"] != "icon":
                url = urljoin("http://s/", row["url"].replace("\\", "/")).replace(" ", "%20")
                expected.setdefault(row["page"], set()).add(url)
    found = {
        page: {
            image.url for image in extract_images((folder / page).read_text(), f"http://s/{page}")
        }
        for page in expected
    }
    assert found == expected


def test_lead_pictures_of_saved_articles_are_found(shared: Path) -> None:
    """All 26: 25 at the address given, one passed over for a larger version of itself."""
    folder = shared / "data/html_lead_image"
    exact, known = 0, 0
    with (folder / "truth.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            html = (folder / "pages" / row["filename"]).read_text(errors="replace")
            content = read_page(html, row["page_url"])
            exact += row["lead_image_url"] in {image.url for image in content.images}
            known += row["lead_image_url"] in content.passed_over
    assert (exact, known) == (25, 1)
