"""A copy of a bucket is whole, is brought up to date, and is enough to go on from."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

import pytest

from flows.cli import init
from flows.copy import copy, damaged, destination
from flows.errors import NotFound, Permanent
from flows.objects import ObjectStore
from flows.predict import predict
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from tests.flows.line import Line
from tests.flows.test_cli import settings_of

pytestmark = pytest.mark.slow


def _place() -> str:
    return f"s3://tests/copy-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def copied(line: Line) -> tuple[Workspace, ObjectStore]:
    """The line's bucket, copied once, for tests that only look at the copy."""
    to = destination(line.workspace, _place(), None)
    copy(line.workspace, to)
    return line.workspace, to


def _content(store: ObjectStore) -> dict[str, int]:
    passing = ("leases/", ".cratedig-", "project.toml")
    return {info.key: info.size for info in store.list() if not info.key.startswith(passing)}


def test_everything_is_there(copied: tuple[Workspace, ObjectStore]) -> None:
    workspace, to = copied
    assert _content(to) == _content(workspace.store)
    assert damaged(to) == []


def test_an_empty_machine_goes_on_from_the_copy_alone(
    copied: tuple[Workspace, ObjectStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: Line,
) -> None:
    """Nothing but the keys: the same pictures, decisions and model, and nothing to do twice."""
    _, to = copied
    prefix = to.uri("").removeprefix("s3://tests/").rstrip("/")
    moved = line.workspace.settings.model_copy(update={"prefix": prefix})
    for name, value in settings_of(moved).items():
        monkeypatch.setenv(name, value)
    init(tmp_path, from_bucket=True)
    workspace = open_workspace(tmp_path)
    assert workspace.catalog.permitted() == line.workspace.catalog.permitted()
    assert list(workspace.catalog.decisions()) == list(line.workspace.catalog.decisions())
    again = predict(workspace)
    assert (again.version, again.predicted) == (line.trained.version, 0)


@pytest.fixture
def small(line: Line, bucket: Settings) -> Workspace:
    """A workspace whose bucket has three objects, one of which points at another."""
    store = ObjectStore(bucket)
    store.put("shards/one.tar", b"one")
    store.put("shards/two.tar", b"two")
    store.put("tables/images.lance/_versions/1.manifest", b"points at one and two")
    return dataclasses.replace(line.workspace, settings=bucket, store=store)


def test_only_what_has_changed_is_copied_again(small: Workspace) -> None:
    to = destination(small, _place(), None)
    assert copy(small, to).copied == 3
    small.store.put("shards/one.tar", b"1")
    again = copy(small, to)
    assert (again.copied, again.unchanged, again.deleted) == (1, 2, 0)
    assert to.get("shards/one.tar") == b"1"


def test_what_was_forgotten_goes_from_the_copy(small: Workspace) -> None:
    to = destination(small, _place(), None)
    copy(small, to)
    small.store.delete("shards/two.tar")
    assert copy(small, to).deleted == 1
    assert to.head("shards/two.tar") is None


class _Swept(ObjectStore):
    """A real store in which somebody else deletes an object between its listing and its reading."""

    sweeps: int = 1

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        if self.sweeps and key == "shards/two.tar":
            self.sweeps -= 1
            self.delete(key)
        return super().get_with_etag(key)


def test_a_sweep_in_the_middle_is_no_error(small: Workspace, bucket: Settings) -> None:
    workspace = dataclasses.replace(small, store=_Swept(bucket))
    to = destination(small, _place(), None)
    copy(workspace, to)
    assert to.head("shards/two.tar") is None
    assert to.get("shards/one.tar") == b"one"


class _Watched(ObjectStore):
    """A real store that notes in which order it was written to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.written: list[str] = []

    def put(self, key: str, data: bytes) -> str:
        self.written.append(key)
        return super().put(key, data)


def test_what_points_is_written_after_what_it_points_at(small: Workspace, bucket: Settings) -> None:
    """So that a copy that was cut off holds no table whose data are missing."""
    prefix = f"copy-{uuid.uuid4().hex}"
    to = _Watched(bucket.model_copy(update={"prefix": prefix}))
    copy(small, to)
    pointer = to.written.index("tables/images.lance/_versions/1.manifest")
    assert pointer > max(to.written.index(f"shards/{each}.tar") for each in ("one", "two"))


def test_damage_is_found(small: Workspace) -> None:
    to = destination(small, _place(), None)
    copy(small, to)
    to.put("shards/one.tar", b"eno")
    to.delete("shards/two.tar")
    first, second = damaged(to)
    assert "shards/one.tar is damaged" in first
    assert "shards/two.tar is missing" in second


def test_a_large_object_is_sent_in_parts_and_read_back(small: Workspace) -> None:
    body = bytes(range(256)) * 40_000
    small.store.put("shards/large.tar", body)
    to = destination(small, _place(), None)
    copy(small, to)
    assert to.get("shards/large.tar") == body
    assert damaged(to) == []


@pytest.mark.parametrize("to", ["/backup", "s3://", "https://example.org/backup", "s3://tests?x=1"])
def test_a_place_that_is_none_is_refused(small: Workspace, to: str) -> None:
    with pytest.raises(Permanent, match="is not of the form s3://bucket/prefix"):
        destination(small, to, None)


def test_a_copy_does_not_go_into_itself(small: Workspace) -> None:
    for to in (small.store.uri("backup"), "s3://tests"):
        with pytest.raises(Permanent, match="lie inside each other"):
            destination(small, to, None)


def test_what_is_no_copy_cannot_be_restored(
    small: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_of(small.settings).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotFound, match="`cratedig copy` has made"):
        init(tmp_path, from_bucket=True)
    assert list(tmp_path.iterdir()) == []
