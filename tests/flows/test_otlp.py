"""Traces and metrics, sent to a real receiver of OTLP over HTTP on loopback."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from flows.otlp import trace_id_of
from flows.settings import Settings
from tests.flows.gallery import gallery, workspace_at
from tests.flows.test_cli import run, settings_of


@dataclasses.dataclass
class Receiver:
    """What came in."""

    address: str = ""
    traces: list[ExportTraceServiceRequest] = dataclasses.field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = dataclasses.field(default_factory=list)

    def spans(self) -> list[Span]:
        """Return every span."""
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def services(self) -> set[str]:
        """Return by what names the senders went."""
        resources = [each.resource for request in self.traces for each in request.resource_spans]
        resources += [
            each.resource for request in self.metrics for each in request.resource_metrics
        ]
        return {
            attribute.value.string_value
            for resource in resources
            for attribute in resource.attributes
            if attribute.key == "service.name"
        }

    def sums(self) -> dict[str, float]:
        """Return the last value of each sum, added up over its labels."""
        found: dict[str, float] = {}
        for request in self.metrics:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        points = metric.sum.data_points
                        found[metric.name] = sum(each.as_double for each in points)
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that takes /v1/traces and /v1/metrics."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                received.traces.append(ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                received.metrics.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def _text(span: Span, key: str) -> str:
    return next((each.value.string_value for each in span.attributes if each.key == key), "")


def test_a_crawl_is_one_trace_and_its_numbers_arrive(
    receiver: Receiver, bucket: Settings, tmp_path: Path
) -> None:
    """Run, stage and shards, one below the other, in the trace whose id is made of the run's."""
    with gallery() as site:
        workspace_at(tmp_path, bucket, site.base)
        (tmp_path / "list.txt").write_text(f"{site.picture_url(1)}\n{site.picture_url(2)}\n")
        options = ["--urls", "list.txt", "--name", "mine", "--allow-private", "--run-id", "one"]
        environment = {
            **settings_of(bucket),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address,
            "OTEL_SERVICE_NAME": "our-crawler",
        }
        crawl = run("crawl", *options, folder=tmp_path, environment=environment)
    assert crawl.returncode == 0, crawl.stderr

    spans = receiver.spans()
    (whole,) = [span for span in spans if span.name == "run"]
    (stage,) = [span for span in spans if span.name == "collect"]
    shards = [span for span in spans if span.name == "shard"]
    assert {span.trace_id for span in spans} == {trace_id_of("one").to_bytes(16, "big")}
    assert whole.parent_span_id == b""
    assert stage.parent_span_id == whole.span_id
    assert shards
    assert {span.parent_span_id for span in shards} == {stage.span_id}
    assert _text(stage, "cratedig.run") == "one"
    assert _text(stage, "cratedig.source") == "mine"
    assert receiver.services() == {"our-crawler"}
    assert receiver.sums()["cratedig_pictures_total"] == 2
    assert receiver.sums()["cratedig_stage_seconds_count"] == 1


def _observed(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    begin = "import sys\nfrom pathlib import Path\nfrom flows import observe\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        cwd=folder,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_processes_of_a_run_are_in_one_trace(receiver: Receiver, tmp_path: Path) -> None:
    """Nothing is handed over between them but the run's id."""
    for stage in ("collect", "prelabel"):
        said = _observed(
            f"observe.begin(Path())\nwith observe.stage('{stage}', run='r'): pass",
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.address,
        )
        assert said.returncode == 0, said.stderr

    spans = receiver.spans()
    assert sorted(span.name for span in spans) == ["collect", "prelabel", "run", "run"]
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == 4
    assert receiver.services() == {"cratedig"}


def test_failed_stage_is_a_failed_span(receiver: Receiver, tmp_path: Path) -> None:
    """The error is on it, also when the process ends by it."""
    _observed(
        "observe.begin(Path())\nwith observe.stage('train', run='r'): raise KeyError('lost')",
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.address,
    )
    (stage,) = [span for span in receiver.spans() if span.name == "train"]
    assert stage.status.code == stage.status.STATUS_CODE_ERROR
    assert [event.name for event in stage.events] == ["exception"]


def test_disabled_sends_nothing_and_imports_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED, as the specification has it."""
    said = _observed(
        "observe.begin(Path())\n"
        "with observe.stage('train', run='r'): pass\n"
        "print('opentelemetry' in sys.modules)",
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.address,
        OTEL_SDK_DISABLED="true",
    )
    assert said.stdout == "False\n"
    assert receiver.spans() == []


def test_without_the_extra_the_way_to_it_is_told(tmp_path: Path) -> None:
    """An endpoint that nothing would be sent to is no silent matter."""
    said = _observed(
        "sys.modules['opentelemetry.exporter'] = None\nobserve.begin(Path())",
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert "SettingsInvalid" in said.stderr
    assert "install cratedig[telemetry]" in said.stderr
