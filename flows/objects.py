"""ObjectStore: the project's bucket, on any store that speaks S3 and honours conditional puts."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flows.errors import BucketMissing, NoStore, NotFound, UnsafeStore
from flows.settings import Settings
from flows.store_errors import CODES_CONDITION, code_of, explain

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_WRITER = "cratedig-put"
"""User metadata that says which call wrote an object: how a put knows its own work again."""

_PART_BYTES = 16 * 2**20
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What the store says about one object. `etag` is opaque; give it back to `replace`."""

    key: str
    size: int
    etag: str
    last_modified: datetime


class ObjectStore:
    """Objects by key, below the settings' prefix.

    Every method may raise StoreUnavailable (no answer, or 5xx, for every attempt), StoreRefused
    (the keys) or BucketMissing. What can be repeated is, up to `attempts` times with backoff. Safe
    to share between threads; a process makes its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connect_timeout_s: float = 5,
        read_timeout_s: float = 60,
        attempts: int = 5,
    ) -> None:
        if settings.endpoint is None or settings.access_key is None or settings.secret_key is None:
            raise NoStore("no object store is set up: run `cratedig up`, or set CRATEDIG_ENDPOINT")
        self.endpoint = settings.endpoint
        self.bucket = settings.bucket
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._region = settings.region
        self._access_key = settings.access_key
        self._secret_key = settings.secret_key
        self._attempts = attempts
        self.on_loopback = urlsplit(self.endpoint).hostname in _LOOPBACK
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # Path style works everywhere; names of hosts per bucket need DNS.
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            # Not every store knows AWS's newer trailing checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
            # None reads the environment; a proxy cannot reach our loopback.
            proxies={} if self.on_loopback else None,
        )
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self._region,
            aws_access_key_id=self._access_key.get_secret_value(),
            aws_secret_access_key=self._secret_key.get_secret_value(),
            config=config,
        )

    def __repr__(self) -> str:
        return f"ObjectStore({self.uri('')!r} at {self.endpoint!r})"

    def get(self, key: str) -> bytes:
        """Return the object's bytes; NotFound if there is none."""
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the object's bytes and the etag that belongs to them, for `replace`."""
        return self._read(key)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`; fewer if the object ends before.

        NotFound if there is no object, Permanent if it ends before `offset`.
        """
        if size == 0 and offset >= 0:
            return b""
        return self.get_range_with_etag(key, offset, size)[0]

    def get_range_with_etag(self, key: str, offset: int, size: int) -> tuple[bytes, str]:
        """Return a range of one byte or more, as `get_range` does, and the etag of its object."""
        if offset < 0 or size < 1:
            raise ValueError(f"a range starts at 0 or later and has a size: {offset}, {size}")
        return self._read(key, f"bytes={offset}-{offset + size - 1}")

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the store says about the object, or None if there is none."""
        found = self._head(key)
        if found is None:
            return None
        return ObjectInfo(
            key=key,
            size=found["ContentLength"],
            etag=found["ETag"],
            last_modified=found["LastModified"],
        )

    def put(self, key: str, data: bytes) -> str:
        """Write the object, whether or not there is one, and return its etag."""
        with self._explained(key):
            answer = self._client.put_object(Bucket=self.bucket, Key=self._full(key), Body=data)
        return answer["ETag"]

    def put_once(self, key: str, data: bytes) -> bool:
        """Write the object unless there is one; return whether this call wrote it.

        Of several callers at once exactly one gets True. A first attempt whose answer got lost is
        recognised when the retry is told that the object exists, by a token that each call leaves
        in the object's metadata: such a call has won, and says so.
        """
        return self._put_if(key, data, {"IfNoneMatch": "*"})

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write the object if it still has `etag`; return whether this call wrote it.

        False if another writer was faster, or the object is gone: read it again and decide anew.
        """
        return self._put_if(key, data, {"IfMatch": etag})

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Write what `file` gives, in parts of 16 MiB; nothing is visible until all of it is there.

        `file` may be a stream that cannot seek. Holds a few parts in memory at a time.
        """
        config = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
        )
        with self._explained(key):
            self._client.upload_fileobj(file, self.bucket, self._full(key), Config=config)

    def download(self, key: str, file: IO[bytes]) -> None:
        """Write the object's bytes to `file`, in parts; NotFound if there is none."""
        config = TransferConfig(multipart_chunksize=_PART_BYTES, max_concurrency=4)
        if self.head(key) is None:
            raise NotFound(f"there is no object {self.uri(key)}")
        with self._explained(key):
            self._client.download_fileobj(self.bucket, self._full(key), file, Config=config)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the order of keys."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._explained(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._full(prefix)):
                for each in page.get("Contents", ()):
                    yield ObjectInfo(
                        key=each["Key"].removeprefix(self._prefix),
                        size=each["Size"],
                        etag=each["ETag"],
                        last_modified=each["LastModified"],
                    )

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the key of every object whose key starts with `prefix`, in their order."""
        return (info.key for info in self.list(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names right below `prefix` (which ends in a slash) that have objects below."""
        pages = self._client.get_paginator("list_objects_v2")
        full = self._full(prefix)
        with self._explained(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=full, Delimiter="/"):
                for each in page.get("CommonPrefixes", ()):
                    yield each["Prefix"].removeprefix(full).rstrip("/")

    def delete(self, key: str) -> None:
        """Remove the object; it is no error if there is none."""
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._full(key))

    def clock(self) -> datetime:
        """Return the store's own time, to the second, rounded down (its Date header, RFC 9110)."""
        with self._explained(""):
            answer = self._client.head_bucket(Bucket=self.bucket)
        said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if said is None:
            raise UnsafeStore(
                f"the store at {self.endpoint} sends no Date header, so workers cannot agree on "
                "when a lease runs out; use a store that does"
            )
        return parsedate_to_datetime(said)

    def ensure_bucket(self) -> None:
        """Make the bucket if there is none. The first call that says so if the keys are wrong."""
        try:
            # A list, not a head: only an answer with a body says what is wrong with the keys.
            with self._explained(""):
                self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
        except BucketMissing:
            self._make_bucket()

    def probe(self) -> None:
        """Check that the store honours conditions on puts; UnsafeStore if it does not.

        Two threads race for a fresh key and one must win; then a stale etag must lose.
        """
        key = f".cratedig-probe/{uuid.uuid4().hex}"
        where = f"{self.endpoint} (bucket {self.bucket})"
        advice = "two writers could overwrite each other; use a store that honours it"
        try:
            with ThreadPoolExecutor(2) as pool:
                wins = list(pool.map(lambda data: self.put_once(key, data), (b"one", b"two")))
            if wins.count(True) != 1:
                said = "both won" if all(wins) else "neither won"
                raise UnsafeStore(
                    f"the store at {where} does not honour If-None-Match: of two conditional puts "
                    f"of one key {said}, so {advice}"
                )
            etag = self.get_with_etag(key)[1]
            # The second has the etag that the first has just replaced.
            fresh, stale = self.replace(key, b"three", etag), self.replace(key, b"four", etag)
            if not fresh or stale:
                said = "a stale etag won" if stale else "the right etag lost"
                raise UnsafeStore(
                    f"the store at {where} does not honour If-Match: {said}, so {advice}"
                )
        finally:
            self.delete(key)

    def uri(self, key: str) -> str:
        """Return the object's address, as Lance and others take it: `s3://bucket/prefix/key`."""
        return f"s3://{self.bucket}/{self._full(key)}"

    def lance_options(self) -> dict[str, str]:
        """Return Lance's `storage_options` for this store. They hold the keys: never log them."""
        return {
            "aws_endpoint": self.endpoint,
            "aws_access_key_id": self._access_key.get_secret_value(),
            "aws_secret_access_key": self._secret_key.get_secret_value(),
            "aws_region": self._region,
            "allow_http": str(self.endpoint.startswith("http://")).lower(),
            "connect_timeout": "5s",
            "client_max_retries": str(self._attempts),
            "client_retry_timeout": "60",
        }

    def _full(self, key: str) -> str:
        return self._prefix + key

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            told = self._told(error)
            raise explain(told, self.endpoint, self.bucket, key) from error

    def _told(self, error: ClientError | BotoCoreError) -> ClientError | BotoCoreError:
        """Return an error that says why, such as ExpiredToken, for the bare 400 of a head.

        That has no body to say it in; whatever is wrong with the request is with a list's, too.
        """
        if isinstance(error, ClientError) and code_of(error) == "400":
            try:
                self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
            except (ClientError, BotoCoreError) as with_body:
                return with_body
        return error

    def _head(self, key: str) -> Any:  # noqa: ANN401 - boto3's own type exists in its stubs alone
        try:
            with self._explained(key):
                return self._client.head_object(Bucket=self.bucket, Key=self._full(key))
        except NotFound:
            # A head has no body to say whether it is the key or the bucket that is missing.
            with self._explained(""):
                self._client.head_bucket(Bucket=self.bucket)
            return None

    def _read(self, key: str, byte_range: str | None = None) -> tuple[bytes, str]:
        """Read a body to its end. botocore retries requests, but not bodies that break off."""
        extra: Any = {} if byte_range is None else {"Range": byte_range}
        for attempt in range(1, self._attempts + 1):
            with self._explained(key):
                answer = self._client.get_object(Bucket=self.bucket, Key=self._full(key), **extra)
                try:
                    return answer["Body"].read(), answer["ETag"]
                except BotoCoreError:
                    if attempt == self._attempts:
                        raise
            time.sleep(random.uniform(0, 0.1 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _put_if(self, key: str, data: bytes, condition: dict[str, str]) -> bool:
        token = uuid.uuid4().hex
        extra: Any = condition
        try:
            self._client.put_object(
                Bucket=self.bucket,
                Key=self._full(key),
                Body=data,
                Metadata={_WRITER: token},
                **extra,
            )
        except ClientError as error:
            if code_of(error) in CODES_CONDITION or (
                "IfMatch" in condition and code_of(error) == "NoSuchKey"
            ):
                if error.response["ResponseMetadata"].get("RetryAttempts", 0) == 0:
                    return False
                return self._wrote(key, token)
            raise explain(error, self.endpoint, self.bucket, key) from error
        except BotoCoreError as error:
            raise explain(error, self.endpoint, self.bucket, key) from error
        return True

    def _wrote(self, key: str, token: str) -> bool:
        """Return whether the object is the one that the put with `token` wrote."""
        found = self._head(key)
        return found is not None and found["Metadata"].get(_WRITER) == token

    def _make_bucket(self) -> None:
        elsewhere: Any = (
            {}
            if self._region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        )
        try:
            self._client.create_bucket(Bucket=self.bucket, **elsewhere)
        except ClientError as error:
            # Another process was faster; a bucket of somebody else's is met at the next request.
            if code_of(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise explain(error, self.endpoint, self.bucket, "") from error
        except BotoCoreError as error:
            raise explain(error, self.endpoint, self.bucket, "") from error
