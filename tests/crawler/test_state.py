"""Pictures in the JSON that scripts carry; nothing is run."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.pages import ImageLink, extract_images

PAGE = "https://shop.example/records/list.html"


def _script(text: str, kind: str = "") -> list[ImageLink]:
    return extract_images(f'<script type="{kind}">{text}</script>', PAGE)


def _names(images: list[ImageLink]) -> list[str]:
    return [image.url.removeprefix("https://shop.example") for image in images]


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ({"src": "/a.jpg"}, ["/a.jpg"]),
        ({"x": ["https://cdn.example/a.webp?w=9", "/b.png"]}, ["https://cdn.example/a.webp?w=9", "/b.png"]),
        ({"image": "a.jpg"}, ["/records/a.jpg"]),
        ({"imageUrl": "https://cdn.example/7f3a"}, ["https://cdn.example/7f3a"]),
        ({"cover": {"url": "//cdn.example/7f3a"}}, ["https://cdn.example/7f3a"]),
        ({"images": [{"src": "https://cdn.example/1"}, {"src": "https://cdn.example/2"}]},
         ["https://cdn.example/1", "https://cdn.example/2"]),
        # One picture in several sizes.
        ({"photo": {"thumb": "/t.jpg", "large": "/l.jpg", "medium": {"url": "/m.jpg"}}}, ["/l.jpg"]),
        # HTML and JSON within strings.
        ({"body": '<p><img src="/s.jpg" srcset="/s.jpg 1x, /l.jpg 2x">'}, ["/l.jpg"]),
        ({"data": json.dumps({"gallery": ["/a.jpg"]})}, ["/a.jpg"]),
        # What has no picture's name, or not under a picture's key.
        ({"avatar": "/people/7", "url": "https://shop.example/page", "next": "/page.html"}, []),
        ({"avatar": "/people/7.jpg", "icon": "/i.png", "logoUrl": "/l.png", "favicon": "/f.png"}, []),
        ({"a": "https://shop.example/assets/favicon-32.png", "b": "/img/logo.png"}, []),
        ({"image": "page.html", "photo": "/people/7", "img": "https://shop.example/x.html"}, []),
        ({"image": "drawing.svg", "poster": "/film.mp4", "x": "image.jpg of a cat", "y": "a.jpg"}, []),
        ({"image": True, "images": None, "photo": 3}, []),
    ],
)  # fmt: skip
def test_state(state: object, names: list[str]) -> None:
    """As a JSON block, as a global and as a string that is parsed."""
    text = json.dumps(state)
    images = _script(text.replace("</", "<\\/"), "application/json")
    assert _names(images) == names
    assert all(image.found_by == "script" for image in images)
    assert _names(_script(f"window.__STATE__ = {text};go()")) == names
    assert _names(_script(f"var state = JSON.parse({json.dumps(text)});")) == names


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (r'self.__next_f.push([1,"5:[\"$\",\"img\",{\"src\":\"/a.jpg\"}]"])', ["/a.jpg"]),
        (
            r'x = {url: "https:\/\/cdn.example\/a.jpg?w=1\u0026h=2"}',
            ["https://cdn.example/a.jpg?w=1&h=2"],
        ),
        ("const slides = ['/a.jpg', '/b.jpg'];", ["/a.jpg", "/b.jpg"]),
        ('if (a < 1) { f("a.jpg", "photo of x.jpg", base + "/a" + ".jpg") }', []),
        ("var t = '<img src=\"/{{name}}.jpg\">'", []),
    ],
)
def test_what_is_no_json(script: str, names: list[str]) -> None:
    """Only quoted addresses that are whole and name a picture."""
    assert _names(_script(script)) == names


@pytest.mark.parametrize("kind", ["text/template", "text/x-handlebars"])
def test_templates_are_left_alone(kind: str) -> None:
    assert _script('{"image": "/a.jpg"}', kind) == []


def test_a_larger_version_in_the_page_itself_wins() -> None:
    """The picture that the state names is the page's own small one: it counts once."""
    html = '<img src="/s.jpg" srcset="/l.jpg 2x"><script>x = {"image": "/s.jpg"}</script>'
    assert _names(extract_images(html, PAGE)) == ["/l.jpg"]


def test_size_and_words_come_along() -> None:
    state = {"image": {"src": "/a.jpg", "width": 800, "height": 600, "alt": "A record"}}
    (image,) = _script(json.dumps(state), "application/json")
    assert (image.alt, image.about.width, image.about.height) == ("A record", 800, 600)


def test_half_an_emoji_does_no_harm() -> None:
    """Texts that were cut off within a surrogate pair: the rest of them can be stored."""
    state = r"""{"image": {"src": "/a.jpg", "alt": "LP \ud83d", "caption": "\ud83d"}, "html": "\ud83d<img src=/b.jpg>"}"""
    first, second = _script(state, "application/json")
    assert (first.alt, first.about.caption, _names([second])) == ("LP ?", "?", ["/b.jpg"])


@pytest.mark.parametrize(
    "hostile",
    [
        "=[" * 50_000,
        '=["' * 50_000,
        "=[" + '"=[",' * 50_000,
        '="' + "a" * 200_000,
        '"/' + "a.jpg?" * 50_000,
        "x = " + '{"a":' * 50_000,
    ],
    ids=["open", "open strings", "open again and again", "no end", "no name", "deep"],
)
def test_a_hostile_script_costs_little(hostile: str) -> None:
    """CPU seconds, not the clock's: a quadratic reading takes a hundred times as long."""
    started = time.process_time()
    assert _script(hostile) == []
    assert time.process_time() - started < 4


@given(st.text(alphabet=st.sampled_from("[]{}\"'\\=(),:/.ajpgu0 \n"), max_size=200))
def test_any_script_is_read(text: str) -> None:
    assert all(image.url.startswith("http") for image in _script(f'x = {{"image": {text}'))
