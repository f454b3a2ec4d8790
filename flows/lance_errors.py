"""What Lance's errors mean: its Python face has three exceptions for everything, told apart by words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.objects import ObjectStore
from flows.store_errors import bucket_missing, refused, unavailable

LANCE_ERRORS = (OSError, ValueError, RuntimeError)
_CONFLICTS = ("Too many concurrent writers", "ommit conflict", "Incompatible transaction")
_REFUSALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "AccessDenied",
    "403 Forbidden",
)


@contextmanager
def explained(store: ObjectStore) -> Iterator[None]:
    """Say what an error of Lance's means if that lies with the store, or else let it pass.

    Raises BucketMissing, StoreRefused, StoreUnavailable.
    """
    try:
        yield
    except LANCE_ERRORS as error:
        said = str(error)
        refusal = next((each for each in _REFUSALS if each in said), None)
        if "NoSuchBucket" in said:
            raise bucket_missing(store.endpoint, store.bucket) from error
        if refusal is not None:
            raise refused(store.endpoint, store.bucket, refusal.split()[0]) from error
        if "error sending request" in said or "operation timed out" in said:
            raise unavailable(store.endpoint, "cannot be reached") from error
        if "Server returned non-2xx status code: 5" in said:
            raise unavailable(store.endpoint, "answered with errors again and again") from error
        raise


def is_conflict(error: Exception) -> bool:
    """Return whether another writer's commit was faster."""
    return any(said in str(error) for said in _CONFLICTS)
