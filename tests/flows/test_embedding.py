"""Embedding from the store: decoded ahead in other processes, stopped and resumed, damaged or not."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from crawler.decode import decode
from flows.catalog import Catalog
from flows.encoders import EncoderSource
from flows.errors import NotFound, StoreUnavailable
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.pixel_feed import LOOK_AHEAD, PixelFeed, Unreadable
from flows.prelabel import embed, embed_shard, plan_embedding
from flows.project import Project
from flows.settings import Settings
from flows.unreadable import unreadable
from flows.workspace import Workspace
from model.encoder import ClipEncoder, load_encoder
from model.preprocess import Preprocessing
from tests.flows.line import WEIGHTS
from tests.processes import children_running
from tests.waiting import until

PROJECT = f"""
name = "embedding"
[encoder]
checkpoint = "{WEIGHTS}"
[[labels]]
name = "ant"
"""
PREPROCESSING = Preprocessing.of({"size": 64, "mean": 0.5, "std": 0.5})


@pytest.fixture(scope="module")
def bodies(shared: Path) -> dict[str, bytes]:
    folder = shared / "data" / "hymenoptera" / "images"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())[:6]}


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return load_encoder(Project.parse(PROJECT, Path()).encoder_config())


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path, bodies: dict[str, bytes]) -> Workspace:
    """A project with six photographs in its bucket."""
    (tmp_path / "project.toml").write_text(PROJECT)
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, body in bodies.items():
        (photos / name).write_bytes(body)
    store = ObjectStore(bucket)
    opened = Workspace(
        root=tmp_path,
        settings=bucket,
        project=Project.load(tmp_path),
        store=store,
        catalog=Catalog(store),
    )
    import_pictures(opened, str(photos))
    return opened


def test_pixels_come_in_order_and_are_those_of_this_process(bodies: dict[str, bytes]) -> None:
    with PixelFeed(PREPROCESSING, max_pixels=10**8, workers=2) as feed:
        got = dict(feed.pixels(bodies, bodies.__getitem__))
    assert list(got) == list(bodies)
    for name, body in bodies.items():
        expected = PREPROCESSING.pixels(decode(body, reduce_to=PREPROCESSING.draft_size))
        np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parametrize(("batch_size", "ahead"), [(8, LOOK_AHEAD), (100, 200)])
def test_two_batches_are_under_way_and_no_more(batch_size: int, ahead: int) -> None:
    """One to encode and one to decode meanwhile; a fixed number where batches are small."""
    taken: list[str] = []

    def names() -> Iterator[str]:
        for number in range(300):
            taken.append(str(number))
            yield taken[-1]

    with PixelFeed(PREPROCESSING, max_pixels=10**8, workers=1) as feed:
        found = feed.pixels(names(), lambda _: Unreadable("missing", ""), batch_size=batch_size)
        next(found)
        assert len(taken) == ahead
        assert len(list(found)) == 299


def test_what_does_not_decode_has_a_reason_and_stops_nothing(bodies: dict[str, bytes]) -> None:
    """Cut off, no picture at all, and bytes that are gone from the store."""
    name, whole = next(iter(bodies.items()))
    broken = {"cut": whole[: len(whole) // 2], "page": b"<html>", name: whole}

    def read(sha256: str) -> bytes:
        if sha256 not in broken:
            raise NotFound("there is no such image")
        return broken[sha256]

    with PixelFeed(PREPROCESSING, max_pixels=10**8, workers=1) as feed:
        got = dict(feed.pixels(["cut", "gone", "page", name], read))
    reasons = {key: each.reason for key, each in got.items() if isinstance(each, Unreadable)}
    assert reasons == {"cut": "truncated", "gone": "missing", "page": "not_an_image"}


def test_a_store_that_is_down_is_an_error_and_not_a_row() -> None:
    def read(sha256: str) -> bytes:
        raise StoreUnavailable("the store cannot be reached")

    with (
        PixelFeed(PREPROCESSING, max_pixels=10**8, workers=1) as feed,
        pytest.raises(StoreUnavailable),
    ):
        list(feed.pixels(["any"], read))


def test_a_decoder_that_is_killed_is_started_again(bodies: dict[str, bytes]) -> None:
    """Killed between two pictures, by whoever: the next one is decoded by another process."""
    killed: list[int] = []

    def read_and_kill(name: str) -> bytes:
        for worker in children_running("flows.pixel_worker"):
            worker.kill()
            killed.append(worker.pid)
        return bodies[name]

    with PixelFeed(PREPROCESSING, max_pixels=10**8, workers=1) as feed:
        list(feed.pixels(list(bodies)[:1], bodies.__getitem__))
        got = list(feed.pixels(list(bodies)[1:2], read_and_kill))
    assert killed
    assert not isinstance(got[0][1], Unreadable)


@pytest.mark.slow
def test_vectors_from_the_store_are_those_of_the_pictures(
    workspace: Workspace, encoder: ClipEncoder, bodies: dict[str, bytes]
) -> None:
    (shard,) = plan_embedding(workspace, encoder.id)
    assert embed_shard(workspace, encoder, shard) == len(bodies)
    ids, got = workspace.catalog.embeddings(encoder.id)
    images = [decode(workspace.catalog.read_image_bytes(sha256)) for sha256 in ids]
    np.testing.assert_allclose(got, encoder.encode_images(images), atol=2e-3)


@pytest.mark.slow
def test_a_damaged_picture_becomes_a_row_and_the_others_are_embedded(
    workspace: Workspace, encoder: ClipEncoder, bodies: dict[str, bytes]
) -> None:
    (shard,) = plan_embedding(workspace, encoder.id)
    place = workspace.catalog.places(shard)[shard[0]]
    data = bytearray(workspace.store.get(place.shard))
    data[place.offset + place.size // 2] ^= 255
    workspace.store.put(place.shard, bytes(data))
    assert embed_shard(workspace, encoder, shard) == len(bodies) - 1
    (row,) = unreadable(workspace.store)
    assert (row.sha256, row.reason) == (shard[0], "damaged")
    assert plan_embedding(workspace, encoder.id) == [[shard[0]]]


KILLED_RUN = """
import sys
from collections.abc import Iterator
from pathlib import Path
import flows.prelabel as prelabel
from flows.encoders import EncoderSource
from flows.workspace import open_workspace

prelabel.EMBED_BATCH_IMAGES = 2

def say(done, total, said=""):
    print(done, flush=True)
    sys.stdin.readline()

workspace = open_workspace(Path(sys.argv[1]))
prelabel.embed(workspace, EncoderSource(workspace), progress=say)
"""


@pytest.mark.slow
def test_embedding_that_was_killed_is_carried_on_without_repeating(
    workspace: Workspace, encoder: ClipEncoder, bodies: dict[str, bytes]
) -> None:
    """Killed after its first committed batch; the decoders it had end with it."""
    settings = workspace.settings
    assert settings.access_key is not None
    assert settings.secret_key is not None
    environment = os.environ | {
        "CRATEDIG_ENDPOINT": str(settings.endpoint),
        "CRATEDIG_BUCKET": settings.bucket,
        "CRATEDIG_PREFIX": settings.prefix,
        "CRATEDIG_ACCESS_KEY": settings.access_key.get_secret_value(),
        "CRATEDIG_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, workspace.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"2\n"
        decoders = psutil.Process(process.pid).children()
        process.kill()
    assert decoders
    until(lambda: not any(each.is_running() for each in decoders))
    (left,) = plan_embedding(workspace, encoder.id)
    assert len(left) == len(bodies) - 2
    assert embed_shard(workspace, encoder, left) == len(left)
    assert workspace.catalog.embedding_count(encoder.id) == len(bodies)


@pytest.mark.slow
def test_embedding_that_was_stopped_between_shards_goes_on_with_the_next(
    workspace: Workspace, bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the first of three shards; then two are left, and are what is counted."""
    monkeypatch.setattr("flows.prelabel.EMBED_SHARD_IMAGES", 2)
    told: list[tuple[int, int | None]] = []

    def stop_after_two(done: int, total: int | None, said: object = "") -> None:
        told.append((done, total))
        if done == 2 and total == len(bodies):
            raise KeyboardInterrupt

    source = EncoderSource(workspace)
    with pytest.raises(KeyboardInterrupt):
        embed(workspace, source, progress=stop_after_two)
    assert told == [(2, 6)]
    assert workspace.catalog.embedding_count(source.id()) == 2
    told.clear()
    assert embed(workspace, source, progress=stop_after_two) == 4
    assert told == [(2, 4), (4, 4)]


@pytest.mark.slow
def test_auto_is_measured_once_a_project_and_another_machine_takes_the_same(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The choice lies in the bucket; the other machine has an empty cache."""
    settings = workspace.project.encoder.model_copy(update={"backend": "auto"})
    project = workspace.project.model_copy(update={"encoder": settings})
    here = dataclasses.replace(workspace, project=project)
    chosen = EncoderSource(here).id()
    kept = list(workspace.store.list("encoders/"))
    there = dataclasses.replace(here, root=tmp_path / "elsewhere")
    assert EncoderSource(there).id() == EncoderSource(there).load().id == chosen
    assert list(workspace.store.list("encoders/")) == kept
