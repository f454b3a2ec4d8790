"""The numbers of all processes of a project on one machine, added up in one file, and shown on a port.

    .cratedig/metrics.prom     Prometheus' text format; CRATEDIG_METRICS_FILE puts it elsewhere

Most runs are processes that live for seconds or minutes: nobody would come by in time to scrape
them, and a push gateway is one more server, which keeps the last run's counts instead of adding them
up. So every process adds what it counted to a file, now and then and at its end; counters go on where
the last process ended. Node exporter's textfile collector reads it as it is. Where
CRATEDIG_METRICS_PORT is set, the first process that gets the port on loopback shows the same: the
studio mostly; it does not matter which.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

FLUSH_EVERY_S = 10.0
"""What a kill can cost of the counts."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class MetricsFile:
    """Adds a process's registry to the file; safe among processes and threads."""

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self._path = path
        self._registry = registry
        self._added: dict[_Key, float] = {}
        """What of this process's counts is in the file already."""
        self._lock = threading.Lock()

    def flush(self) -> bytes:
        """Add what was counted since the last time; return the file's text."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file, which is replaced: a lock on the file itself would be on one that is gone.
        with self._lock, self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A registry of its own: that is what the writer of the format takes.
            shown = CollectorRegistry()
            shown.register(_Families(self._added_up()))
            text = generate_latest(shown)
            part = self._path.with_suffix(f".{os.getpid()}")
            part.write_bytes(text)
            part.replace(self._path)
        return text

    def _added_up(self) -> Iterator[Family]:
        there = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in _read(self._path)
            for sample in family.samples
        }
        labels_of = {key: dict(key[1]) for key in there}
        families = {family.name: family for family in self._registry.collect()}
        for family in families.values():
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                key = (sample.name, tuple(sorted(sample.labels.items())))
                labels_of[key] = dict(sample.labels)
                if family.type == "gauge":
                    there[key] = sample.value
                else:
                    new = sample.value - self._added.get(key, 0.0)
                    there[key] = there.get(key, 0.0) + new
                    self._added[key] = sample.value
        for family in families.values():
            shown = Family(family.name, family.documentation, family.type)
            for (name, key_labels), value in there.items():
                if _belongs(name, family.name):
                    shown.add_sample(name, labels_of[name, key_labels], value)
            yield shown


class _Families(Collector):
    """Families that have been collected already, as `generate_latest` takes them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Family]:
        return self._families


def _read(path: Path) -> Iterable[Family]:
    if not path.exists():
        return []
    return list(text_string_to_metric_families(path.read_text()))


def _belongs(sample: str, family: str) -> bool:
    return sample.removeprefix(family) in ("", "_total", "_bucket", "_count", "_sum")


def keep(file: MetricsFile, port: int | None) -> int | None:
    """Flush now and then and at the end; show the file on loopback; return the port, if it is ours.

    Another process of the machine may have it: it shows what this one counts, too.
    """
    ended = threading.Event()

    def flush_until_ended() -> None:
        while not ended.wait(FLUSH_EVERY_S):
            file.flush()

    threading.Thread(target=flush_until_ended, name="metrics", daemon=True).start()

    def end() -> None:
        ended.set()
        file.flush()

    atexit.register(end)
    return None if port is None else _show(file, port)


def _show(file: MetricsFile, port: int) -> int | None:
    class Handler(BaseHTTPRequestHandler):
        """GET /metrics."""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            text = file.flush()
            self.send_response(HTTPStatus.OK)
            self.send_header("content-type", CONTENT_TYPE_LATEST)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own
            """Say nothing: a scrape every few seconds is no news."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    threading.Thread(target=server.serve_forever, name="metrics-port", daemon=True).start()
    return int(server.server_address[1])
