"""`cratedig dedupe` on a folder: which pictures are one, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.dedupe import dedupe_folder
from tests.crawler.pictures import encoded, picture


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
