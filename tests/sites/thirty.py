"""A site that shows pictures in thirty ways, in an endless gallery, and behind a button.

`/thirty.html` holds one picture for each of `KINDS`; `/gallery.html` shows 20 pictures and 20 more
whenever it is scrolled to its end, 500 in all; `/more.html` has a "Load more" button, and a cookie
banner and a subscription that a crawler leaves alone. `/` leads to the three.

    with serving_thirty() as site:
        site.url("/thirty.html"), site.asked("/accepted")

Every picture is distinct, 160 x 120, and lies at `/pictures/<name>.jpg`, a smaller version of it at
`/pictures/<name>-small.jpg`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.crawler.pictures import encoded, picture
from tests.crawler.site import Answer, Reply, Site, serving

_FOLDER = Path(__file__).with_name("thirty")
STEP = 20
"""Pictures that the gallery and the button bring at a time."""
GALLERY = tuple(f"gallery-{number:03}" for number in range(500))
MORE = tuple(f"more-{number:03}" for number in range(60))


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to show a picture."""

    name: str
    """The picture lies at `/pictures/<name>.jpg`; that of `data-url` within the page."""
    found_by: str
    """What our reading of the HTML says of it; "" where it takes a browser."""

    @property
    def static(self) -> bool:
        """Whether the page and its style sheets, as served, name the picture."""
        return bool(self.found_by)


KINDS = (
    Kind("img-src", "img[src]"),
    Kind("srcset-width", "img[srcset]"),
    Kind("srcset-density", "img[srcset]"),
    Kind("picture-source", "picture source"),
    Kind("lazy-src", "img[data-src]"),
    Kind("lazy-srcset", "img[data-srcset]"),
    Kind("lazy-background", "[data-bg]"),
    Kind("noscript", "img[src]"),
    Kind("style-attribute", "css"),
    Kind("style-element", "css"),
    Kind("linked-sheet", "css"),
    Kind("image-set", "css"),
    Kind("link-to-picture", "a[href]"),
    Kind("og-image", "meta[og:image]"),
    Kind("twitter-image", "meta[twitter:image]"),
    Kind("json-ld-image", "json-ld"),
    Kind("json-ld-product", "json-ld"),
    Kind("microdata", "microdata"),
    Kind("link-preload", "link[preload]"),
    Kind("video-poster", "video[poster]"),
    Kind("input-image", "input[src]"),
    Kind("svg-image", "svg image"),
    Kind("object-data", "object[data]"),
    Kind("embed-src", "embed[src]"),
    Kind("amp-img", "amp-img[src]"),
    Kind("data-url", "img[src]"),
    Kind("next-data", "script"),
    Kind("script-state", "script"),
    Kind("grown", ""),
    Kind("shadow-root", ""),
)

_SEEDS = {
    name: seed for seed, name in enumerate((*(kind.name for kind in KINDS), *GALLERY, *MORE), 1000)
}


@contextmanager
def serving_thirty() -> Iterator[Site]:
    """Serve the site on loopback until the block ends."""
    with serving(_answers()) as site:
        yield site


def thirty_html() -> str:
    """Return the page of thirty pictures as served."""
    return _file("index.html").replace("@DATA_URL@", data_url())


def thirty_sheet() -> str:
    """Return the style sheet that the page links to."""
    return _file("thirty.css")


def data_url() -> str:
    """Return the address of the picture that lies within the page."""
    return "data:image/jpeg;base64," + base64.b64encode(picture_bytes("data-url")).decode()


def picture_bytes(name: str) -> bytes:
    """Return a picture of the site as a JPEG, `<name>-small` at half its size."""
    whole = name.removesuffix("-small")
    image = picture(_SEEDS[whole], (160, 120))
    return encoded(image if whole == name else image.resize((80, 60)), "JPEG", quality=80)


def _answers() -> dict[str, Answer]:
    pages = {name: _page(name) for name in ("gallery.html", "more.html")}
    return {
        "/": "<title>Three pages</title>"
        '<a href="thirty.html">1</a> <a href="gallery.html">2</a> <a href="more.html">3</a>',
        "/thirty.html": thirty_html(),
        "/thirty.css": _reply(thirty_sheet(), "text/css"),
        "/thirty.js": _reply(_file("thirty.js"), "text/javascript"),
        "/grown.json": _reply(json.dumps({"name": "grown"}), "application/json"),
        "/gallery.html": pages["gallery.html"],
        "/gallery.json": lambda path: _reply(
            json.dumps({"names": _next(GALLERY, path)}), "application/json"
        ),
        "/more.html": pages["more.html"],
        "/more-fragment.html": lambda path: _images(_next(MORE, path)),
        "/accepted": "",
        "/subscribed": "",
        "/count.gif": picture_bytes("img-src"),
        "/spacer.gif": picture_bytes("img-src"),
        **{
            f"/pictures/{name}{size}.jpg": lambda path: picture_bytes(
                Path(urlsplit(path).path).stem
            )
            for name in _SEEDS
            for size in ("", "-small")
        },
    }


def _page(name: str) -> str:
    names = GALLERY if name == "gallery.html" else MORE
    return (
        _file(name)
        .replace("@FIRST@", _images(names[:STEP]))
        .replace("@STEP@", str(STEP))
        .replace("@GALLERY@", str(len(GALLERY)))
        .replace("@MORE@", str(len(MORE)))
    )


def _next(names: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Return what follows the query's `from`."""
    start = int(parse_qs(urlsplit(path).query)["from"][0])
    return names[start : start + STEP]


def _images(names: tuple[str, ...]) -> str:
    return "\n".join(f'<img src="/pictures/{name}.jpg" alt="">' for name in names)


def _reply(text: str, content_type: str) -> Reply:
    return Reply(text.encode(), headers={"Content-Type": content_type})


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
