"""Shards: WebDataset tars whose members are read singly by range."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.objects import ObjectStore
from flows.shards import Member, write_shard, write_tar

_URL = "http://example.org/é.jpg"


def _member(data: bytes) -> Member:
    return Member(
        sha256=hashlib.sha256(data).hexdigest(),
        format="jpeg",
        data=data,
        metadata={"url": _URL},
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bodies=st.lists(st.binary(max_size=3000), min_size=1, max_size=8, unique=True))
def test_every_member_is_read_back_by_its_range(
    object_store: ObjectStore, bodies: list[bytes]
) -> None:
    """The place that is returned holds exactly the original bytes, whatever their length."""
    places = write_shard(object_store, "shards/r/s", [_member(body) for body in bodies])
    for body in bodies:
        place = places[hashlib.sha256(body).hexdigest()]
        assert object_store.get_range(place.shard, place.offset, place.size) == body


def test_the_shard_is_a_webdataset_tar(object_store: ObjectStore) -> None:
    """Each image lies beside a JSON of the same name, with the usual file extension."""
    place = write_shard(object_store, "shards/r/s", [_member(b"picture")])
    (key,) = {each.shard for each in place.values()}
    sha256 = hashlib.sha256(b"picture").hexdigest()
    with tarfile.open(fileobj=io.BytesIO(object_store.get(key))) as tar:
        assert tar.getnames() == [f"{sha256}.jpg", f"{sha256}.json"]
        described = tar.extractfile(f"{sha256}.json")
        assert described is not None
        assert json.load(described) == {"url": _URL}


def test_the_same_members_make_the_same_object(object_store: ObjectStore) -> None:
    """Order and time do not matter: a shard written again after a kill is the same shard."""
    members = [_member(bytes([n]) * 100) for n in range(5)]
    first = write_shard(object_store, "shards/r/s", members)
    random.Random(1).shuffle(members)
    assert write_shard(object_store, "shards/r/s", members) == first
    assert len(list(object_store.list("shards/r/"))) == 1


@given(bodies=st.lists(st.binary(max_size=3000), max_size=8, unique=True))
def test_a_shard_is_byte_for_byte_what_tarfile_writes(bodies: list[bytes]) -> None:
    """Headers are filled in by hand, for speed: another program must not see a difference."""
    members = sorted((_member(body) for body in bodies), key=lambda each: each.sha256)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            for extension, data in (
                ("jpg", member.data),
                ("json", json.dumps({"url": _URL}).encode()),
            ):
                info = tarfile.TarInfo(f"{member.sha256}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = io.BytesIO()
    digest, _ = write_tar(found, members)
    assert found.getvalue() == expected.getvalue()
    assert digest == hashlib.sha256(found.getvalue()).hexdigest()
