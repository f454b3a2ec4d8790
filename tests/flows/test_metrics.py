"""What is counted, how processes add it up, and that it costs nothing unasked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flows import metrics, observe
from flows.catalog import Catalog
from flows.metrics import DECISIONS, METRICS, PICTURES, REVIEW_QUEUE, SHARD_SECONDS
from flows.metrics_file import MetricsFile, keep
from flows.objects import ObjectStore
from flows.rows import Answer, DecisionRow
from flows.settings import Settings
from tests.flows.catalog_rows import START, sha
from tests.flows.gallery import gallery, workspace_at
from tests.flows.test_cli import run, settings_of

BOARD = Path(__file__).parents[2] / "infra" / "grafana.json"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _labels(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """Numbers of this test alone; nothing is counted any longer when it has ended."""
    for instruments in ("_counters", "_gauges", "_histograms"):
        monkeypatch.setattr(metrics, instruments, {})
    return metrics.begin()


def test_a_crawl_is_counted_and_the_next_goes_on(bucket: Settings, tmp_path: Path) -> None:
    """Two commands, two processes: pictures, bytes, rejects and shards of both are in the file."""
    file = tmp_path / "node-exporter" / "cratedig.prom"
    environment = {**settings_of(bucket), "CRATEDIG_METRICS_FILE": str(file)}
    with gallery() as site:
        workspace_at(tmp_path, bucket, site.base)
        for name, urls in (
            ("one", [site.picture_url(1), site.picture_url(2), f"{site.base}/nothing.jpg"]),
            ("two", [site.picture_url(3), site.picture_url(2)]),
        ):
            (tmp_path / "list.txt").write_text("\n".join(urls))
            options = ["--urls", "list.txt", "--name", "mine", "--allow-private", "--run-id", name]
            crawl = run("crawl", *options, folder=tmp_path, environment=environment)
            assert crawl.returncode == 0, crawl.stderr

    found = _samples(file.read_text())
    catalog = Catalog(ObjectStore(bucket))
    assert found["cratedig_pictures_total", _labels(source="mine", outcome="new")] == 3
    assert found["cratedig_bytes_total", _labels(source="mine")] == sum(
        row.size for row in catalog.images()
    )
    (reason,) = {row.reason for row in catalog.links() if row.outcome == "rejected"}
    assert found["cratedig_rejected_total", _labels(source="mine", reason=reason)] == 1
    assert found["cratedig_links_waiting", _labels(source="mine")] == 0
    assert found["cratedig_shard_seconds_count", _labels(stage="collect")] >= 2
    assert found["cratedig_stage_seconds_count", _labels(stage="collect", outcome="done")] == 2


def test_processes_add_up_at_once(tmp_path: Path) -> None:
    """Four processes flush the same file again and again: not one count is lost or taken twice."""
    code = (
        "from pathlib import Path\n"
        "from flows import metrics\n"
        "from flows.metrics_file import MetricsFile\n"
        "file = MetricsFile(Path('m.prom'), metrics.begin())\n"
        "for _ in range(50):\n"
        "    metrics.count(metrics.PICTURES, source='s', outcome='new')\n"
        "    metrics.measure(metrics.SHARD_SECONDS, 2.0, stage='embed')\n"
        "    file.flush()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]

    found = _samples((tmp_path / "m.prom").read_text())
    assert found["cratedig_pictures_total", _labels(source="s", outcome="new")] == 200
    assert found["cratedig_shard_seconds_sum", _labels(stage="embed")] == 400
    assert found["cratedig_shard_seconds_bucket", _labels(stage="embed", le="1.0")] == 0
    assert found["cratedig_shard_seconds_bucket", _labels(stage="embed", le="2.0")] == 200


def test_gauges_stand_as_they_were_set_last(tmp_path: Path, registry: CollectorRegistry) -> None:
    """A queue is not added to that of the process before; one that nobody set says nothing."""
    path = tmp_path / "m.prom"
    metrics.show(REVIEW_QUEUE, 40, label="vinyl")
    MetricsFile(path, registry).flush()
    metrics.show(REVIEW_QUEUE, 7, label="vinyl")

    found = _samples(MetricsFile(path, registry).flush().decode())

    assert found["cratedig_review_queue", _labels(label="vinyl")] == 7
    assert not any(name == "cratedig_links_waiting" for name, _ in found)


def test_port_shows_what_all_processes_counted(tmp_path: Path, registry: CollectorRegistry) -> None:
    """Also of those that have ended; whoever comes second to the port leaves it to the first."""
    path = tmp_path / "m.prom"
    metrics.count(PICTURES, 2, source="s", outcome="new")
    MetricsFile(path, registry).flush()
    port = keep(MetricsFile(path, metrics.begin()), 0)
    metrics.count(PICTURES, 3, source="s", outcome="new")
    assert port is not None

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        found = _samples(answer.read().decode())
        kind = answer.headers["content-type"]

    assert kind.startswith("text/plain")
    assert found["cratedig_pictures_total", _labels(source="s", outcome="new")] == 5
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")
    assert keep(MetricsFile(path, registry), port) is None


def test_decisions_are_counted_by_label_and_answer(
    object_store: ObjectStore, registry: CollectorRegistry
) -> None:
    """Wherever people decide, it goes through the catalogue."""
    answers: tuple[Answer, ...] = ("yes", "yes", "no")
    rows = [
        DecisionRow(sha256=sha(number), label="vinyl", answer=answer, who="ada", at=START)
        for number, answer in enumerate(answers)
    ]
    Catalog(object_store).add_decisions(rows)

    def counted(answer: str) -> float | None:
        return registry.get_sample_value(DECISIONS.exposed, {"label": "vinyl", "answer": answer})

    assert (counted("yes"), counted("no"), counted("unsure")) == (2, 1, None)


def test_failed_stage_is_told_from_one_that_is_done(registry: CollectorRegistry) -> None:
    """The seconds of both are kept apart."""
    with pytest.raises(KeyError), observe.stage("train", run="r"):
        raise KeyError

    def counted(outcome: str) -> float | None:
        return registry.get_sample_value(
            "cratedig_stage_seconds_count", {"stage": "train", "outcome": outcome}
        )

    assert (counted("failed"), counted("done")) == (1, None)


def test_unasked_nothing_is_imported(tmp_path: Path) -> None:
    """Neither Prometheus' client nor OpenTelemetry, although stages and shards are told of."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from flows import catalog, observe, sink\n"
        "observe.begin(Path())\n"
        "with observe.stage('collect', run='r'), observe.shard('collect'): pass\n"
        "print({'prometheus_client', 'opentelemetry'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "set()\n"


def test_unusable_port_is_one_sentence(tmp_path: Path) -> None:
    """Told by the command, not by a traceback."""
    said = run("status", folder=tmp_path, environment={"CRATEDIG_METRICS_PORT": "none"})
    assert (said.returncode, said.stderr) == (
        1,
        "cratedig: CRATEDIG_METRICS_PORT: expected 1 to 65535\n",
    )


def test_every_metric_has_a_name_and_labels_of_its_own() -> None:
    """Names as Prometheus wants them: unit last; `_total` is put behind by its client."""
    assert len({each.name for each in METRICS}) == len(METRICS)
    assert all(re.fullmatch(r"cratedig_[a-z]+(_[a-z]+)*", each.name) for each in METRICS)
    assert all(each.labels for each in METRICS)
    assert SHARD_SECONDS in METRICS


def _queries() -> list[str]:
    board = json.loads(BOARD.read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    variables = [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [*panels, *variables]


def test_every_metric_on_the_board_exists() -> None:
    """And every metric that exists is on the board."""
    exposed = {each.exposed for each in METRICS if each.kind != "histogram"} | {
        f"{each.name}_{part}"
        for each in METRICS
        if each.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    named = {name for query in _queries() for name in re.findall(r"cratedig_\w+", query)}
    assert named <= exposed
    assert [
        each.name for each in METRICS if not any(each.name in query for query in _queries())
    ] == []


def test_board_groups_by_labels_that_its_metrics_have() -> None:
    """A panel by a label that nobody writes would be one unnamed line."""
    for query in _queries():
        names = {label for each in METRICS if each.name in query for label in each.labels}
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert {each.strip() for each in group.split(",")} <= names | {"le"}, query
