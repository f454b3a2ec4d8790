"""ObjectStore on a real SeaweedFS, directly and through a proxy that misbehaves."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from flows.errors import (
    BucketMissing,
    NotFound,
    Permanent,
    StoreRefused,
    StoreUnavailable,
    UnsafeStore,
)
from flows.objects import ObjectStore
from flows.settings import Settings
from infra.store import free_ports
from tests.conftest import RunningStore
from tests.flows.store_proxy import Fault, StoreProxy, run_proxy


@pytest.fixture
def proxy(store_server: RunningStore) -> Iterator[StoreProxy]:
    with run_proxy(store_server) as running:
        yield running


@pytest.fixture
def through_proxy(proxy: StoreProxy, bucket: Settings) -> ObjectStore:
    """The test's bucket, reached through the proxy."""
    return ObjectStore(bucket.model_copy(update={"endpoint": proxy.endpoint}))


def test_get_gives_what_was_put(object_store: ObjectStore) -> None:
    object_store.put("a/b.bin", b"bytes")

    assert object_store.get("a/b.bin") == b"bytes"


def test_head_describes_the_object(object_store: ObjectStore) -> None:
    """Size and etag are those of the put."""
    etag = object_store.put("a", b"bytes")

    info = object_store.head("a")

    assert info is not None
    assert (info.key, info.size, info.etag) == ("a", 5, etag)


def test_head_of_nothing_is_none(object_store: ObjectStore) -> None:
    assert object_store.head("nothing") is None


def test_get_of_nothing_names_the_key(object_store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="no object 'nothing' in bucket"):
        object_store.get("nothing")


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 3, b"012"), (4, 4, b"4567"), (8, 100, b"89"), (3, 0, b"")],
)
def test_range_is_those_bytes(
    object_store: ObjectStore, offset: int, size: int, expected: bytes
) -> None:
    object_store.put("digits", b"0123456789")

    assert object_store.get_range("digits", offset, size) == expected


def test_range_behind_the_end_is_an_error(object_store: ObjectStore) -> None:
    object_store.put("digits", b"0123456789")

    with pytest.raises(Permanent, match="InvalidRange"):
        object_store.get_range("digits", 10, 1)


def test_put_once_keeps_the_first(object_store: ObjectStore) -> None:
    """The second writer is told that it lost, and the first's bytes stay."""
    assert object_store.put_once("key", b"first") is True
    assert object_store.put_once("key", b"second") is False
    assert object_store.get("key") == b"first"


def test_one_of_many_put_once_wins(object_store: ObjectStore) -> None:
    """Of eight writers at once one is told that it won, and its bytes are what is there."""
    bodies = [str(number).encode() for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda body: object_store.put_once("key", body), bodies))

    assert won.count(True) == 1
    assert object_store.get("key") == bodies[won.index(True)]


def test_replace_needs_the_current_etag(object_store: ObjectStore) -> None:
    object_store.put("key", b"one")
    data, etag = object_store.get_with_etag("key")

    assert data == b"one"
    assert object_store.replace("key", b"two", etag) is True
    assert object_store.replace("key", b"three", etag) is False
    assert object_store.get("key") == b"two"


def test_replace_of_nothing_loses(object_store: ObjectStore) -> None:
    """An object that was deleted in between is not made again."""
    etag = object_store.put("key", b"one")
    object_store.delete("key")

    assert object_store.replace("key", b"two", etag) is False
    assert object_store.head("key") is None


def test_list_gives_keys_below_a_prefix(object_store: ObjectStore) -> None:
    """Keys come in order and without the settings' prefix."""
    for key in ("b/2", "b/1", "a", "bc"):
        object_store.put(key, b"12")

    assert [(info.key, info.size) for info in object_store.list("b/")] == [("b/1", 2), ("b/2", 2)]


def test_folders_are_the_names_right_below(object_store: ObjectStore) -> None:
    for key in ("t/x/1", "t/x/2", "t/y/1", "t/file"):
        object_store.put(key, b"")

    assert list(object_store.folders("t/")) == ["x", "y"]


def test_prefixes_share_a_bucket(bucket: Settings, object_store: ObjectStore) -> None:
    """Two projects in one bucket do not see each other."""
    other = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}-other"}))
    other.put("key", b"theirs")

    assert object_store.head("key") is None
    assert list(object_store.list()) == []


class _Stream(io.RawIOBase):
    """A stream that cannot seek and gives at most 100 kB at a time, like a pipe."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # a Buffer
        return self._file.readinto(memoryview(buffer)[:100_000])


def test_upload_takes_a_long_stream(object_store: ObjectStore) -> None:
    """40 MiB from a stream that cannot seek arrive in parts, whole."""
    data = hashlib.sha256(b"seed").digest() * (40 * 2**20 // 32)

    object_store.upload("long", io.BufferedReader(_Stream(data)))

    assert hashlib.sha256(object_store.get("long")).digest() == hashlib.sha256(data).digest()


def test_upload_takes_an_empty_file(object_store: ObjectStore) -> None:
    object_store.upload("empty", io.BytesIO())

    assert object_store.get("empty") == b""


def test_delete_of_nothing_is_no_error(object_store: ObjectStore) -> None:
    object_store.put("key", b"")
    object_store.delete("key")
    object_store.delete("key")

    assert object_store.head("key") is None


def test_ensure_bucket_makes_it_once(bucket: Settings) -> None:
    """Four processes that start at once all find a bucket."""
    fresh = bucket.model_copy(update={"bucket": f"test-{uuid.uuid4().hex}"})
    stores = [ObjectStore(fresh) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ObjectStore.ensure_bucket, stores))

    assert list(stores[0].list()) == []


@pytest.mark.parametrize(
    "ask",
    [
        # SeaweedFS makes the bucket of a put by itself.
        lambda store: store.get("key"),
        lambda store: store.head("key"),
        lambda store: list(store.list()),
    ],
    ids=["get", "head", "list"],
)
def test_missing_bucket_is_named(bucket: Settings, ask: Callable[[ObjectStore], object]) -> None:
    name = f"nobody-made-{uuid.uuid4().hex}"
    store = ObjectStore(bucket.model_copy(update={"bucket": name}))

    with pytest.raises(BucketMissing, match=f"no bucket '{name}'"):
        ask(store)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.get("key"),
        lambda store: store.head("key"),
        lambda store: store.put("key", b""),
        lambda store: store.put_once("key", b""),
        lambda store: list(store.list()),
        lambda store: store.upload("key", io.BytesIO(b"")),
    ],
    ids=["get", "head", "put", "put_once", "list", "upload"],
)
def test_wrong_secret_is_refused(bucket: Settings, ask: Callable[[ObjectStore], object]) -> None:
    wrong = bucket.model_copy(update={"secret_key": SecretStr("not-the-secret")})

    with pytest.raises(StoreRefused, match="CRATEDIG_SECRET_KEY") as caught:
        ask(ObjectStore(wrong))
    assert "not-the-secret" not in str(caught.value)


def test_unknown_access_key_is_named(bucket: Settings) -> None:
    wrong = bucket.model_copy(update={"access_key": SecretStr("nobody")})

    with pytest.raises(StoreRefused, match="does not know this access key"):
        ObjectStore(wrong).ensure_bucket()


def test_unreachable_endpoint_is_named(bucket: Settings) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = ObjectStore(bucket.model_copy(update={"endpoint": endpoint}), attempts=2)

    with pytest.raises(StoreUnavailable, match=f"{endpoint} cannot be reached"):
        store.get("key")


def test_silence_is_not_waited_for(proxy: StoreProxy, bucket: Settings) -> None:
    """A store that takes the request and says nothing is given up after the time limit."""
    through = bucket.model_copy(update={"endpoint": proxy.endpoint})
    store = ObjectStore(through, read_timeout_s=0.2, attempts=2)
    proxy.faults.extend(["hang", "hang"])

    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        store.get("key")


@pytest.mark.parametrize("fault", ["503", "reset", "cut the body"])
def test_get_is_tried_again(
    proxy: StoreProxy, through_proxy: ObjectStore, object_store: ObjectStore, fault: Fault
) -> None:
    """A get survives 503, a reset connection, and a body that breaks off."""
    object_store.put("key", b"0123456789")
    proxy.faults.append(fault)

    assert through_proxy.get("key") == b"0123456789"
    assert not proxy.faults


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_put_is_tried_again(
    proxy: StoreProxy, through_proxy: ObjectStore, object_store: ObjectStore, fault: Fault
) -> None:
    proxy.faults.append(fault)
    through_proxy.put("key", b"0123456789")

    assert object_store.get("key") == b"0123456789"
    assert not proxy.faults


def test_lasting_503_is_unavailable(proxy: StoreProxy, bucket: Settings) -> None:
    store = ObjectStore(bucket.model_copy(update={"endpoint": proxy.endpoint}), attempts=2)
    proxy.faults.extend(["503"] * 2)

    with pytest.raises(StoreUnavailable, match="answered 503 again and again"):
        store.get("key")


def test_put_once_whose_answer_got_lost_has_won(
    proxy: StoreProxy, through_proxy: ObjectStore
) -> None:
    """The retry meets the object that the first attempt wrote, and knows it for its own."""
    proxy.faults.append("lose the answer")

    assert through_proxy.put_once("key", b"mine") is True
    assert not proxy.faults


def test_put_once_that_lost_on_a_retry_has_lost(
    proxy: StoreProxy, through_proxy: ObjectStore, object_store: ObjectStore
) -> None:
    """Another's object is not taken for one's own, though its bytes are the same."""
    object_store.put_once("key", b"same")
    proxy.faults.append("reset")

    assert through_proxy.put_once("key", b"same") is False
    assert not proxy.faults


def test_replace_whose_answer_got_lost_has_won(
    proxy: StoreProxy, through_proxy: ObjectStore
) -> None:
    etag = through_proxy.put("key", b"one")
    proxy.faults.append("lose the answer")

    assert through_proxy.replace("key", b"two", etag) is True
    assert through_proxy.get("key") == b"two"


def test_probe_accepts_the_real_store(object_store: ObjectStore) -> None:
    """The probe passes, and leaves nothing behind."""
    object_store.probe()

    assert list(object_store.list()) == []


@pytest.mark.parametrize(
    "ask", [lambda store: store.head("a"), ObjectStore.clock], ids=["head", "clock"]
)
def test_keys_that_have_expired_are_told_of_where_the_answer_has_no_body(
    through_proxy: ObjectStore, proxy: StoreProxy, ask: Callable[[ObjectStore], object]
) -> None:
    """A head is refused with a bare 400: why is asked with a request whose answer has a body."""
    proxy.strikes = lambda method, path: "expired"
    with pytest.raises(StoreRefused, match="the keys have expired"):
        ask(through_proxy)


@pytest.mark.parametrize(
    ("header", "said"),
    [("if-none-match", "does not honour If-None-Match"), ("if-match", "does not honour If-Match")],
)
def test_probe_refuses_a_store_that_ignores_conditions(
    store_server: RunningStore,
    bucket: Settings,
    object_store: ObjectStore,
    header: str,
    said: str,
) -> None:
    """A store where both of two conditional puts win is refused, and the probe's key is gone."""
    with run_proxy(store_server, ignores=frozenset({header})) as careless:
        store = ObjectStore(bucket.model_copy(update={"endpoint": careless.endpoint}))
        with pytest.raises(UnsafeStore, match=said):
            store.probe()

    assert list(object_store.list()) == []


def test_loopback_needs_no_proxy(bucket: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for a store on this machine."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    store = ObjectStore(bucket, attempts=1)

    store.put("key", b"direct")

    assert store.get("key") == b"direct"


def test_repr_shows_no_key(object_store: ObjectStore, bucket: Settings) -> None:
    assert bucket.secret_key is not None
    assert bucket.secret_key.get_secret_value() not in repr(object_store)
