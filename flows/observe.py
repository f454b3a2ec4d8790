"""Logs, metrics and traces of a process: begun once, and told of runs, stages and shards.

    with observe.stage("collect", run="...", source="shop"):
        with observe.shard("commit"):
            ...

What is not asked for costs nothing: prometheus_client and OpenTelemetry are not even imported.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from flows import logs, metrics
from flows.errors import SettingsInvalid
from flows.settings import FROM_ENVIRONMENT, places

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from flows.otlp import Telemetry

METRICS_FILE = Path(".cratedig") / "metrics.prom"
"""Where numbers are added up unless CRATEDIG_METRICS_FILE says otherwise."""

_log = logging.getLogger(__name__)
_begun = False
_telemetry: Telemetry | None = None


class MetricsSettings(BaseSettings):
    """Where numbers go; nowhere by default."""

    model_config = FROM_ENVIRONMENT

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Show Prometheus metrics on this port of loopback, at /metrics: all of the project's processes'."""
    metrics_file: Path | None = None
    """Add metrics up in this file, for node exporter's textfile collector."""

    @classmethod
    def load(cls, root: Path) -> MetricsSettings:
        """Return the settings of the project in `root`; raises SettingsInvalid."""
        try:
            return cls(**places(root))
        except ValidationError as error:
            raise SettingsInvalid("CRATEDIG_METRICS_PORT: expected 1 to 65535") from error


def begin(root: Path) -> None:
    """Log, count and trace as the environment and the project in `root` ask. Again: logs alone."""
    global _begun, _telemetry
    logs.begin(root)
    if _begun:
        return
    settings = MetricsSettings.load(root)
    shown = settings.metrics_port is not None or settings.metrics_file is not None
    exported = _wants_otlp(os.environ)
    if shown or exported:
        registry = metrics.begin()
        if exported:
            _telemetry = _begin_otlp(registry)
        if shown:
            from flows.metrics_file import MetricsFile, keep

            path = settings.metrics_file or root / METRICS_FILE
            keep(MetricsFile(path, registry), settings.metrics_port)
    _begun = True


def _wants_otlp(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    signals = ("", "TRACES_", "METRICS_")
    return any(environment.get(f"OTEL_EXPORTER_OTLP_{each}ENDPOINT") for each in signals)


def _begin_otlp(registry: CollectorRegistry) -> Telemetry:
    try:
        from flows.otlp import Telemetry
    except ImportError as error:
        raise SettingsInvalid(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "install cratedig[telemetry], or set OTEL_SDK_DISABLED=true"
        ) from error
    return Telemetry(registry)


@contextmanager
def stage(name: str, *, run: str = "", source: str = "") -> Iterator[None]:
    """Watch one stage of a run: its lines carry the names, its time is measured, it is a span.

    Without `run` it belongs to the run that is bound here, or to a new one. Also a decorator.
    """
    # It writes down what stages gave, so it knows of this module.
    from flows.records import new_run_id

    run = run or logs.current().get("run") or new_run_id()
    started = time.monotonic()
    with logs.bound(run=run, stage=name, source=source), _span(name, run, source):
        _log.info("%s begins", name)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            seconds = round(time.monotonic() - started, 3)
            metrics.measure(metrics.STAGE_SECONDS, seconds, stage=name, outcome=outcome)
            _log.info(
                "%s: %s", name, outcome, extra={"fields": {"seconds": seconds, "outcome": outcome}}
            )


def _span(name: str, run: str, source: str) -> AbstractContextManager[None]:
    return nullcontext() if _telemetry is None else _telemetry.stage(name, run, source)


@contextmanager
def shard(kind: str) -> Iterator[None]:
    """Watch one unit of a stage's work."""
    started = time.monotonic()
    with nullcontext() if _telemetry is None else _telemetry.shard(kind):
        yield
    metrics.measure(metrics.SHARD_SECONDS, time.monotonic() - started, stage=kind)
