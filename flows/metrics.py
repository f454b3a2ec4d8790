"""What is counted: the names, and how to count. Nothing is, and nothing is imported, unless asked for.

`flows.observe` makes the registry where CRATEDIG_METRICS_PORT, CRATEDIG_METRICS_FILE or OpenTelemetry
asks for it. Every gauge has labels: one that was never set says nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 14400)
"""Bounds of the histograms' buckets."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing that is counted or measured."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...]

    @property
    def exposed(self) -> str:
        """The name under which Prometheus knows it; a histogram's has `_sum` and so on behind it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


PICTURES = Metric(
    name="cratedig_pictures",
    kind="counter",
    meaning="Pictures that were committed; outcome: new, or same (we had their bytes).",
    labels=("source", "outcome"),
)
BYTES = Metric(
    name="cratedig_bytes",
    kind="counter",
    meaning="Bytes of the pictures that were committed.",
    labels=("source",),
)
REJECTED = Metric(
    name="cratedig_rejected",
    kind="counter",
    meaning="Links that were not taken, by reason.",
    labels=("source", "reason"),
)
LINKS_WAITING = Metric(
    name="cratedig_links_waiting",
    kind="gauge",
    meaning="Links of the run that have not come to their end yet.",
    labels=("source",),
)
EMBEDDED = Metric(
    name="cratedig_embedded",
    kind="counter",
    meaning="Pictures that were embedded (outcome: embedded), or could not be (unreadable).",
    labels=("outcome",),
)
LABELLED = Metric(
    name="cratedig_archive_labelled",
    kind="counter",
    meaning="Pictures of archives that were labelled (outcome: labelled), or could not be (unreadable).",
    labels=("outcome",),
)
PREDICTED = Metric(
    name="cratedig_predicted",
    kind="counter",
    meaning="Answers of the model in production that were published: yes and no, by label.",
    labels=("label", "answer"),
)
DECISIONS = Metric(
    name="cratedig_decisions",
    kind="counter",
    meaning="What people decided, by label and answer.",
    labels=("label", "answer"),
)
REVIEW_QUEUE = Metric(
    name="cratedig_review_queue",
    kind="gauge",
    meaning="Pictures that the last night put up for review.",
    labels=("label",),
)
SHARD_SECONDS = Metric(
    name="cratedig_shard_seconds",
    kind="histogram",
    meaning="How long one unit of work took: a commit, a shard of embeddings, a part of predictions.",
    labels=("stage",),
)
STAGE_SECONDS = Metric(
    name="cratedig_stage_seconds",
    kind="histogram",
    meaning="How long a stage of a run took; outcome: done or failed.",
    labels=("stage", "outcome"),
)

METRICS = (
    PICTURES,
    BYTES,
    REJECTED,
    LINKS_WAITING,
    EMBEDDED,
    LABELLED,
    PREDICTED,
    DECISIONS,
    REVIEW_QUEUE,
    SHARD_SECONDS,
    STAGE_SECONDS,
)

_counters: dict[Metric, Counter] = {}
_gauges: dict[Metric, Gauge] = {}
_histograms: dict[Metric, Histogram] = {}


def begin() -> CollectorRegistry:
    """Count from now on; return a new registry of this process's numbers."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    registry = CollectorRegistry()
    for each in METRICS:
        given = (each.name, each.meaning, each.labels)
        if each.kind == "counter":
            _counters[each] = Counter(*given, registry=registry)
        elif each.kind == "gauge":
            _gauges[each] = Gauge(*given, registry=registry)
        else:
            _histograms[each] = Histogram(*given, registry=registry, buckets=SECONDS)
    return registry


def count(counter: Metric, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    if counter in _counters:
        _counters[counter].labels(**labels).inc(amount)


def show(gauge: Metric, value: float, **labels: str) -> None:
    """Set a gauge."""
    if gauge in _gauges:
        _gauges[gauge].labels(**labels).set(value)


def measure(histogram: Metric, value: float, **labels: str) -> None:
    """Add a value to a histogram."""
    if histogram in _histograms:
        _histograms[histogram].labels(**labels).observe(value)
