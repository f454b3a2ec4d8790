"""The line from a site to published predictions, on a real store, a real browser and a real CLIP."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from flows.collect import collect
from flows.encoders import EncoderSource
from flows.imports import import_pictures
from flows.predict import predict
from flows.predictions import predicted, published
from flows.prelabel import prelabel
from flows.registry import Registry
from flows.review import apply_decisions
from flows.snapshots import make_snapshot
from flows.train import train
from model.data import Snapshot
from tests.flows.line import Line, answers

pytestmark = pytest.mark.slow


def test_every_picture_of_the_site_is_in_the_catalogue(line: Line) -> None:
    """Whatever way a page shows it in, planted duplicates and script-made pages included."""
    there = {row.url for row in line.workspace.catalog.links() if row.outcome == "kept"}
    missing = {line.site + each["path"] for each in line.truth["pictures"]} - there
    assert missing == set()


def test_every_reject_is_on_record_with_the_right_reason(line: Line) -> None:
    """Broken, forbidden, missing and useless things are rows, and nothing else is."""
    said = {
        row.url: row.reason for row in line.workspace.catalog.links() if row.outcome == "rejected"
    }
    assert said == {line.site + each["path"]: each["reason"] for each in line.truth["rejects"]}


def test_variants_and_unseen_pictures_are_left_alone(line: Line) -> None:
    """Thumbnails of pictures that were had whole are not fetched; forbidden pages are not read."""
    asked = {row.url for row in line.workspace.catalog.links()}
    left = [*(each["path"] for each in line.truth["variants"]), *line.truth["unseen"]]
    assert not asked & {line.site + path for path in left}


def test_planted_duplicates_are_found_and_nothing_else_is_lost(line: Line) -> None:
    """Each planted copy hangs on its original; every distinct picture stays."""
    sha256_of = {row.url: row.sha256 for row in line.workspace.catalog.links()}
    kept_of = line.workspace.catalog.duplicates()
    planted = {
        sha256_of[line.site + each["path"]]: sha256_of[line.site + each["duplicate_of"]]
        for each in line.truth["pictures"]
        if each["duplicate_of"] is not None and each["how"] != "same bytes"
    }
    assert kept_of == planted
    same_bytes = [each for each in line.truth["pictures"] if each["how"] == "same bytes"]
    assert same_bytes
    for each in same_bytes:
        assert sha256_of[line.site + each["path"]] == sha256_of[line.site + each["duplicate_of"]]


def test_the_counts_add_up(line: Line) -> None:
    """Every link is kept, duplicate or rejected, and nothing is counted twice."""
    distinct = [each for each in line.truth["pictures"] if each["duplicate_of"] is None]
    shop = [each for each in distinct if each["part"] == "shop"]
    for result in (line.collected, line.arrived):
        rejected = sum(result.rejected.values())
        assert result.links == result.kept + result.duplicates + rejected
    assert line.collected.kept == len(shop)
    assert line.arrived.kept == len(distinct) - len(shop)


def test_original_bytes_are_kept(line: Line) -> None:
    """What the store gives back is what the site served, under its own hash."""
    (image, *_) = line.workspace.catalog.images()
    data = line.workspace.catalog.read_image_bytes(image.sha256)
    assert hashlib.sha256(data).hexdigest() == image.sha256


def test_a_prediction_can_be_walked_back_to_its_page(line: Line) -> None:
    """From the published row to the model, its snapshot, and the page the picture was found on."""
    (table, *_) = published(line.workspace.store, line.trained.version)
    row = table.to_pylist()[0]
    card = Registry(line.workspace.store, line.workspace.project.name).card(row["version"])
    assert line.workspace.store.head(f"snapshots/{card.snapshot_id}.json") is not None
    image = line.workspace.catalog.image(row["sha256"])
    assert image is not None
    assert all(place.page_url.startswith(line.site) for place in image.provenance)


def test_the_stored_snapshot_is_what_was_trained_on(line: Line) -> None:
    """It is whole, its id is its own, and no duplicate is in it."""
    key = f"snapshots/{line.trained.snapshot_id}.json"
    snapshot = Snapshot.from_json(line.workspace.store.get(key).decode())
    assert snapshot.id == line.trained.snapshot_id
    assert len(snapshot.examples) == line.collected.kept
    assert not set(snapshot.sha256s) & line.workspace.catalog.duplicates().keys()


def test_every_distinct_picture_is_predicted_once(line: Line) -> None:
    """One row a picture and label, pictures that trained the model marked as such."""
    rows = [
        row
        for table in published(line.workspace.store, line.trained.version)
        for row in table.to_pylist()
    ]
    subjects = [(row["sha256"], row["label"]) for row in rows]
    assert len(subjects) == len(set(subjects))
    assert {sha256 for sha256, _ in subjects} == line.workspace.catalog.permitted()
    fitted = {row["sha256"] for row in rows if row["fitted"]}
    assert len(fitted) == line.collected.kept


def test_a_second_night_has_nothing_to_do(line: Line) -> None:
    """Nothing is embedded, predicted or published twice."""
    before = {each.key for each in line.workspace.store.list("predictions/")}
    again = predict(line.workspace)
    assert (again.embedded, again.predicted, again.parts) == (0, 0, ())
    assert again.already_predicted == line.predicted.predicted
    assert {each.key for each in line.workspace.store.list("predictions/")} == before


def test_a_stage_repeated_under_its_run_id_gives_its_record(line: Line) -> None:
    """`collect` and `prelabel` say that they were done, and touch nothing."""
    versions = line.workspace.catalog.versions()
    assert collect(line.workspace, "shop", run_id="first") == (line.collected, True)
    assert prelabel(line.workspace, run_id="first") == (line.prelabelled, True)
    assert line.workspace.catalog.versions() == versions


def test_a_second_crawl_fetches_no_unchanged_body(line: Line) -> None:
    """Conditional requests: all pictures are seen again, none is sent again."""
    again, repeated = collect(line.workspace, "arrivals", run_id="second")
    assert not repeated
    assert again.fetched == 0
    assert (again.links, again.kept) == (line.arrived.links, line.arrived.kept)


def test_training_again_on_the_same_decisions_gives_the_same_model(line: Line) -> None:
    """Same snapshot, seed and settings: same version, nothing published twice."""
    again = train(line.workspace)
    assert (again.version, again.trained) == (line.trained.version, False)
    assert again.snapshot_id == line.trained.snapshot_id


def test_applying_the_same_decisions_again_appends_nothing(line: Line) -> None:
    """A decision file may be applied as often as one likes."""
    result = apply_decisions(
        line.workspace, answers(line.truth, line.site, "shop"), who="someone else"
    )
    assert result.new == 0
    assert result.unknown == ()


def test_an_answer_to_a_duplicate_counts_for_the_picture_that_is_kept(line: Line) -> None:
    """The snapshot has the answer under the kept picture's id, and not under the duplicate's."""
    duplicate, kept = next(iter(line.workspace.catalog.duplicates().items()))
    encoder_id = EncoderSource(line.workspace).id()
    before = _answer(make_snapshot(line.workspace, encoder_id), kept)
    assert before is not None
    for flipped in (not before, before):
        answered = answers(line.truth, line.site, "shop")[0]
        given = dataclasses.replace(
            answered, image=duplicate, label="vinyl", answer="yes" if flipped else "no"
        )
        apply_decisions(line.workspace, [given], who="test")
        snapshot = make_snapshot(line.workspace, encoder_id)
        assert _answer(snapshot, kept) is flipped
        assert duplicate not in snapshot.sha256s


def test_importing_what_is_known_adds_nothing(line: Line, tmp_path: Path) -> None:
    """An archive of pictures that the dataset has brings provenance, but no image and no bytes."""
    image = next(iter(line.workspace.catalog.images()))
    data = line.workspace.catalog.read_image_bytes(image.sha256)
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "again.jpg").write_bytes(data)
    (folder / "notes.txt").write_text("not a picture")
    before = set(line.workspace.catalog.sha256s())
    result, _ = import_pictures(line.workspace, str(folder))
    assert set(line.workspace.catalog.sha256s()) == before
    assert result.rejected == {"not_an_image": 1}
    merged = line.workspace.catalog.image(image.sha256)
    assert merged is not None
    assert any(each.url == "archive:archive/again.jpg" for each in merged.provenance)
    assert not list(line.workspace.store.list(f"shards/{result.run_id}/"))


def test_what_was_predicted_is_known_by_id(line: Line) -> None:
    """`predicted` is what a later night leaves out."""
    assert predicted(line.workspace.store, line.trained.version) == (
        line.workspace.catalog.permitted()
    )


def _answer(snapshot: Snapshot, sha256: str) -> bool | None:
    (example,) = [each for each in snapshot.examples if each.sha256 == sha256]
    return example.answers.get("vinyl")
