"""Pictures in JSON-LD, microdata and RDFa, with what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urljoin

import pytest

from crawler.pages import ImageLink, extract_images, read_page

PAGE = "https://shop.example/records/list.html"


def _json_ld(said: object) -> list[ImageLink]:
    text = said if isinstance(said, str) else json.dumps(said)
    return extract_images(f'<script type="application/ld+json">{text}</script>', PAGE)


def _names(images: list[ImageLink]) -> list[str]:
    return [image.url.removeprefix("https://shop.example/records/") for image in images]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"@type": "ImageObject", "contentUrl": "a.jpg"}, ["a.jpg"]),
        ({"@type": ["Thing", "ImageObject"], "url": "a.jpg"}, ["a.jpg"]),
        ({"@type": "https://schema.org/ImageObject", "@id": "a.jpg"}, ["a.jpg"]),
        ({"@type": "ImageObject", "contentUrl": "a.jpg", "thumbnailUrl": "t.jpg"}, ["a.jpg"]),
        ({"@type": "Product", "image": "a.jpg"}, ["a.jpg"]),
        ({"@type": "Article", "thumbnailUrl": "t.jpg", "image": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"@type": "Product", "image": "https://cdn.example/no-name"}, ["https://cdn.example/no-name"]),
        ({"@type": "Product", "image": ["a.jpg", {"@type": "ImageObject", "url": "b.jpg"}]},
         ["a.jpg", "b.jpg"]),
        ({"@graph": [{"@type": "WebPage", "primaryImageOfPage": {"@id": "#p"}},
                     {"@id": "#p", "@type": "ImageObject", "contentUrl": "a.jpg"}]}, ["a.jpg"]),
        ([{"@type": "Product", "image": "a.jpg"}, {"@type": "Product", "image": "b.jpg"}],
         ["a.jpg", "b.jpg"]),
        ({"@type": "ItemList", "itemListElement": [{"item": {"@type": "Product", "image": "a.jpg"}}]},
         ["a.jpg"]),
        ({"@type": "VideoObject", "contentUrl": "a.mp4", "thumbnailUrl": ["a.jpg"]}, ["a.jpg"]),
        ('<!-- {"@type": "Product",\n"image": "a.jpg", "name": "two\nlines"} -->', ["a.jpg"]),
        ('{"@type": "Product", "image": "/records/a.jpg",}', ["a.jpg"]),
        ({"@type": "Organization", "logo": {"@type": "ImageObject", "url": "logo.png"}}, []),
        ({"@type": "Article", "publisher": {"image": "house.png"}, "author": {"image": "me.png"}}, []),
        ({"@type": "Product", "image": "drawing.svg"}, []),
        ({"@type": "Product", "image": 7, "url": "page.html"}, []),
        ({"@type": "AudioObject", "contentUrl": "a.mp3"}, []),
        ("[" * 5000, []),
        ("", []),
    ],
)  # fmt: skip
def test_json_ld(said: object, names: list[str]) -> None:
    images = _json_ld(said)
    assert _names(images) == names
    assert all(image.found_by == "json-ld" for image in images)


def test_the_licence_of_an_image_object_comes_along() -> None:
    """Google's image licence metadata, which are IPTC's fields, and the declared size."""
    (image,) = _json_ld(
        {
            "@type": "ImageObject",
            "contentUrl": "a.jpg",
            "name": "Blue  Train",
            "caption": "The sleeve",
            "license": "/licence",
            "acquireLicensePage": "https://shop.example/buy",
            "creditText": "Shop",
            "creator": [{"@type": "Person", "name": "Ann"}, "Ben"],
            "copyrightNotice": "(c) Shop",
            "width": {"@type": "QuantitativeValue", "value": 800},
            "height": "600px",
        }
    )
    about = image.about
    assert (about.title, about.caption, about.width, about.height) == (
        "Blue Train",
        "The sleeve",
        800,
        600,
    )
    assert (about.license, about.acquire_license) == (
        "https://shop.example/licence",
        "https://shop.example/buy",
    )
    assert (about.creator, about.credit) == ("Ann, Ben", "Shop")


def test_what_several_places_say_of_one_picture_is_put_together() -> None:
    """The img gives the words, the structured data the licence; the picture counts once."""
    html = """<img src="a.jpg" alt="A record"><script type="application/ld+json">
      {"@type": "ImageObject", "contentUrl": "/records/a.jpg", "license": "https://cc.example/by"}</script>"""
    (image,) = extract_images(html, PAGE)
    assert (image.found_by, image.alt, image.about.license) == (
        "img[src]",
        "A record",
        "https://cc.example/by",
    )


@pytest.mark.parametrize(
    "inside",
    [
        '<meta itemprop="image" content="a.jpg">',
        '<link itemprop="image" href="a.jpg">',
        '<a itemprop="image" href="a.jpg">x</a>',
        '<span itemprop="https://schema.org/thumbnailUrl" content="a.jpg"></span>',
        '<link property="schema:image" href="a.jpg">',
        """<div itemprop="image" itemscope itemtype="https://schema.org/ImageObject">
           <meta itemprop="url" content="a.jpg"></div>""",
    ],
)
def test_microdata_and_rdfa(inside: str) -> None:
    html = f'<div itemscope itemtype="https://schema.org/Product">{inside}</div>'
    (image,) = extract_images(html, PAGE)
    assert _names([image]) == ["a.jpg"]


def test_the_licence_in_an_item_comes_along() -> None:
    html = """<figure itemscope itemtype="http://schema.org/ImageObject">
      <img itemprop="contentUrl" src="a.jpg"><span itemprop="creator">Ann</span>
      <a itemprop="license" href="/licence">terms</a></figure>"""
    (image,) = extract_images(html, PAGE)
    assert (image.about.creator, image.about.license) == ("Ann", "https://shop.example/licence")


def test_other_properties_are_no_pictures() -> None:
    html = """<div itemscope itemtype="https://schema.org/VideoObject"><meta itemprop="contentUrl" content="a.mp4">
      <meta itemprop="url" content="page"><meta itemprop="logo" content="logo.png"></div>"""
    assert extract_images(html, PAGE) == []


def _expected_images(node: object) -> set[str]:
    """Return the strings that the expected metadata have under a key called image."""
    if isinstance(node, list):
        if len(node) == 2 and node[0] == "og:image" and isinstance(node[1], str):
            return {node[1]}
        return set().union(*map(_expected_images, node))
    if not isinstance(node, dict):
        return set()
    found: set[str] = set()
    for key, value in node.items():
        if key == "image" or key.endswith("#image"):
            values = value if isinstance(value, list) else [value]
            strings = [each.get("@value") if isinstance(each, dict) else each for each in values]
            found |= {each for each in strings if isinstance(each, str)}
        found |= _expected_images(value)
    return found


def test_pictures_of_expected_metadata_are_found(shared: Path) -> None:
    """All that extruct's own tests expect under image and og:image: 23 of 23."""
    folder = shared / "data/html_metadata"
    missed: list[tuple[str, str]] = []
    expected = 0
    for path in sorted(folder.rglob("*.json*")):
        text = path.with_suffix(".html").read_text(errors="replace")
        content = read_page(text, PAGE)
        known = {image.url for image in content.images} | content.passed_over
        for address in _expected_images(json.loads(path.read_text(errors="replace"))):
            expected += 1
            if urljoin(PAGE, address) not in known:
                missed.append((path.name, address))
    assert (missed, expected) == ([], 23)
