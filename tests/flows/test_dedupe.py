"""`cratedig dedupe`: which pictures of a folder or of the dataset are one, and the page about it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from crawler.decode import examine
from flows.catalog import Catalog
from flows.collect import drop_duplicates
from flows.dedupe import alike, dedupe_folder, mark_duplicates
from flows.objects import ObjectStore
from flows.rows import ImageRow
from tests.crawler.pictures import encoded, picture
from tests.flows.catalog_rows import image as any_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures: one in three files (two of the same bytes, one smaller), the other alone."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = picture(1, (400, 300))
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(encoded(image, "JPEG", quality=90))
    (folder / "small <1>.jpg").write_bytes(encoded(image.resize((200, 150)), "JPEG"))
    (folder / "other.png").write_bytes(encoded(picture(2)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


def test_a_folder_gives_the_file_to_keep_and_its_duplicates(folder: Path) -> None:
    result, groups = dedupe_folder(folder)
    assert groups == [("a.jpg", ["b.jpg", "small <1>.jpg"])]
    assert (result.images, result.groups, result.rejected) == (4, 1, 1)


def test_files_of_the_same_bytes_alone_are_a_group(folder: Path) -> None:
    (folder / "small <1>.jpg").unlink()
    assert dedupe_folder(folder)[1] == [("a.jpg", ["b.jpg"])]


def test_the_page_holds_every_file_of_a_group_and_needs_no_other(
    folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "dup.html"
    dedupe_folder(folder, report=page)
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 3
    assert "small &lt;1&gt;.jpg" in text
    assert "http" not in text
    assert text.count("stays</b>") == 1


@pytest.fixture
def catalog(object_store: ObjectStore) -> Catalog:
    """A new, empty catalogue in a bucket of its own."""
    return Catalog(object_store)


def row(image: Image.Image, number: int) -> ImageRow:
    """Return what a crawl would write about `image`."""
    data = encoded(image, "JPEG", quality=90)
    seen = examine(data)
    fields = dataclasses.asdict(seen.fingerprint)
    fields["size"] = fields.pop("size_bytes")
    return dataclasses.replace(
        any_image(number), **fields, format=seen.format, thumbnail=seen.thumbnail
    )


def test_the_dataset_is_marked_and_a_framed_copy_stands_back(catalog: Catalog) -> None:
    """Thumbnails, which the second look needs, come from the catalogue."""
    original = picture(1, (400, 300))
    rows = [
        row(each, at)
        for at, each in enumerate([original, ImageOps.expand(original, 30, "black"), picture(2)])
    ]
    catalog.add_images(rows)
    result = mark_duplicates(catalog)
    assert (result.images, result.groups, result.duplicates) == (3, 1, 1)
    assert catalog.duplicates() == {rows[1].sha256: rows[0].sha256}
    marked = catalog.image(rows[1].sha256)
    assert marked is not None
    assert marked.duplicate_how == "second look"


def test_what_is_new_joins_a_group_and_only_a_rebuild_takes_marks_away(catalog: Catalog) -> None:
    first, copy, other = (
        row(each, at)
        for at, each in enumerate(
            [picture(1, (400, 300)), picture(1, (400, 300)).resize((200, 150)), picture(2)]
        )
    )
    catalog.add_images([first, other])
    catalog.set_duplicates({other.sha256: (first.sha256, "by mistake")})
    catalog.add_images([copy])
    assert drop_duplicates(catalog) == 2
    assert catalog.duplicates() == dict.fromkeys([copy.sha256, other.sha256], first.sha256)
    assert mark_duplicates(catalog).duplicates == 1
    assert catalog.duplicates() == {copy.sha256: first.sha256}


def test_pictures_of_one_shoot_are_reported_and_stay(catalog: Catalog) -> None:
    """A duplicate is no news there, and neither is a picture that is like no other."""
    rows = [row(picture(at), at) for at in range(4)]
    catalog.add_images(rows)
    first, second, duplicate, other = (each.sha256 for each in rows)
    catalog.set_duplicates({duplicate: (first, "perceptual")})
    vectors = np.array([[1, 0.1, 0], [1, 0, 0], [1, 0, 0.1], [0, 1, 0]], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    catalog.add_embeddings("clip-0", [first, second, duplicate, other], vectors)
    assert alike(catalog, "clip-0") == [sorted([first, second])]
    assert set(catalog.duplicates()) == {duplicate}
