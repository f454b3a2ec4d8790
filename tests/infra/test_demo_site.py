"""The demo's site: what it shows where, what truth.json says about it, and how it is served."""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest
from parsel import Selector
from PIL import Image
from playwright.sync_api import sync_playwright
from protego import Protego

from crawler.rejections import Reason
from infra.demo.site import DemoPicture, build_site
from tests.waiting import until


def picture(number: int, size: tuple[int, int] | None = None) -> DemoPicture:
    rng = random.Random(number)
    size = size or (rng.randrange(140, 384), rng.randrange(140, 384))
    small = Image.frombytes("RGB", (8, 8), rng.randbytes(8 * 8 * 3))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    labels = ("turntable", "vinyl")[: number % 3]
    return DemoPicture(name=f"item-{number}", labels=labels, jpeg=buffer.getvalue())


SHOP = [*(picture(number) for number in range(59)), picture(59, (200, 61))]
ARRIVALS = [picture(number) for number in range(100, 119)]


def found_in(html: str, query: str) -> list[str]:
    return Selector(text=html).xpath(query).getall()


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Site:
    """A built site and, at `address`, its server."""

    def __init__(self, folder: Path, address: str) -> None:
        self.www = folder / "www"
        self.address = address
        self.truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for the path as it is written, without following redirects."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def originals(self, room: str) -> list[str]:
        """Return the paths of a room's pictures."""
        return [
            entry["path"]
            for entry in self.truth["pictures"]
            if entry["path"].startswith(f"/media/{room}/") and entry["duplicate_of"] is None
        ]

    def rejected(self, reason: str) -> list[str]:
        """Return the paths that are expected to be rejected for `reason`."""
        return [entry["path"] for entry in self.truth["rejects"] if entry["reason"] == reason]

    def walk(self, start: str) -> dict[str, str]:
        """Return the HTML of every page that links and robots.txt let a crawler reach."""
        robots = Protego.parse((self.www / "robots.txt").read_text())
        pages: dict[str, str] = {}
        waiting = [start]
        while waiting:
            path = waiting.pop()
            if path in pages or not robots.can_fetch(path, "cratedig"):
                continue
            answer = self.get(path)
            if answer.headers.get_content_type() != "text/html":
                continue
            pages[path] = answer.body.decode()
            links = found_in(pages[path], "//a/@href | //link[@rel='next']/@href")
            waiting += [urljoin(path, link) for link in links]
        return pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("demo") / "site"
    build_site(folder, shop=SHOP, arrivals=ARRIVALS, seed=0)
    command = [sys.executable, "-m", "infra.demo.site", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address, f"the server said {said!r}"
            yield Site(folder, address[0])
        finally:
            process.terminate()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is where


def test_every_picture_given_is_expected_once(site: Site) -> None:
    """In the catalogue, or, when it is too small for any crawler, among the rejected."""
    expected = [
        entry["path"] for entry in site.truth["pictures"] if entry["duplicate_of"] is None
    ] + site.rejected("too_small")
    given = [each.jpeg for each in (*SHOP, *ARRIVALS)]
    found = [site.get(path).body for path in expected]
    assert sorted(body for body in found if body in given) == sorted(given)


def test_every_picture_is_mentioned_on_exactly_one_page(site: Site) -> None:
    files = [
        path.read_text() for pattern in ("*.html", "*.json") for path in site.www.rglob(pattern)
    ]
    for entry in site.truth["pictures"]:
        mention = re.compile(rf"{re.escape(entry['path'])}\b")
        assert sum(bool(mention.search(text)) for text in files) == 1, entry["path"]


def test_every_media_file_has_an_expectation(site: Site) -> None:
    expected = set(site.truth["unseen"])
    for kind in ("pictures", "rejects", "variants"):
        expected |= {entry["path"] for entry in site.truth[kind]}
    served = {f"/{path.relative_to(site.www)}" for path in site.www.rglob("*") if path.is_file()}
    assert {path for path in served if "/media/" in path} <= expected


def test_pictures_carry_the_labels_given(site: Site) -> None:
    given = {each.name: list(each.labels) for each in (*SHOP, *ARRIVALS)}
    originals = [entry for entry in site.truth["pictures"] if entry["duplicate_of"] is None]
    assert all(entry["labels"] == given[entry["name"]] for entry in originals)


def test_a_byte_for_byte_duplicate_stands_under_another_name(site: Site) -> None:
    copies = [entry for entry in site.truth["pictures"] if entry["how"] == "same bytes"]
    assert copies
    for entry in copies:
        assert site.get(entry["path"]).body == site.get(entry["duplicate_of"]).body


def test_resized_duplicates_have_three_fifths_of_the_sides(site: Site) -> None:
    copies = [entry for entry in site.truth["pictures"] if entry["how"] == "resized"]
    assert copies
    for entry in copies:
        copy = Image.open(io.BytesIO(site.get(entry["path"]).body))
        original = Image.open(io.BytesIO(site.get(entry["duplicate_of"]).body))
        assert copy.size == (round(original.width * 0.6), round(original.height * 0.6))


def test_re_encoded_duplicates_have_the_size_and_other_bytes(site: Site) -> None:
    copies = [entry for entry in site.truth["pictures"] if entry["how"] == "re-encoded"]
    assert copies
    for entry in copies:
        copy, original = site.get(entry["path"]).body, site.get(entry["duplicate_of"]).body
        assert copy != original
        assert Image.open(io.BytesIO(copy)).size == Image.open(io.BytesIO(original)).size


def test_variants_are_smaller_than_their_picture(site: Site) -> None:
    assert site.truth["variants"]
    for entry in site.truth["variants"]:
        variant = Image.open(io.BytesIO(site.get(entry["path"]).body))
        assert variant.width < Image.open(io.BytesIO(site.get(entry["of"]).body)).width


@pytest.mark.parametrize(
    ("room", "query"),
    [
        ("crates", "//img/@src"),
        ("racks", "//a[img]/@href"),
        ("window", "//img[@srcset]/@srcset | //picture/source/@srcset"),
        ("booth", "//img[starts-with(@src, 'data:')]/@data-src"),
        ("wall", "//*[contains(@style, 'background-image')]/@style | //style/text()"),
    ],
)
def test_each_room_shows_its_pictures_in_its_own_way(site: Site, room: str, query: str) -> None:
    pages = [html for path, html in site.walk("/").items() if path.startswith(f"/{room}/")]
    found = " ".join(text for html in pages for text in found_in(html, query))
    paths = site.originals(room)
    assert paths
    assert all(path in found for path in paths)


def test_the_window_shows_both_srcset_and_picture(site: Site) -> None:
    html = site.walk("/")["/window/"]
    assert "<picture>" in html
    assert re.search(r"<img [^>]*srcset=", html)


def test_the_endless_page_has_no_picture_without_scripts(site: Site) -> None:
    html = site.get("/digging/").body.decode()
    assert "<script" in html
    assert not re.search(r"<img|background|\.jpg", html)


def test_the_endless_page_shows_all_its_pictures_to_one_who_scrolls(site: Site) -> None:
    from crawler.browser import chromium_executable

    expected = set(site.originals("digging"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium_executable()), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1024, "height": 600})
        page.goto(f"{site.address}/digging/")
        page.locator("#crate img").first.wait_for()
        at_first = page.locator("#crate img").count()

        def end_reached() -> bool:
            page.mouse.wheel(0, 2000)
            return page.locator("#sentinel").inner_text() == "That was the last of it."

        until(end_reached)
        sources = page.locator("#crate img").evaluate_all("all => all.map(each => each.src)")
        browser.close()
    assert at_first < len(expected)
    assert {urlsplit(source).path for source in sources} == expected


def test_the_pages_that_may_be_crawled_are_as_many_as_said(site: Site) -> None:
    assert len(site.walk("/")) == site.truth["pages"]


def test_the_arrivals_are_as_many_pages_as_said(site: Site) -> None:
    assert len(site.walk("/arrivals/")) == site.truth["arrivals_pages"]


def test_no_link_leads_between_the_shop_and_the_arrivals(site: Site) -> None:
    assert not any(path.startswith("/arrivals/") for path in site.walk("/"))
    assert all(path.startswith("/arrivals/") for path in site.walk("/arrivals/"))


def test_galleries_name_their_next_page(site: Site) -> None:
    html = site.walk("/")["/crates/"]
    assert found_in(html, "//link[@rel='next']/@href") == ["/crates/page/2/"]


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    for path, html in {**site.walk("/"), **site.walk("/arrivals/")}.items():
        addresses = found_in(html, "//@src | //@href")
        assert all(urlsplit(each).netloc == "" for each in addresses), path


# What must be rejected


def test_reasons_are_in_the_crawlers_words(site: Site) -> None:
    reasons = {entry["reason"] for entry in site.truth["rejects"]}
    assert reasons == {
        Reason.ROBOTS_TXT,
        Reason.X_ROBOTS_TAG,
        Reason.TRUNCATED,
        Reason.NOT_AN_IMAGE,
        Reason.SVG,
        Reason.TOO_SMALL,
        Reason.HTTP_ERROR,
    }


def test_robots_txt_forbids_what_is_said_and_nothing_else(site: Site) -> None:
    robots = Protego.parse(site.get("/robots.txt").body.decode())
    for entry in site.truth["rejects"] + site.truth["pictures"]:
        forbidden = entry.get("reason") == "robots_txt"
        assert robots.can_fetch(entry["path"], "cratedig") is not forbidden, entry["path"]


def test_the_forbidden_page_alone_mentions_what_nobody_may_see(site: Site) -> None:
    (unseen,) = site.truth["unseen"]
    mentions = [path for path in site.www.rglob("*.html") if unseen in path.read_text()]
    assert mentions == [site.www / "back-room" / "index.html"]


def test_the_pictures_to_reject_are_shown_on_pages_that_may_be_crawled(site: Site) -> None:
    html = " ".join(site.walk("/").values())
    assert all(f'"{entry["path"]}"' in html for entry in site.truth["rejects"])


def test_one_picture_is_served_with_noai(site: Site) -> None:
    (path,) = site.rejected("x_robots_tag")
    assert site.get(path).headers["X-Robots-Tag"] == "noai"


def test_one_jpeg_is_cut_off(site: Site) -> None:
    (path,) = site.rejected("truncated")
    cut_off = Image.open(io.BytesIO(site.get(path).body))
    with pytest.raises(OSError, match="truncated"):
        cut_off.load()


def test_one_page_is_named_and_served_as_a_jpeg(site: Site) -> None:
    (path,) = site.rejected("not_an_image")
    answer = site.get(path)
    assert answer.headers.get_content_type() == "image/jpeg"
    assert answer.body.startswith(b"<!doctype html>")


def test_one_picture_is_an_svg(site: Site) -> None:
    (path,) = site.rejected("svg")
    assert site.get(path).headers.get_content_type() == "image/svg+xml"


def test_one_picture_is_not_there(site: Site) -> None:
    (path,) = site.rejected("http_error")
    assert site.get(path).status == 404


def test_pictures_too_small_are_below_64_pixels(site: Site) -> None:
    sizes = [Image.open(io.BytesIO(site.get(p).body)).size for p in site.rejected("too_small")]
    assert sorted(sizes) == [(24, 24), (200, 61)]


# How it is served


def test_an_unchanged_picture_is_answered_with_304(site: Site) -> None:
    path = site.originals("crates")[0]
    etag = site.get(path).headers["ETag"]
    assert site.get(path, **{"If-None-Match": etag}).status == 304


def test_a_folder_without_its_slash_is_redirected(site: Site) -> None:
    answer = site.get("/crates")
    assert (answer.status, answer.headers["Location"]) == (301, "/crates/")


@pytest.mark.parametrize("path", ["/headers.json", "/../truth.json", "/%2e%2e/truth.json", "/nope"])
def test_only_what_is_meant_to_be_served_is(site: Site, path: str) -> None:
    assert site.get(path).status == 404


def test_a_folder_without_a_site_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.demo.site", "--folder", str(tmp_path), "--port", "0"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "holds no site" in said.stderr


# How it is built


def test_the_same_input_gives_the_same_bytes(site: Site, tmp_path: Path) -> None:
    build_site(tmp_path / "again", shop=SHOP, arrivals=ARRIVALS, seed=0)
    assert tree(tmp_path / "again") == tree(site.www.parent)


def test_another_seed_puts_pictures_elsewhere(site: Site, tmp_path: Path) -> None:
    build_site(tmp_path / "other", shop=SHOP, arrivals=ARRIVALS, seed=1)
    other = json.loads((tmp_path / "other" / "truth.json").read_text())
    paths = {entry["path"] for entry in site.truth["pictures"]}
    assert {entry["path"] for entry in other["pictures"]} != paths


def test_building_again_touches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    build_site(folder, shop=SHOP[:12], arrivals=ARRIVALS[:1], seed=0)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    build_site(folder, shop=SHOP[:12], arrivals=ARRIVALS[:1], seed=0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_pictures_replace_the_site(tmp_path: Path) -> None:
    build_site(tmp_path / "site", shop=SHOP[:12], arrivals=ARRIVALS[:1], seed=0)
    build_site(tmp_path / "site", shop=SHOP[12:24], arrivals=ARRIVALS[:1], seed=0)
    build_site(tmp_path / "fresh", shop=SHOP[12:24], arrivals=ARRIVALS[:1], seed=0)
    assert tree(tmp_path / "site") == tree(tmp_path / "fresh")


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    """Killed while building, and killed between the two renames that replace an older site."""
    for leftover in (".site.building", ".site.replaced"):
        (tmp_path / leftover / "www").mkdir(parents=True)
        (tmp_path / leftover / "www" / "half.html").touch()
    build_site(tmp_path / "site", shop=SHOP[:12], arrivals=ARRIVALS[:1], seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert not (tmp_path / "site" / "www" / "half.html").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a.b", "-a", "é"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    bad = DemoPicture(name=name, labels=(), jpeg=SHOP[0].jpeg)
    with pytest.raises(ValueError, match="is not usable"):
        build_site(tmp_path / "site", shop=[bad, *SHOP[:12]], arrivals=ARRIVALS[:1], seed=0)


def test_two_pictures_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice: item-3"):
        build_site(tmp_path / "site", shop=SHOP[:12], arrivals=SHOP[3:4], seed=0)


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 12 pictures"):
        build_site(tmp_path / "site", shop=SHOP[:11], arrivals=ARRIVALS, seed=0)
