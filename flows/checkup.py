"""What `cratedig doctor` asks of a project's services: store, Prefect server, mail, accelerator."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from flows.errors import CratedigError
from flows.notify import Notice, NotifySettings, send
from flows.objects import ObjectStore
from flows.prefect_api import PrefectAway, PrefectServer
from flows.secret_sources import secret_sources
from flows.settings import Settings
from infra.doctor import Finding

MAX_CLOCK_SKEW_S = 60.0
"""S3 refuses requests that are signed 15 minutes off; leases are counted by the store's clock."""

_MULTIPART_BYTES = 9_000_000
"""Enough to be sent in parts."""

_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


def examine_services(root: Path, *, send_test: bool = False) -> list[Finding]:
    """Return a finding for each service of the project in `root`, by using it.

    Writes and deletes objects of its own below `.cratedig-doctor/` in the bucket; with `send_test`
    it tells everyone whom a training would tell.
    """
    found = []
    try:
        found += _secrets(root)
        settings = Settings.load(root)
        notify = NotifySettings.load(root)
    except CratedigError as error:
        advice = "do what it says; flows/REFERENCE.md lists every setting"
        return [*found, _said("settings", error, advice)]
    found += _store(settings)
    if (server := PrefectServer.of(settings)) is not None:
        found.append(_prefect(server))
    found.append(_accelerator())
    if send_test:
        found.append(_mail(notify))
    return found


def minimal_policy(settings: Settings) -> str:
    """Return the least that the project's keys must be allowed, as an S3 policy in JSON."""
    bucket = f"arn:aws:s3:::{settings.bucket}"
    below = f"{settings.prefix}/*" if settings.prefix else "*"
    statements = [
        # Of the whole bucket: asking for its time, by which leases run out, names no prefix.
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": bucket},
        {"Effect": "Allow", "Action": list(_ACTIONS), "Resource": f"{bucket}/{below}"},
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _secrets(root: Path) -> list[Finding]:
    sources = secret_sources(root).items()
    return [Finding(name=name, ok=True, said=f"from {where}") for name, where in sources]


def _store(settings: Settings) -> Iterator[Finding]:
    store = ObjectStore(settings, connect_timeout_s=5, read_timeout_s=30, attempts=2)
    advice = "`cratedig doctor --policy` prints what the keys must be allowed"
    try:
        store.ensure_bucket()
    except CratedigError as error:
        yield _said("bucket", error, advice)
        return
    yield Finding(name="bucket", ok=True, said=store.uri(""))
    key = f".cratedig-doctor/{uuid.uuid4().hex}"
    verbs: list[tuple[str, Callable[[], object]]] = [
        ("write", lambda: store.put(key, b"doctor")),
        ("write in parts", lambda: store.upload(key, io.BytesIO(bytes(_MULTIPART_BYTES)))),
        ("read", lambda: store.get_range(key, 0, 6)),
        ("look", lambda: store.head(key)),
        ("list", lambda: list(store.list(".cratedig-doctor/"))),
        ("delete", lambda: store.delete(key)),
        ("write by condition", store.probe),
    ]
    refused = []
    for verb, attempt in verbs:
        try:
            attempt()
        except CratedigError as error:
            refused.append(f"{verb}: {error}")
    if refused:
        yield Finding(name="permissions", ok=False, said="; ".join(refused), advice=advice)
    else:
        said = ", ".join(verb for verb, _ in verbs)
        yield Finding(name="permissions", ok=True, said=f"may {said}")
    yield _clock(store)


def _clock(store: ObjectStore) -> Finding:
    try:
        skew_s = (store.clock() - datetime.now(UTC)).total_seconds()
    except CratedigError as error:
        return _said("clock", error, "use a store that sends the time")
    ok = abs(skew_s) <= MAX_CLOCK_SKEW_S
    return Finding(
        name="clock",
        ok=ok,
        said=f"the store's is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}",
        advice="" if ok else "let both machines take their time from a time server (NTP)",
    )


def _prefect(server: PrefectServer) -> Finding:
    try:
        theirs = server.version()
    except PrefectAway as error:
        return _said("Prefect server", error, "do what it says, or look at its log")
    ours = version("prefect")
    same = theirs.split(".")[:2] == ours.split(".")[:2]
    return Finding(
        name="Prefect server",
        ok=same,
        said=f"{theirs} at {server.api_url}" + ("" if same else f"; here it is {ours}"),
        advice="" if same else "run the same minor version of Prefect everywhere",
    )


def _accelerator() -> Finding:
    import torch

    there = torch.cuda.is_available()
    said = torch.cuda.get_device_name() if there else "none: models run on the processor"
    return Finding(name="GPU", ok=True, said=said)


def _mail(settings: NotifySettings) -> Finding:
    if not settings.smtp_host and settings.webhook_url is None:
        return Finding(
            name="test message",
            ok=False,
            said="nobody would be told",
            advice="set CRATEDIG_SMTP_HOST, CRATEDIG_MAIL_FROM and CRATEDIG_MAIL_TO, "
            "or CRATEDIG_WEBHOOK_URL",
        )
    notice = Notice(
        subject="cratedig: a test message",
        summary="`cratedig doctor --send-test` has sent this; nothing needs to be done.",
    )
    troubles = send(notice, settings)
    return Finding(
        name="test message",
        ok=not troubles,
        said="; ".join(troubles) or "sent",
        advice="do what it says" if troubles else "",
    )


def _said(name: str, error: CratedigError, advice: str) -> Finding:
    return Finding(name=name, ok=False, said=str(error), advice=advice)
