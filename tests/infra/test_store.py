"""The embedded object store listens on loopback alone, keeps what it acknowledged, and its keys."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from infra.ports import http_status
from infra.store import PORT_OPTIONS, free_ports, start_store
from tests.conftest import RunningStore
from tests.waiting import until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def client(endpoint: str, access_key: str, secret_key: str) -> S3Client:
    """A client for a store on loopback, which fails at the first refusal."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )


class OwnStore:
    """A store of the test's own, which it may kill and start again on other ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Serve the same data on ports chosen anew."""
        self.ports = dict(zip(PORT_OPTIONS, free_ports(len(PORT_OPTIONS)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['s3.port']}"
        self.process = start_store(
            self.folder / "data", self.ports, "mine", "secret", self.folder / "store.log"
        )
        until(lambda: http_status(self.ports["s3.port"], "/healthz") == 200)

    def kill(self) -> None:
        """Take it away as a power cut would."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[OwnStore]:
    store = OwnStore(tmp_path)
    yield store
    store.kill()


def listening(store: OwnStore) -> set[tuple[str, int]]:
    """The addresses and ports on which the store accepts connections."""
    return {
        (each.laddr.ip, each.laddr.port)
        for each in psutil.Process(store.process.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }


def test_listens_on_the_given_ports_of_loopback_and_nowhere_else(own_store: OwnStore) -> None:
    """A port left to a default would clash with the next stack on the same machine."""
    given = {("127.0.0.1", port) for port in own_store.ports.values()}

    until(lambda: listening(own_store) >= given)

    assert listening(own_store) == given


def test_what_was_acknowledged_survives_kill_9_and_other_ports(own_store: OwnStore) -> None:
    before = client(own_store.endpoint, "mine", "secret")
    before.create_bucket(Bucket="kept")
    before.put_object(Bucket="kept", Key="a/b", Body=b"bytes")

    own_store.kill()
    own_store.start()

    after = client(own_store.endpoint, "mine", "secret")
    assert after.get_object(Bucket="kept", Key="a/b")["Body"].read() == b"bytes"


def test_the_key_file_is_for_its_owner_alone(own_store: OwnStore) -> None:
    mode = (own_store.folder / "data" / "s3.json").stat().st_mode

    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("keys", [("", ""), ("mine", "guessed")])
def test_other_keys_are_refused(store_server: RunningStore, keys: tuple[str, str]) -> None:
    access_key, secret_key = keys
    stranger = client(
        store_server.endpoint, access_key or store_server.access_key, secret_key or "wrong"
    )

    with pytest.raises(ClientError, match=r"InvalidAccessKeyId|SignatureDoesNotMatch"):
        stranger.list_buckets()


def test_the_users_keys_for_another_store_do_not_open_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS makes an administrator of whoever AWS_ACCESS_KEY_ID names."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "elsewhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "foreign")
    store = OwnStore(tmp_path)
    try:
        with pytest.raises(ClientError, match=r"InvalidAccessKeyId"):
            client(store.endpoint, "elsewhere", "foreign").list_buckets()
    finally:
        store.kill()


def test_of_two_conditional_puts_one_wins(store_server: RunningStore) -> None:
    """What the catalogue's commits rest on."""
    s3 = client(store_server.endpoint, store_server.access_key, store_server.secret_key)
    s3.create_bucket(Bucket="conditional")
    s3.put_object(Bucket="conditional", Key="once", Body=b"1", IfNoneMatch="*")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="conditional", Key="once", Body=b"2", IfNoneMatch="*")


def test_free_ports_are_distinct_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(50)

    assert len(set(ports)) == 50
    assert max(ports) < 32_768
