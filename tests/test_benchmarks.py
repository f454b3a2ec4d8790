"""`make bench` reports every benchmark, also beside one that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import every, report
from tests.bench.report import RivalUnavailable, Row, rival_python, table, write, write_failure
from tests.bench.rivals import Measured, Times
from tests.bench.rivals.beside import FIGURES, with_rivals


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go, in place of .bench/ of the repository."""
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    return tmp_path


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(each.read_text()) for each in sorted(folder.glob("*.json"))]


def test_a_benchmark_that_failed_is_named_and_the_others_keep_their_figures(folder: Path) -> None:
    write("fast", [Row(name="speed", unit="m/s", value=7.25, target=7)], runs=3)
    write_failure("slow", "it ended with status 1.")
    text = table(results(folder))
    assert "Failed, and without figures: slow." in text
    assert "**Failed**: it ended with status 1." in text
    assert "| speed | m/s | 7.25 |  |  | >= 7 | yes |" in text


def test_what_was_measured_elsewhere_stays_in_the_table_until_it_is_measured_anew(
    folder: Path,
) -> None:
    for name, value in (("fast", 7.25), ("other", 1)):
        write(name, [Row(name="speed", unit="m/s", value=value)], runs=3)
    before = table(results(folder))
    assert table([], before=before) == before
    (folder / "other.json").unlink()
    write("fast", [Row(name="speed", unit="m/s", value=8.5)], runs=3)
    after = table(results(folder), before=before)
    assert "| speed | m/s | 8.5 |" in after
    assert "7.25" not in after
    assert after.partition("## other")[2] == before.partition("## other")[2]


def test_the_table_names_machine_date_and_commit_of_each(folder: Path) -> None:
    write("fast", [Row(name="speed", unit="m/s", value=7.25)], runs=3)
    (result,) = results(folder)
    machine, versions = result["machine"], result["versions"]
    assert isinstance(machine, dict)
    assert isinstance(versions, dict)
    text = table([result])
    for said in (result["at"], machine["cpu"], machine["memory_gib"], versions["cratedig"]):
        assert str(said) in text


def test_why_a_benchmark_failed_is_kept_beside_its_result(folder: Path) -> None:
    why = every.run("of_nothing")
    assert why == "it ended with status 1; what it said is in .bench/of_nothing.log"
    assert "No module named tests.bench.of_nothing" in (folder / "of_nothing.log").read_text()


def test_a_benchmark_that_does_not_end_is_stopped(folder: Path) -> None:
    """A minute's work, which is interrupted while it still imports."""
    assert every.run("intervals", longest_s=0) == "it had not ended after 0 minutes"


def test_every_benchmark_is_run() -> None:
    assert {"crawl", "dedupe", "studio"} <= set(every.benchmarks())
    assert not {"every", "report", "__init__"} & set(every.benchmarks())


def test_a_rival_that_cannot_be_installed_is_said_and_is_no_crash(folder: Path) -> None:
    with pytest.raises(RivalUnavailable, match="nowhere/rival cannot be installed here"):
        rival_python("rival", str(folder / "nowhere" / "rival"))


def a_rival(page_ms: float, decisions_an_hour: float | None) -> Measured:
    times = Times(p50=page_ms / 2, p95=page_ms)
    return Measured(
        tool="tool 1.0",
        import_s=1,
        page=times,
        page_with_pictures=times,
        one_answer=times,
        accept=times,
        open_s=1,
        paint=times,
        decisions_an_hour=decisions_an_hour,
        memory_mb=1,
    )


def test_the_best_of_the_rivals_stands_beside_our_figure() -> None:
    """Ratios are above 1 where ours is the better; what no rival has stays without one."""
    ours = [
        Row(name="page of 200 from the server, p95", unit="ms", value=50, at_least=False),
        Row(name="decisions an hour one by one", unit="", value=5000),
        Row(name="cold open", unit="s", value=1, at_least=False),
    ]
    rows = with_rivals(ours, [a_rival(400, None), a_rival(100, 2500)])
    assert [(row.rival, row.ratio) for row in rows] == [(100, 2), (2500, 2), (None, None)]


def test_figures_are_compared_with_rows_that_the_studio_has() -> None:
    source = (report.ROOT / "tests" / "bench" / "studio.py").read_text(encoding="utf-8")
    assert [name for name in FIGURES if f'"{name}"' not in source] == []
