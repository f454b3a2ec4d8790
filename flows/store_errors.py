"""What a store's refusals and silences mean, in one sentence each."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)

from flows.errors import (
    BucketMissing,
    CratedigError,
    NotFound,
    Permanent,
    StoreRefused,
    StoreUnavailable,
)

CODES_CONDITION = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
"""Another writer was faster."""

_WRONG_KEY = {
    "InvalidAccessKeyId": "it does not know this access key: check CRATEDIG_ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key is wrong: check CRATEDIG_SECRET_KEY",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
    "ExpiredToken": "the keys have expired: get new ones",
}
_NO_PERMISSION = (
    "the keys do not permit it: check CRATEDIG_ACCESS_KEY, CRATEDIG_SECRET_KEY and their rights"
)
_PERMISSION_CODES = {"AccessDenied", "AllAccessDisabled", "InvalidToken", "403", "401"}
_THROTTLING = {"SlowDown", "RequestLimitExceeded", "Throttling", "TooManyRequests", "429"}


def code_of(error: ClientError) -> str:
    """Return the store's code for what went wrong, such as NoSuchKey, or the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def refused(endpoint: str, bucket: str, code: str) -> StoreRefused:
    """Return the error for keys that were not accepted."""
    return StoreRefused(
        f"the store at {endpoint} refused access to bucket {bucket!r} ({code}): "
        + _WRONG_KEY.get(code, _NO_PERMISSION)
    )


def bucket_missing(endpoint: str, bucket: str) -> BucketMissing:
    """Return the error for a bucket that is not there."""
    return BucketMissing(
        f"the store at {endpoint} has no bucket {bucket!r}: check CRATEDIG_BUCKET, or create it"
    )


def unavailable(endpoint: str, what: str) -> StoreUnavailable:
    """Return the error for a store that did not answer as it should."""
    return StoreUnavailable(
        f"the store at {endpoint} {what}: check that it runs (`cratedig status` for a local one) "
        "and that CRATEDIG_ENDPOINT is right, then run this again"
    )


def explain(
    error: ClientError | BotoCoreError, endpoint: str, bucket: str, key: str
) -> CratedigError:
    """Return what `error` means for whoever asked for `key`."""
    if isinstance(error, ClientError):
        return _explain_answer(error, endpoint, bucket, key)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return unavailable(endpoint, "cannot be reached")
    if isinstance(error, ReadTimeoutError):
        return unavailable(endpoint, "did not answer in time")
    if isinstance(error, SSLError):
        return unavailable(endpoint, "has no certificate that this machine trusts")
    return unavailable(endpoint, f"broke off ({type(error).__name__})")


def _explain_answer(error: ClientError, endpoint: str, bucket: str, key: str) -> CratedigError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket" or (code == "404" and not key):
        return bucket_missing(endpoint, bucket)
    if code in ("NoSuchKey", "404"):
        return NotFound(f"there is no object {key!r} in bucket {bucket!r} at {endpoint}")
    if code in _WRONG_KEY or code in _PERMISSION_CODES:
        return refused(endpoint, bucket, code)
    if status >= 500 or code in _THROTTLING:
        return unavailable(endpoint, f"answered {code or status} again and again")
    message = error.response.get("Error", {}).get("Message", "")
    return Permanent(
        f"the store at {endpoint} refused a request about {key!r} in bucket {bucket!r}: "
        f"{code} {message}"
    )
