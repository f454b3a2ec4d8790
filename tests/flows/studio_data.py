"""A small real catalogue for the studio's tests: drawn pictures, stored and decided upon."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import uvicorn
from PIL import Image, ImageDraw

from flows.rows import DecisionRow, ImageRow, LinkRow, PreLabelRow, Provenance
from flows.shards import Member, write_shard
from flows.studio.access import Access
from flows.studio.app import create_app
from flows.workspace import Workspace, open_workspace
from tests.conftest import RunningStore
from tests.waiting import until

LABELS = ("turntable", "vinyl")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_PROJECT = """\
name = "records"
contact = "mailto:tests@localhost"

[encoder]
model = "ViT-B-32"
pretrained = "none-is-loaded-here"

[review]
again = 0.0

[[sources]]
name = "shop"
start = ["http://127.0.0.1:9/"]
allow_private = true

"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawing as it was stored."""

    sha256: str
    data: bytes
    row: ImageRow


def make_project(
    root: Path,
    store: RunningStore,
    *,
    prefix: str | None = None,
    labels: Sequence[str] = LABELS,
) -> Workspace:
    """Write a project into `root` with a prefix of its own on `store`, and open it."""
    prefix = prefix or f"studio-{uuid4().hex[:12]}"
    write_configuration(root, store.endpoint, store, prefix, labels)
    return open_workspace(root)


def write_configuration(
    root: Path,
    endpoint: str,
    store: RunningStore,
    prefix: str,
    labels: Sequence[str] = LABELS,
) -> None:
    """Write project.toml, and the address and keys of the store as the local stack does."""
    (root / ".cratedig").mkdir(parents=True, exist_ok=True)
    tables = "".join(f'[[labels]]\nname = "{label}"\n' for label in labels)
    (root / "project.toml").write_text(_PROJECT + tables)
    (root / ".cratedig" / "local.env").write_text(
        f"CRATEDIG_ENDPOINT={endpoint}\n"
        f"CRATEDIG_ACCESS_KEY={store.access_key}\n"
        f"CRATEDIG_SECRET_KEY={store.secret_key}\n"
        # One bucket for all: `tests.flows.conftest.new_bucket` says why.
        "CRATEDIG_BUCKET=tests\n"
        f"CRATEDIG_PREFIX={prefix}\n"
        "CRATEDIG_PREFECT_API_URL=http://127.0.0.1:4200/api\n"
    )


def fill(workspace: Workspace, *, count: int = 12) -> list[Drawn]:
    """Store `count` drawings, kept but for the last, which is a duplicate of the first.

    Drawing i is pre-labelled with 0.02 + 0.9 * i / count for every label but `vinyl`, which gets
    the rest to one. Three links were rejected. Nothing is decided yet.
    """
    drawings = [_draw(index, count) for index in range(count)]
    members = [
        Member(sha256=each.sha256, format="png", data=each.data, metadata={}) for each in drawings
    ]
    places = write_shard(workspace.store, "shards/test/shop", members)
    drawings = [
        dataclasses.replace(
            each,
            row=dataclasses.replace(
                each.row,
                shard=places[each.sha256].shard,
                offset=places[each.sha256].offset,
                size=places[each.sha256].size,
            ),
        )
        for each in drawings
    ]
    catalog = workspace.catalog
    catalog.add_images([each.row for each in drawings])
    catalog.set_duplicates({drawings[-1].sha256: (drawings[0].sha256, "perceptual")})
    catalog.record_links([*(_kept(each) for each in drawings), *_rejected()])
    catalog.put_prelabels(
        [
            PreLabelRow(
                sha256=each.sha256,
                label=label,
                score=_score(label, index, count),
                taxonomy_id="t",
                encoder_id="e",
            )
            for index, each in enumerate(drawings[:-1])
            for label in workspace.project.taxonomy().names
        ]
    )
    return drawings


def decide(
    workspace: Workspace, drawn: Drawn, label: str, answer: str, *, minutes: int = 0
) -> None:
    """Append a decision by another reviewer, made `minutes` after the pictures were added."""
    assert answer in {"yes", "no", "unsure"}
    row = DecisionRow(
        sha256=drawn.sha256,
        label=label,
        answer=answer,  # type: ignore[arg-type]  # checked above
        who="somebody",
        at=START + timedelta(hours=1, minutes=minutes),
        score=None,
        note="",
    )
    workspace.catalog.add_decisions([row])


def _score(label: str, index: int, count: int) -> float:
    score = 0.02 + 0.9 * index / count
    return 1 - score if label == "vinyl" else score


def _draw(index: int, count: int) -> Drawn:
    """Draw a disc on a ground whose colours tell every index apart."""
    width, height = 320 + 8 * index, 240 + 4 * (index % 5)
    ground = (40 + 180 * index // count, 200 - 150 * index // count, 90 + 40 * (index % 4))
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    middle, radius = (width // 2, height // 2), 60 + 5 * (index % 9)
    pen.circle(middle, radius, fill=(20, 20, 24))
    pen.circle(middle, radius // 3, fill=(220, 60 + 10 * index % 180, 70))
    pen.circle(middle, 5, fill=(240, 240, 240))
    original, small = io.BytesIO(), io.BytesIO()
    image.save(original, "PNG")
    image.thumbnail((256, 256))
    image.save(small, "JPEG")
    data = original.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    row = ImageRow(
        sha256=sha256,
        shard="",
        offset=0,
        size=len(data),
        format="png",
        width=width,
        height=height,
        pixel_sha256=sha256,
        phash=index,
        dhash=index,
        hashable=True,
        thumbnail=small.getvalue(),
        provenance=(
            Provenance(
                source="shop" if index % 3 else "archive",
                url=f"http://127.0.0.1:9/records/{index}.png",
                page_url=f"http://127.0.0.1:9/records/{index}.html",
                found_by="img[src]",
                alt=f"Record no. {index} <b>& more</b>",
                page_title="The record shop",
                about="{}",
                fetched_at=START + timedelta(minutes=index),
                run_id="test",
            ),
        ),
        consent_allowed=True,
        consent=(
            '{"allowed": true, "signals": [{"kind": "robots.txt", "value": "allow", '
            '"where": "http://127.0.0.1:9/robots.txt"}]}'
        ),
        duplicate_of=None,
        duplicate_how=None,
        added_at=START + timedelta(minutes=index),
    )
    return Drawn(sha256=sha256, data=data, row=row)


def _kept(drawn: Drawn) -> LinkRow:
    where = drawn.row.provenance[0]
    return LinkRow(
        url=where.url,
        source=where.source,
        page_url=where.page_url,
        found_by=where.found_by,
        outcome="kept",
        sha256=drawn.sha256,
        run_id="test",
        seen_at=where.fetched_at,
    )


def _rejected() -> list[LinkRow]:
    reasons = [
        ("too_small", "12 x 12, and the shorter side should be 64 or more"),
        ("too_small", "1 x 1, and the shorter side should be 64 or more"),
        ("x_robots_tag", "the answer says X-Robots-Tag: noai"),
    ]
    return [
        LinkRow(
            url=f"http://127.0.0.1:9/rejected/{index}.png",
            source="shop",
            page_url="http://127.0.0.1:9/",
            found_by="img[src]",
            outcome="rejected",
            reason=reason,
            detail=detail,
            run_id="test",
            seen_at=START + timedelta(minutes=index),
        )
        for index, (reason, detail) in enumerate(reasons)
    ]


@contextmanager
def serving(root: Path, access: Access | None = None) -> Iterator[str]:
    """Serve the studio of `root` with uvicorn on a free port of loopback; yield its address."""
    app = create_app(root, access=access)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Wire:
    """A real connection to the store that can be cut: a forwarder on a port of its own.

    Cut, it refuses connections and breaks those that stand; mended, it listens on the same port.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Refuse new connections and break those that stand."""
        self._listener.close()
        with self._lock:
            for each in self._open:
                _break(each)
            self._open.clear()

    def mend(self) -> None:
        """Listen again."""
        self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        listener.settimeout(0.05)  # closing a socket does not wake a thread that accepts on it
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() != -1:
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            far = socket.create_connection(self._target)
            near.setblocking(True)
            with self._lock:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass  # cut: the other side is closed below, which is the news
    _break(source)
    _break(sink)


def _break(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
