"""Traces and metrics over OTLP/HTTP, as the standard OTEL_ variables say (extra `telemetry`).

All spans of a run, whichever process or machine they come from, are in one trace: its id is made of
the run's. In it is a span `run` for each process's part, and below it the stages and their shards.
The provider is our own: Prefect and other libraries do not find it, and send nothing by it.
"""

from __future__ import annotations

import atexit
import contextvars
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from prometheus_client import CollectorRegistry

from flows.metrics import METRICS, Metric

_run: contextvars.ContextVar[str] = contextvars.ContextVar("run", default="")


def trace_id_of(run: str) -> int:
    """Return the id of a run's trace, 128 bits."""
    return int.from_bytes(hashlib.sha256(f"run:{run}".encode()).digest()[:16], "big")


class _TraceOfRun(RandomIdGenerator):
    """Gives the root span of a run the run's trace."""

    def generate_trace_id(self) -> int:
        run = _run.get()
        return trace_id_of(run) if run else super().generate_trace_id()


class Telemetry:
    """What a process exports; what is left is sent at its end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Resource.create would put ours over OTEL_SERVICE_NAME.
        given = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "cratedig"}
        resource = Resource.create(given)
        self._traces = TracerProvider(
            resource=resource, id_generator=_TraceOfRun(), shutdown_on_exit=False
        )
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._traces.get_tracer("cratedig")
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._export(registry)
        atexit.register(self.end)

    def end(self) -> None:
        """Send what was not sent yet."""
        self._traces.shutdown()
        self._meters.shutdown()

    @contextmanager
    def stage(self, name: str, run: str, source: str) -> Iterator[None]:
        """Make a span of a stage, in the trace of its run."""
        with self._part_of(run), self._tracer.start_as_current_span(name) as span:
            span.set_attributes({"cratedig.run": run, "cratedig.stage": name})
            if source:
                span.set_attribute("cratedig.source", source)
            yield

    @contextmanager
    def shard(self, kind: str) -> Iterator[None]:
        """Make a span of a unit of work."""
        with self._tracer.start_as_current_span("shard") as span:
            span.set_attribute("cratedig.stage", kind)
            yield

    @contextmanager
    def _part_of(self, run: str) -> Iterator[None]:
        """Be within the span of `run`; a new one, unless the current one is of that run."""
        current = trace.get_current_span().get_span_context()
        if not run or (current.is_valid and current.trace_id == trace_id_of(run)):
            yield
            return
        token = _run.set(run)
        try:
            # Not below another run's span, or Prefect's, whose trace it would join.
            root = trace.set_span_in_context(trace.INVALID_SPAN)
            with self._tracer.start_as_current_span("run", root) as span:
                span.set_attribute("cratedig.run", run)
                yield
        finally:
            _run.reset(token)

    def _export(self, registry: CollectorRegistry) -> None:
        """Let the meters read what Prometheus' registry has: everything is counted once."""
        meter = self._meters.get_meter("cratedig")
        for metric in METRICS:
            if metric.kind == "gauge":
                meter.create_observable_gauge(
                    metric.name, [_reader(registry, metric.name)], description=metric.meaning
                )
                continue
            for name in _counters(metric):
                meter.create_observable_counter(
                    name, [_reader(registry, name)], description=metric.meaning
                )


def _counters(metric: Metric) -> tuple[str, ...]:
    if metric.kind == "histogram":
        return f"{metric.name}_count", f"{metric.name}_sum"
    return (metric.exposed,)


def _reader(
    registry: CollectorRegistry, sample_name: str
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observed(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(sample.value, dict(sample.labels))
            for family in registry.collect()
            for sample in family.samples
            if sample.name == sample_name
        ]

    return observed
