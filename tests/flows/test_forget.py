"""Forgetting is for good: a scan of every object in a real bucket finds nothing of it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import lance.file
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.catalog import Catalog
from flows.collect import collect
from flows.drift import DriftReport, FarPicture, drift_reports
from flows.errors import Permanent
from flows.forget import forget, forgotten, plan_forget
from flows.leases import BucketLeases
from flows.objects import ObjectStore
from flows.predictions import PREDICTION_SCHEMA, Manifest, manifests, predicted, publish
from flows.project import Project
from flows.queues import Queue, QueuedPick, read, write
from flows.rows import DecisionRow, LinkRow, PreLabelRow
from flows.settings import Settings
from flows.spot_checks import SpotCheck, spot_checks
from flows.tables import Table
from flows.tombstones import _SCHEMA, FORGOTTEN, Forgotten
from flows.workspace import Workspace
from tests.crawler.pictures import encoded, picture
from tests.flows.host_servers import Host, serving_hosts

PROJECT = """
name = "forgetful"

[encoder]
model = "ViT-B-32"
pretrained = "none"

[[labels]]
name = "blot"
prompts = ["a blot"]

[[sources]]
name = "list"
kind = "urls"
start = [{start}]
allow_private = true

[limits]
delay_s = 0.0
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A project with six pictures of two hosts: the fourth is a copy of the first."""

    workspace: Workspace
    hosts: list[Host]
    sha256s: list[str]

    def url(self, number: int) -> str:
        """Return the address of picture `number`, from 0."""
        return self.hosts[number // 3].url(f"/{number}.jpg")


@pytest.fixture
def world(tmp_path: Path, bucket: Settings) -> Iterator[World]:
    """Collected for real, then embedded, pre-labelled, decided on, trained on and predicted."""
    pictures = [encoded(picture(seed), "JPEG", quality=90) for seed in range(6)]
    pictures[3] = encoded(picture(0).resize((200, 150)), "JPEG", quality=85)
    hosts = [
        Host(
            name=f"127.0.0.{2 + at}",
            files={f"/{n}.jpg": pictures[n] for n in (3 * at, 3 * at + 1, 3 * at + 2)},
        )
        for at in range(2)
    ]
    with serving_hosts(hosts):
        urls = [hosts[number // 3].url(f"/{number}.jpg") for number in range(6)]
        text = PROJECT.format(start=", ".join(map(json.dumps, urls)))
        (tmp_path / "project.toml").write_text(text)
        store = ObjectStore(bucket)
        workspace = Workspace(
            root=tmp_path,
            settings=bucket,
            project=Project.load(tmp_path),
            store=store,
            catalog=Catalog(store),
        )
        collect(workspace, "list", run_id="first")
        of_url = {row.url: row.sha256 for row in workspace.catalog.links()}
        sha256s = [of_url[url] or "" for url in urls]
        assert all(sha256s)
        _work_on(workspace, sha256s, urls)
        yield World(workspace=workspace, hosts=hosts, sha256s=sha256s)


def _work_on(workspace: Workspace, sha256s: list[str], urls: list[str]) -> None:
    store, catalog, now = workspace.store, workspace.catalog, datetime.now(UTC)
    catalog.add_embeddings("tiny", sha256s, np.eye(6, 4))
    catalog.put_prelabels(
        PreLabelRow(sha256=each, label="blot", score=0.5, taxonomy_id="t", encoder_id="tiny")
        for each in sha256s
    )
    catalog.add_decisions(
        DecisionRow(sha256=each, label="blot", answer="yes", who="ann", at=now) for each in sha256s
    )
    # One address of the first host was refused, and told of another address there.
    catalog.record_links(
        [
            LinkRow(
                url=urls[3] + "?gone",
                source="list",
                page_url="https://elsewhere.example/",
                found_by="test",
                outcome="rejected",
                reason="http_error",
                detail=f"redirected to {urls[0]}, and gone",
                run_id="first",
                seen_at=now,
            )
        ]
    )
    store.put("snapshots/snap.json", json.dumps({"examples": sha256s[:2]}).encode())
    screen = {"who": "ann", "ends": 2e9, "sha256s": sha256s}
    store.put("screens/blot.json", json.dumps({"tab": screen}).encode())
    store.put("models/forgetful/v1/card.json", b'{"snapshot_id": "snap"}')
    rows = [
        dict(
            zip(
                PREDICTION_SCHEMA.names,
                (each, "blot", 0.5, 0.5, True, False, "v1", "tiny", now),
                strict=True,
            )
        )
        for each in sha256s
    ]
    part = "predictions/model=v1/date=2026-01-01/part.parquet"
    store.put(part, _parquet(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA)))
    manifest = Manifest(number=0, version="v1", parts=(part,), pictures=6, published_at="now")
    assert publish(store, manifest)
    store.put("runs/first/report.md", f"| [a]({urls[0]}) | {urls[3]} |\n".encode())
    store.put("runs/first/links-list/0.parquet", _parquet(pa.table({"url": urls})))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def traces(store: ObjectStore, *needles: bytes) -> dict[str, list[bytes]]:
    """Return which objects hold which needles: in the key, as they lie there, and unpacked."""
    found: dict[str, list[bytes]] = {}
    for info in store.list():
        raw = store.get(info.key)
        text = info.key.encode() + raw
        if info.key.endswith(".parquet"):
            text += _plain(pq.read_table(io.BytesIO(raw)))
        elif info.key.endswith(".lance"):
            # Each file by itself: those of old versions, and those of none, too.
            reader = lance.file.LanceFileReader(
                store.uri(info.key), storage_options=store.lance_options()
            )
            text += _plain(reader.read_all().to_table())
        if met := [needle for needle in needles if needle in text]:
            found[info.key] = met
    return found


def _plain(table: pa.Table) -> bytes:
    def leaves(value: object) -> Iterator[bytes]:
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, dict):
            for each in value.values():
                yield from leaves(each)
        elif isinstance(value, list):
            for each in value:
                yield from leaves(each)
        else:
            yield str(value).encode()

    return b"\n".join(leaves(table.to_pylist()))


def test_after_forgetting_no_object_holds_the_bytes_or_the_addresses(world: World) -> None:
    """By id and by address; everything else is as it was, and the copy is told of."""
    workspace, store, catalog = world.workspace, world.workspace.store, world.workspace.catalog
    gone, stay = (0, 4), (1, 2, 3, 5)
    bytes_of = [catalog.read_image_bytes(each) for each in world.sha256s]
    thumbnails = catalog.thumbnails(world.sha256s)
    needles = [
        needle
        for number in gone
        for needle in (
            bytes_of[number],
            thumbnails[world.sha256s[number]],
            world.url(number).encode(),
        )
    ]
    assert {met for each in traces(store, *needles).values() for met in each} == set(needles)

    result = forget(workspace, sha256s=[world.sha256s[0]], urls=[world.url(4)], in_flight_s=0)

    assert traces(store, *needles) == {}
    assert result.unfinished == ()
    assert set(catalog.sha256s()) == {world.sha256s[number] for number in stay}
    assert [catalog.read_image_bytes(world.sha256s[n]) for n in stay] == [bytes_of[n] for n in stay]
    assert result.copies == (world.sha256s[3],)
    assert world.sha256s[3] not in catalog.duplicates()
    assert (result.snapshots, result.models) == (("snap",), ("forgetful/v1",))
    assert set(catalog.embeddings("tiny")[0]) == set(catalog.sha256s())
    assert {row.sha256 for row in catalog.prelabels()} == set(catalog.sha256s())
    assert {row.sha256 for row in catalog.decisions()} == set(catalog.sha256s())
    assert predicted(store, "v1") == set(catalog.sha256s())
    assert manifests(store, "v1")[0].pictures == len(stay)
    assert store.get("runs/first/report.md").decode() == f"| [a]({FORGOTTEN}) | {world.url(3)} |\n"
    details = {row.detail for row in catalog.links()}
    assert details == {"", f"redirected to {FORGOTTEN}, and gone"}


def test_after_forgetting_no_object_holds_the_id_either(world: World) -> None:
    """Of a picture that no model was trained on: in reports, spot checks, queues or tombstones.

    What they say of other pictures stays, and a tombstone of an earlier version is replaced.
    """
    store, gone, other = world.workspace.store, world.sha256s[5], world.sha256s[4]
    now = datetime.now(UTC)
    report = DriftReport(
        version="v1",
        at=now,
        level=0.05,
        tests=(),
        furthest=tuple(FarPicture(sha256=each, distance=0.5) for each in (gone, other)),
    )
    check = SpotCheck(version="v1", at=now, answered_yes={"blot": 6}, drawn={"blot": (other, gone)})
    picks = tuple(QueuedPick(sha256=each, why="drift", score=0.5) for each in (gone, other))
    store.put("drift/v1/night.json", report.model_dump_json().encode())
    store.put("spot-checks/v1/night.json", check.model_dump_json().encode())
    write(store, Queue(label="blot", made_at=now, version="v1", picks=picks))
    tombstone = {"kind": "sha256", "digest": gone, "forgotten_at": now}
    Table(store, "tombstones", _SCHEMA).append(pa.Table.from_pylist([tombstone], schema=_SCHEMA))
    held = traces(store, gone.encode())
    assert {key.partition("/")[0] for key in held} >= {"drift", "spot-checks", "queues", "tables"}

    result = forget(world.workspace, sha256s=[gone], in_flight_s=0)

    assert traces(store, gone.encode()) == {}
    assert result.records >= 3
    assert [each.sha256 for each in next(drift_reports(store, "v1")).furthest] == [other]
    assert spot_checks(store)[0].drawn == {"blot": (other,)}
    queue = read(store, "blot")
    assert queue is not None
    assert [each.sha256 for each in queue.picks] == [other]
    assert forgotten(world.workspace).has(gone)
    assert not forgotten(world.workspace).has(other)


def test_a_fine_tuned_encoder_that_saw_the_picture_is_told_of(world: World) -> None:
    """As a model that was trained on it is: it is left, and named."""
    seen = json.dumps({"seen": [world.sha256s[5]]}).encode()
    world.workspace.store.put("encoders/tuned-one/tuned.json", seen)
    plan = plan_forget(world.workspace, sha256s=[world.sha256s[5]])
    assert plan.models == ("encoders/tuned-one",)


def test_after_forgetting_a_host_its_name_is_nowhere(world: World) -> None:
    """Nor in the name of its lease, nor in what was said about another host's links."""
    host = world.hosts[0].name
    with BucketLeases(world.workspace.store, "visitor") as leases:
        assert leases.take(host)
    assert traces(world.workspace.store, host.encode())

    result = forget(world.workspace, hosts=[host], and_duplicates=True, in_flight_s=0)

    assert traces(world.workspace.store, host.encode()) == {}
    assert result.copies == ()
    assert set(world.workspace.catalog.sha256s()) == set(world.sha256s[4:])


def test_what_was_forgotten_does_not_come_back(world: World) -> None:
    """Its address is not asked again; nor, once it was met there, is another address that has it."""
    workspace, catalog = world.workspace, world.workspace.catalog
    mirror = world.hosts[1].url("/mirror.jpg")
    world.hosts[1].files = {
        **world.hosts[1].files,
        "/mirror.jpg": catalog.read_image_bytes(world.sha256s[1]),
    }
    text = (workspace.root / "project.toml").read_text()
    (workspace.root / "project.toml").write_text(
        text.replace("start = [", f"start = [{json.dumps(mirror)}, ")
    )
    workspace = dataclasses.replace(workspace, project=Project.load(workspace.root))
    forget(workspace, sha256s=[world.sha256s[1]], hosts=[])

    for run_id in ("second", "third"):
        collect(workspace, "list", run_id=run_id)

    assert world.sha256s[1] not in set(catalog.sha256s())
    assert [row.url for row in catalog.links() if row.url in (mirror, world.url(1))] == []
    assert [each.path for each in world.hosts[0].asked].count("/1.jpg") == 1
    assert [each.path for each in world.hosts[1].asked].count("/mirror.jpg") == 1
    assert traces(workspace.store, mirror.encode(), world.url(1).encode()) == {}


@pytest.mark.slow
def test_killed_again_and_again_and_called_again_it_ends_the_same(world: World) -> None:
    """Each call gets some steps further than the last; only the first ones say what to forget."""
    urls, killed = [world.url(0), world.url(5)], 0
    while True:
        store = _KilledAt(world.workspace.settings, step=2 + 5 * killed)
        workspace = dataclasses.replace(world.workspace, store=store, catalog=Catalog(store))
        try:
            result = forget(workspace, urls=urls, in_flight_s=0)
        except InterruptedError:
            killed += 1
            if forgotten(world.workspace):
                urls = []
            continue
        break
    assert killed > 5
    needles = [world.url(number).encode() for number in (0, 5)]
    assert traces(world.workspace.store, *needles) == {}
    catalog = world.workspace.catalog
    stay = [world.sha256s[number] for number in (1, 2, 3, 4)]
    assert sorted(catalog.sha256s()) == sorted(stay)
    for sha256 in stay:
        catalog.read_image_bytes(sha256)
    assert world.sha256s[3] not in catalog.duplicates()
    assert result.unfinished == ()


class _KilledAt(ObjectStore):
    """A store whose user is killed at some step: before a write, or before a table is opened."""

    def __init__(self, settings: Settings, *, step: int) -> None:
        super().__init__(settings)
        self._left = step

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise InterruptedError

    def lance_options(self) -> dict[str, str]:
        self._step()
        return super().lance_options()

    def put(self, key: str, data: bytes) -> str:
        self._step()
        return super().put(key, data)

    def upload(self, key: str, file: IO[bytes]) -> None:
        self._step()
        super().upload(key, file)

    def delete(self, key: str) -> None:
        self._step()
        super().delete(key)


def test_what_was_forgotten_is_known_again_by_id_address_and_host(world: World) -> None:
    forget(world.workspace, urls=[world.url(0)], hosts=["Example.ORG"])
    gone = forgotten(world.workspace)
    assert gone.covers("https://b.org/", sha256=world.sha256s[0])
    assert gone.covers(world.url(0))
    assert gone.covers("https://img.example.org:8080/1.jpg")
    assert gone.covers("https://b.org/1.jpg", "https://example.org/page")
    assert not gone.covers(world.url(1), "https://notexample.org/", sha256=world.sha256s[1])


def test_the_plan_says_what_would_go_and_changes_nothing(world: World) -> None:
    before = {info.key: info.etag for info in world.workspace.store.list()}
    plan = plan_forget(world.workspace, urls=[world.url(0)])
    assert (plan.sha256s, plan.copies) == ((world.sha256s[0],), (world.sha256s[3],))
    assert plan.links == 1
    assert {info.key: info.etag for info in world.workspace.store.list()} == before


def test_files_of_a_write_that_may_still_be_going_on_are_left_and_told_of(world: World) -> None:
    key = "tables/links.lance/data/stray.lance"
    world.workspace.store.put(key, b"half a file")
    assert forget(world.workspace, urls=[world.url(0)]).unfinished == (key,)
    assert forget(world.workspace, in_flight_s=0).unfinished == ()
    assert world.workspace.store.head(key) is None


@pytest.mark.parametrize(
    ("sha256", "host"), [("abc", "a.org"), ("0" * 64, "https://a.org/"), ("0" * 64, "")]
)
def test_what_cannot_be_an_id_or_a_host_is_refused(
    sha256: str, host: str, tmp_path: Path, object_store: ObjectStore, bucket: Settings
) -> None:
    (tmp_path / "project.toml").write_text(PROJECT.format(start='"http://127.0.0.1/a.jpg"'))
    workspace = Workspace(
        root=tmp_path,
        settings=bucket,
        project=Project.load(tmp_path),
        store=object_store,
        catalog=Catalog(object_store),
    )
    with pytest.raises(Permanent):
        forget(workspace, sha256s=[sha256], hosts=[host])


def test_addresses_are_redacted_where_they_stand_and_nothing_else_is() -> None:
    gone = Forgotten.of(sha256s=(), urls=["https://a.org/x.jpg?b=1"], hosts=["secret.org"])
    text = '{"a": "https://a.org/x.jpg?b=1", "b": "see (https://a.org/x.jpg?b=1)."}'
    assert gone.redact(text) == f'{{"a": "{FORGOTTEN}", "b": "see ({FORGOTTEN})."}}'
    assert gone.redact("img.SECRET.org and secret.organic") == f"{FORGOTTEN} and secret.organic"
    same = "https://a.org/x.jpg a.org x.jpg https://a.org/x.jpg?b=12"
    assert gone.redact(same) == same
