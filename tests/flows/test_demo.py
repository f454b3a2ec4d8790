"""The demo from end to end, uninterrupted and killed at every step."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.demo import ARRIVAL_DRAWINGS, SHOP_DRAWINGS, STEPS
from tests.waiting import until

pytestmark = pytest.mark.slow

CRATEDIG = Path(sys.executable).with_name("cratedig")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A folder in which the demo ran to its end, and what it said the last time."""

    root: Path
    said: str

    @property
    def result(self) -> dict[str, Any]:
        """What result.json holds."""
        loaded: dict[str, Any] = json.loads((self.root / "result.json").read_text())
        return loaded

    @property
    def truth(self) -> dict[str, Any]:
        """What the site holds."""
        loaded: dict[str, Any] = json.loads((self.root / "site" / "truth.json").read_text())
        return loaded


def _start(folder: Path) -> subprocess.Popen[bytes]:
    log = (folder / "said.txt").open("wb")
    with log:
        return subprocess.Popen(
            [CRATEDIG, "demo"], cwd=folder, stdout=log, stderr=log, env=_environment()
        )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CRATEDIG_")}


def _run(folder: Path) -> Demo:
    process = _start(folder)
    code = process.wait()
    said = (folder / "said.txt").read_text()
    assert code == 0, said
    return Demo(root=folder / ".cratedig" / "demo", said=said)


@contextmanager
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo")
    try:
        yield folder
    finally:
        subprocess.run(
            [CRATEDIG, "demo", "--stop"], cwd=folder, env=_environment(), check=True, timeout=120
        )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, run once without a disturbance."""
    with _folder(tmp_path_factory) as folder:
        yield _run(folder)


def test_every_picture_is_accounted_for(demo: Demo) -> None:
    """Kept, duplicate, or rejected for the reason that the site was built with."""
    result, truth = demo.result, demo.truth
    distinct = [each for each in truth["pictures"] if each["duplicate_of"] is None]
    assert result["kept"] == len(distinct)
    assert result["kept"] == sum(SHOP_DRAWINGS.values()) + sum(ARRIVAL_DRAWINGS.values())
    assert result["duplicates"] == len(truth["pictures"]) - len(distinct)
    assert result["rejected"] == Counter(each["reason"] for each in truth["rejects"])
    assert result["links"] == len(truth["pictures"]) + len(truth["rejects"])


def test_the_classifier_is_right_on_drawings_that_it_has_not_seen(demo: Demo) -> None:
    """Macro F1 of at least 0.9, on pictures that came after training."""
    unseen = demo.result["unseen"]
    assert unseen["macro_f1"]["value"] >= 0.9
    for label in unseen["labels"]:
        assert label["precision"]["low"] <= label["precision"]["value"]
        assert label["precision"]["value"] <= label["precision"]["high"]
    assert len(demo.result["predictions"]) == sum(ARRIVAL_DRAWINGS.values())


def test_the_closing_screen_says_where_everything_is(demo: Demo) -> None:
    """All from result.json: the pages, the bucket, the table."""
    addresses = demo.result["addresses"]
    for part in ("studio", "prefect", "store", "bucket"):
        assert addresses[part] in demo.said
    for label in ("turntable", "vinyl"):
        assert label in demo.said


@pytest.mark.parametrize("option", ["--clip", "--photos"])
def test_what_is_not_there_is_said_before_anything_starts(tmp_path: Path, option: str) -> None:
    """One sentence, and no stack left behind."""
    said = subprocess.run(
        [CRATEDIG, "demo", option, "nowhere"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert "nowhere" in said.stderr
    assert "Traceback" not in said.stderr
    assert not (tmp_path / ".cratedig" / "demo-nowhere" / ".cratedig").exists()


def test_a_second_run_does_nothing_twice_and_says_so(demo: Demo) -> None:
    """Everything but the time of day is as it was."""
    before = demo.result
    again = _run(demo.root.parents[1])
    assert again.result == before
    assert again.said.count("done before; nothing is done twice") == 3
    assert "had already trained" in again.said
    assert "nothing was done twice" in again.said


def test_killed_at_every_step_it_comes_to_the_same_end(
    demo: Demo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Kill -9 at the start of each step, and in the middle of the crawl; then it is run again."""
    with _folder(tmp_path_factory) as folder:
        ledger = folder / ".cratedig" / "demo" / ".cratedig" / "work" / "demo" / "shop.sqlite"
        said = folder / "said.txt"

        def at_step(step: int) -> Callable[[], bool]:
            return lambda: f"[{step}/{STEPS}]" in said.read_text()

        for moment in [at_step(2), ledger.exists, *(at_step(n) for n in range(4, STEPS + 1))]:
            process = _start(folder)

            def reached(
                moment: Callable[[], bool] = moment,
                process: subprocess.Popen[bytes] = process,
            ) -> bool:
                assert process.poll() is None, said.read_text()
                return moment()

            until(reached, timeout_s=300)
            process.send_signal(signal.SIGKILL)
            process.wait()

        end = _run(folder)
        told = ("links", "kept", "duplicates", "rejected")
        assert {name: end.result[name] for name in told} == {
            name: demo.result[name] for name in told
        }
        for part in ("version", "snapshot", "evaluation"):
            assert end.result["model"][part] == demo.result["model"][part]
        assert end.result["unseen"] == demo.result["unseen"]
