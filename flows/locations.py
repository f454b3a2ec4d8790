"""Where pictures and tables lie outside of the dataset: paths, and `s3://bucket/key` at the store."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from flows.errors import Permanent
from flows.objects import ObjectStore
from flows.workspace import Workspace

_SCHEME = "s3://"


def is_object(location: str) -> bool:
    """Return whether a location is an object, or the beginning of the keys of several."""
    return location.startswith(_SCHEME)


def bucket_at(workspace: Workspace, location: str) -> tuple[ObjectStore, str]:
    """Return a bucket of the project's store, whole, and the key in it that `location` names.

    It need not be the project's bucket; the endpoint and the keys are the project's.
    """
    parts = urlsplit(location, allow_fragments=False)
    if not parts.netloc:
        raise Permanent(f"{location} names no bucket: expected s3://bucket/key")
    settings = workspace.settings.model_copy(update={"bucket": parts.netloc, "prefix": ""})
    # Not the path of `urlsplit` alone: a question mark is a letter of a key like any other.
    return ObjectStore(settings), location.removeprefix(f"{_SCHEME}{parts.netloc}").lstrip("/")


def name_of(location: str) -> str:
    """Return the last part of a location: what rows and messages call it, without the machine's paths."""
    return location.rstrip("/").rpartition("/")[2] or location


def source_name(location: str, prefix: str = "") -> str:
    """Return a name for what lies at a location: its own, in lower-case letters, digits and hyphens.

    A hash of the whole location keeps namesakes in different folders apart.
    """
    stem = re.sub(
        r"(\.(gz|csv|tsv|tab|txt|jsonl|ndjson|json|parquet|pq|tar|tgz|zip))+$",
        "",
        name_of(location),
    )
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "pictures"
    return f"{prefix}{plain}-{hashlib.sha256(location.encode()).hexdigest()[:6]}"
