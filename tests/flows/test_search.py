"""Search, prompts tried out, and dry labels, on the line's drawings."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flows.catalog import Catalog
from flows.contact_sheet import Card, contact_sheet
from flows.encoders import EncoderSource
from flows.errors import Permanent
from flows.objects import ObjectStore
from flows.prompts import dry_label, dry_table, try_prompts
from flows.search import query_vector, search
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.line import Line


def test_a_page_escapes_what_it_is_told() -> None:
    page = contact_sheet("<b>", "about", [Card(b"", "<script>")])
    assert "<script>" not in page
    assert "<b>" not in page


def test_a_search_for_nothing_is_refused(line: Line) -> None:
    with pytest.raises(Permanent, match="nothing to search for"):
        query_vector(EncoderSource(line.workspace), words=" ")


@pytest.mark.slow
def test_a_picture_finds_itself_first(line: Line, tmp_path: Path) -> None:
    """Exactly, and by Lance's own comparison; with its thumbnail and the page it came from."""
    source = EncoderSource(line.workspace)
    catalog = line.workspace.catalog
    sha256 = min(catalog.permitted())
    file = tmp_path / "picture"
    file.write_bytes(catalog.read_image_bytes(sha256))
    vector = query_vector(source, picture=file)
    hits = search(line.workspace, source, vector, limit=5)
    assert hits[0].sha256 == sha256
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert hits[0].provenance
    with Image.open(io.BytesIO(hits[0].thumbnail)) as thumbnail:
        assert thumbnail.format == "JPEG"
    assert len({hit.sha256 for hit in hits}) == 5
    nearest = dict(catalog.nearest(source.id(), vector, limit=1000))
    for hit in hits:
        assert nearest[hit.sha256] == pytest.approx(hit.score, abs=2e-3)


ROUNDED = 0.01
"""More than the index's cosines are ever wrong by: .006 were measured."""


@pytest.fixture
def copied(line: Line, bucket: Settings) -> Workspace:
    """The line's pictures in a place of their own, which have no vectors yet."""
    store = ObjectStore(bucket)
    copy = dataclasses.replace(line.workspace, settings=bucket, store=store, catalog=Catalog(store))
    copy.catalog.add_images(line.workspace.catalog.images(thumbnails=True))
    return copy


def test_where_nothing_is_embedded_nothing_is_found(line: Line, copied: Workspace) -> None:
    source = EncoderSource(line.workspace)
    _, vectors_ND = line.workspace.catalog.embeddings(source.id())
    assert search(copied, source, vectors_ND[0]) == []


@pytest.mark.slow
def test_through_the_index_the_neighbours_are_those_of_comparing_all(
    line: Line, copied: Workspace, tmp_path: Path
) -> None:
    """By words and by a picture; and a picture that came after the index is found first by itself."""
    source = EncoderSource(line.workspace)
    sha256s, vectors_ND = line.workspace.catalog.embeddings(source.id())
    late = min(line.workspace.catalog.permitted())
    early = [row for row, sha256 in enumerate(sha256s) if sha256 != late]
    early_ids = [sha256s[row] for row in early]
    copied.catalog.add_embeddings(source.id(), early_ids, vectors_ND[early])
    assert copied.catalog.index_embeddings(source.id())
    file = tmp_path / "picture"
    file.write_bytes(line.workspace.catalog.read_image_bytes(late))
    words = query_vector(source, words="a turntable, a record player")
    picture = query_vector(source, picture=file)

    def scores(vector: NDArray[np.float32], **how: int) -> dict[str, float]:
        hits = search(copied, source, vector, limit=10, **how)
        return {hit.sha256: hit.score for hit in hits}

    for vector in (words, picture):
        exact, indexed = scores(vector), scores(vector, index_from=0)
        assert list(indexed.values()) == pytest.approx(list(exact.values()), abs=ROUNDED)
        last = min(exact.values()) + 2 * ROUNDED  # of two that are as near either may come tenth
        assert {each for each, score in exact.items() if score > last} <= indexed.keys()
        assert late not in indexed
    late_row = sha256s.index(late)
    copied.catalog.add_embeddings(source.id(), [late], vectors_ND[[late_row]])
    assert scores(picture, index_from=0)[late] == pytest.approx(1, abs=2e-3)
    assert next(iter(scores(picture))) == late


@pytest.mark.slow
def test_words_put_what_they_name_first(line: Line) -> None:
    """The line's own prompts do so well on its drawings that the first five are turntables."""
    source = EncoderSource(line.workspace)
    vector = query_vector(source, words="a turntable, a record player")
    yes = {
        sha256
        for (sha256, label), decision in line.workspace.catalog.latest_decisions().items()
        if label == "turntable" and decision.answer == "yes"
    }
    decided = {sha256 for sha256, _ in line.workspace.catalog.latest_decisions()}
    hits = [
        h.sha256 for h in search(line.workspace, source, vector, limit=50) if h.sha256 in decided
    ]
    assert len(yes & set(hits[:8])) >= 6


@pytest.mark.slow
def test_prompts_are_judged_by_the_decisions(line: Line) -> None:
    """The project's own prompt as a trial gives the figure that it has; nonsense gives a lower one."""
    source = EncoderSource(line.workspace)
    same = try_prompts(
        line.workspace, source, ["a turntable, a record player"], label="turntable", limit=3
    )
    assert same.average_precision == same.now
    assert math.isfinite(same.now)
    assert len(list(same.cards())) == 3
    other = try_prompts(line.workspace, source, ["an empty sheet"], label="turntable", limit=3)
    assert other.average_precision < same.average_precision


@pytest.mark.slow
def test_a_label_that_is_not_in_the_project_is_refused_with_those_that_are(line: Line) -> None:
    with pytest.raises(Permanent, match="turntable, vinyl"):
        try_prompts(line.workspace, EncoderSource(line.workspace), ["a cat"], label="cat")


@pytest.mark.slow
def test_a_dry_label_stores_nothing_and_says_why_a_file_has_none(
    line: Line, tmp_path: Path
) -> None:
    catalog = line.workspace.catalog
    before = catalog.versions()
    (tmp_path / "a.jpg").write_bytes(catalog.read_image_bytes(min(catalog.permitted())))
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    found = list(dry_label(line.workspace, EncoderSource(line.workspace), tmp_path))
    assert [sorted(each.scores) for each in found] == [["turntable", "vinyl"], []]
    assert "not_an_image" in dry_table(found).splitlines()[2]
    assert catalog.versions() == before
