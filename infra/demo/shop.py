"""The shop's pages: each room shows its pictures in another way that real sites have.

Every picture stands in one room, the planted duplicates in the journal, and what must be rejected
in "lost and found" and on the home page.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from infra.demo.pictures import DemoPicture, encode, poster, scaled, size_of
from infra.demo.server import HEADERS

TEMPLATES = Path(__file__).parent / "templates"

SHOP_NAME = "Needle & Sleeve"
_NAVIGATION = (
    ("/crates/", "The crates"),
    ("/racks/", "The racks"),
    ("/window/", "The window"),
    ("/booth/", "The listening booth"),
    ("/wall/", "The wall"),
    ("/digging/", "Keep digging"),
    ("/journal/", "The journal"),
    ("/lost-and-found/", "Lost and found"),
)
# What share of the shop's pictures stands in which room.
_SHARES = {
    "crates": 0.34,  # plain <img>, over several pages
    "racks": 0.16,  # thumbnails that link to the full size
    "window": 0.16,  # srcset and <picture>
    "booth": 0.12,  # lazy data-src
    "wall": 0.08,  # CSS backgrounds
    "digging": 0.14,  # endless scroll, by script alone
}
_PAGE_PICTURES = 8
_BATCH_PICTURES = 6

MIN_SIDE = 64
"""What the crawler's default policy takes; a given picture below it is expected among the rejected."""

# One planted duplicate of each kind for so many pictures; at least one.
_PICTURES_A_DUPLICATE = 40
# A duplicate of 60 % must still be large enough to be taken.
_RESIZED_MIN_SIDE = 128

_QUALITIES = ("Quiet", "Amber", "Northern", "Velvet", "Paper", "Midnight", "Copper", "Second")
_THINGS = ("Avenue", "Letters", "Parade", "Weather", "Session", "Harbour", "Machine", "Sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A smaller version of a picture; `width` in pixels."""

    path: str
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture as a page shows it; `smaller` from small to large."""

    name: str
    title: str
    price: str
    path: str
    width: int
    height: int
    smaller: tuple[Variant, ...] = ()


class Shop:
    """Builds the site below the folder `www`, which it makes; for one `build` only."""

    def __init__(self, www: Path, *, seed: int) -> None:
        self._www = www
        self._random = random.Random(seed)
        self._headers: dict[str, dict[str, str]] = {}
        self._pages = 0
        self._pictures: list[dict[str, Any]] = []
        self._rejects: list[dict[str, str]] = []
        self._variants: list[dict[str, str]] = []
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.globals["shop_name"] = SHOP_NAME

    def build(self, shop: Sequence[DemoPicture], arrivals: Sequence[DemoPicture]) -> dict[str, Any]:
        """Write everything; return what truth.json says, all but `built_from`."""
        for name in ("site.css", "lazy.js", "digging.js"):
            self._copy(name, f"/static/{name}")
        self._copy("robots.txt", "/robots.txt")
        rooms = self._deal(shop)
        self._crates(rooms["crates"])
        self._smaller_versions(rooms["racks"], "racks", (0.4,))
        self._smaller_versions(rooms["window"], "window", (0.35, 0.65))
        self._page("booth", items=self._items(rooms["booth"], "/media/booth", "shop"))
        self._page("wall", items=self._items(rooms["wall"], "/media/wall", "shop"))
        self._digging(rooms["digging"])
        self._journal(shop)
        self._page("home", path="/")
        self._home_oddities()
        self._lost_and_found()
        unseen = self._back_room()
        pages = self._pages
        items = self._items(arrivals, "/arrivals/media", "arrivals")
        self._gallery("Just arrived", "/arrivals/", items, home="/arrivals/", navigation=())
        self._write(f"/{HEADERS}", json.dumps(self._headers, indent=1).encode())
        return {
            "pictures": self._pictures,
            "rejects": self._rejects,
            "variants": self._variants,
            "unseen": unseen,
            "pages": pages,
            "arrivals_pages": self._pages - pages,
        }

    # The rooms

    def _deal(self, pictures: Sequence[DemoPicture]) -> dict[str, list[DemoPicture]]:
        """Return the pictures of each room, at least one in each."""
        rest = self._random.sample(list(pictures), len(pictures))
        rooms = {}
        for room, share in _SHARES.items():
            count = max(1, int(share * len(pictures)))
            rooms[room], rest = rest[:count], rest[count:]
        rooms["crates"] += rest
        return rooms

    def _crates(self, pictures: Sequence[DemoPicture]) -> None:
        items = self._items(pictures, "/media/crates", "shop")
        self._gallery("The crates", "/crates/", items, home="/", navigation=_NAVIGATION)

    def _gallery(
        self,
        title: str,
        base: str,
        items: Sequence[Item],
        *,
        home: str,
        navigation: Sequence[tuple[str, str]],
    ) -> None:
        last = -(-len(items) // _PAGE_PICTURES)
        for number in range(1, last + 1):
            self._page(
                "gallery",
                path=base if number == 1 else f"{base}page/{number}/",
                title=title,
                base=base,
                number=number,
                last=last,
                items=items[(number - 1) * _PAGE_PICTURES : number * _PAGE_PICTURES],
                home=home,
                navigation=navigation,
            )

    def _smaller_versions(
        self, pictures: Sequence[DemoPicture], room: str, scales: tuple[float, ...]
    ) -> None:
        """Write a room whose pictures are also served smaller; they are never made larger."""
        items = self._items(pictures, f"/media/{room}", "shop", scales)
        self._page(room, items=items)

    def _digging(self, pictures: Sequence[DemoPicture]) -> None:
        items = self._items(pictures, "/media/digging", "shop")
        batches = [
            items[start : start + _BATCH_PICTURES]
            for start in range(0, len(items), _BATCH_PICTURES)
        ]
        for number, batch in enumerate(batches, start=1):
            answer = {
                "items": [
                    {"src": item.path, "title": item.title, "price": item.price} for item in batch
                ],
                "next": f"/api/digging/{number + 1}.json" if number < len(batches) else None,
            }
            self._write(f"/api/digging/{number}.json", json.dumps(answer).encode())
        self._page("digging", first_batch="/api/digging/1.json")

    def _journal(self, pictures: Sequence[DemoPicture]) -> None:
        """Show some pictures of the rooms again: copied, shrunk to 60 %, or re-encoded."""
        paths = {entry["name"]: entry["path"] for entry in self._pictures}
        count = max(1, len(pictures) // _PICTURES_A_DUPLICATE)
        fitting = [
            picture
            for picture in pictures
            if picture.name in paths and min(size_of(picture.jpeg)) >= _RESIZED_MIN_SIDE
        ]
        chosen = self._random.sample(fitting, min(3 * count, len(fitting)))
        items = []
        for number, original in enumerate(chosen):
            how = ("same bytes", "resized", "re-encoded")[number % 3]
            if how == "resized":
                jpeg = encode(scaled(original.jpeg, 0.6), quality=92)
            elif how == "re-encoded":
                jpeg = encode(scaled(original.jpeg, 1.0), quality=60)
            else:
                jpeg = original.jpeg
            path = f"/media/journal/post-{number + 1}.jpg"
            self._write(path, jpeg)
            self._pictures.append(
                {
                    "path": path,
                    "name": f"post-{number + 1}",
                    "labels": list(original.labels),
                    "part": "shop",
                    "duplicate_of": paths[original.name],
                    "how": how,
                }
            )
            items.append(self._item(f"post-{number + 1}", path, jpeg))
        self._page("journal", items=items)

    # What must be rejected

    def _home_oddities(self) -> None:
        self._copy("logo.svg", "/media/logo.svg")
        self._reject("/media/logo.svg", "svg")
        icon = io.BytesIO()
        poster(self._random, 24).save(icon, "PNG")
        self._write("/media/card-icon.png", icon.getvalue())
        self._reject("/media/card-icon.png", "too_small")

    def _lost_and_found(self) -> None:
        """Each picture here is the site's own, so that a wrong one in the catalogue is noticed."""
        whole = encode(poster(self._random, 360), quality=90)
        self._write("/media/lost/cut-off.jpg", whole[: len(whole) * 6 // 10])
        self._copy("not_a_picture.html", "/media/lost/sign-in.jpg")
        self._write("/media/lost/no-machines.jpg", encode(poster(self._random, 360), quality=90))
        self._headers["/media/lost/no-machines.jpg"] = {"X-Robots-Tag": "noai"}
        self._write("/media/members/poster.jpg", encode(poster(self._random, 360), quality=90))
        odd_ones = (
            ("/media/lost/cut-off.jpg", "A picture cut off on its way here", "truncated"),
            ("/media/lost/sign-in.jpg", "A page that says it is a picture", "not_an_image"),
            ("/media/lost/no-machines.jpg", "Not to be learned from", "x_robots_tag"),
            ("/media/lost/gone.jpg", "A picture that is not there", "http_error"),
            ("/media/members/poster.jpg", "For members, not for robots", "robots_txt"),
        )
        for path, _, reason in odd_ones:
            self._reject(path, reason)
        shown = [(path, what) for path, what, _ in odd_ones]
        self._page("lost", path="/lost-and-found/", odd_ones=shown)

    def _back_room(self) -> list[str]:
        """Write the page that robots.txt forbids; return what only it mentions."""
        path = "/media/back-room/poster.jpg"
        self._write(path, encode(poster(self._random, 360), quality=90))
        self._page("back_room", path="/back-room/", counted=False, poster=path)
        self._reject("/back-room/", "robots_txt")
        return [path]

    # Pictures and files

    def _items(
        self,
        pictures: Sequence[DemoPicture],
        folder: str,
        part: str,
        scales: tuple[float, ...] = (),
    ) -> list[Item]:
        """Write pictures, note what is expected of each, and return them as pages show them."""
        items = []
        for picture in pictures:
            path = f"{folder}/{picture.name}.jpg"
            self._write(path, picture.jpeg)
            if min(size_of(picture.jpeg)) < MIN_SIDE:
                self._reject(path, "too_small")
            else:
                self._pictures.append(
                    {
                        "path": path,
                        "name": picture.name,
                        "labels": list(picture.labels),
                        "part": part,
                        "duplicate_of": None,
                        "how": None,
                    }
                )
            smaller = tuple(self._variant(picture, path, scale) for scale in scales)
            items.append(self._item(picture.name, path, picture.jpeg, smaller))
        return items

    def _variant(self, picture: DemoPicture, full_path: str, scale: float) -> Variant:
        image = scaled(picture.jpeg, scale)
        path = full_path.replace(".jpg", f"-{image.width}w.jpg")
        self._write(path, encode(image, quality=80))
        self._variants.append({"path": path, "of": full_path})
        return Variant(path=path, width=image.width)

    def _item(self, name: str, path: str, jpeg: bytes, smaller: tuple[Variant, ...] = ()) -> Item:
        width, height = size_of(jpeg)
        title = f"{self._random.choice(_QUALITIES)} {self._random.choice(_THINGS)}"
        price = f"£{self._random.randint(3, 60)}"
        return Item(
            name=name,
            title=title,
            price=price,
            path=path,
            width=width,
            height=height,
            smaller=smaller,
        )

    def _page(
        self, template: str, *, path: str | None = None, counted: bool = True, **context: object
    ) -> None:
        path = path or f"/{template}/"
        context = {"home": "/", "navigation": _NAVIGATION, **context}
        html = self._templates.get_template(f"{template}.html").render(context)
        self._write(f"{path}index.html", html.encode())
        self._pages += counted

    def _reject(self, path: str, reason: str) -> None:
        self._rejects.append({"path": path, "reason": reason})

    def _copy(self, template: str, path: str) -> None:
        self._write(path, (TEMPLATES / template).read_bytes())

    def _write(self, path: str, data: bytes) -> None:
        target = self._www / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
