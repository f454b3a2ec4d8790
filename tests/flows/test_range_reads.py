"""Pictures that lie beside one another are read together, and each is what it is by itself."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.catalog import Catalog
from flows.errors import Corrupt, NotFound
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.project import Project
from flows.range_reads import RangeReader
from flows.settings import Settings
from flows.shards import Place
from flows.workspace import Workspace
from tests.flows.catalog_rows import sha
from tests.flows.line import WEIGHTS

PROJECT = f"""
name = "ranges"
[encoder]
checkpoint = "{WEIGHTS}"
[[labels]]
name = "ant"
"""


class Counting(Catalog):
    """A catalogue that counts its requests for bytes."""

    requests = 0

    def read_place(self, place: Place) -> bytes:
        """Read, and count."""
        self.requests += 1
        return super().read_place(place)


@pytest.fixture
def catalog(bucket: Settings, tmp_path: Path, shared: Path) -> Counting:
    """A catalogue of twelve photographs, of some 20 kB each, in one shard."""
    (tmp_path / "project.toml").write_text(PROJECT)
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((shared / "data" / "hymenoptera" / "images").iterdir())[:12]:
        (photos / path.name).write_bytes(path.read_bytes())
    store = ObjectStore(bucket)
    catalog = Counting(store)
    workspace = Workspace(
        root=tmp_path,
        settings=bucket,
        project=Project.load(tmp_path),
        store=store,
        catalog=catalog,
    )
    import_pictures(workspace, str(photos))
    return catalog


def test_neighbours_are_read_with_one_request(catalog: Counting) -> None:
    """From several threads, too, and in the order in which they lie in the shard."""
    reader = RangeReader(catalog, sorted(catalog.sha256s()))
    places = catalog.places(reader.sha256s)
    offsets = [places[sha256].offset for sha256 in reader.sha256s]
    assert offsets == sorted(offsets)
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(reader.read, reader.sha256s))
    assert [hashlib.sha256(body).hexdigest() for body in bodies] == reader.sha256s
    assert len(bodies) == 12
    assert catalog.requests == 1


def test_a_request_is_bounded(catalog: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures larger than the bound are read one by one."""
    monkeypatch.setattr("flows.range_reads.MOST_BYTES", 1000)
    reader = RangeReader(catalog, sorted(catalog.sha256s()))
    for sha256 in reader.sha256s:
        assert hashlib.sha256(reader.read(sha256)).hexdigest() == sha256
    assert catalog.requests == 12


def test_what_lies_far_apart_is_not_read_together(catalog: Counting) -> None:
    """The bytes between the first and the last of twelve are nobody's business."""
    in_order = RangeReader(catalog, sorted(catalog.sha256s())).sha256s
    reader = RangeReader(catalog, [in_order[0], in_order[-1]])
    assert [len(reader.read(sha256)) > 0 for sha256 in reader.sha256s] == [True, True]
    assert catalog.requests == 2


def test_a_damaged_picture_harms_no_neighbour(catalog: Counting) -> None:
    reader = RangeReader(catalog, sorted(catalog.sha256s()))
    damaged = reader.sha256s[5]
    place = catalog.places([damaged])[damaged]
    data = bytearray(catalog._store.get(place.shard))
    data[place.offset + place.size // 2] ^= 255
    catalog._store.put(place.shard, bytes(data))
    for sha256 in reader.sha256s:
        if sha256 == damaged:
            with pytest.raises(Corrupt, match=damaged):
                reader.read(sha256)
        else:
            assert hashlib.sha256(reader.read(sha256)).hexdigest() == sha256


def test_a_picture_that_nothing_is_known_of_comes_last_and_is_not_found(catalog: Counting) -> None:
    there = next(catalog.sha256s())
    reader = RangeReader(catalog, [sha(1), there])
    assert reader.sha256s == [there, sha(1)]
    with pytest.raises(NotFound, match=sha(1)):
        reader.read(sha(1))
