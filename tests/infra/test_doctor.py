"""The doctor finds what is missing, and says what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.doctor import Finding, examine
from infra.local import LocalStack
from tests.waiting import until


def finding(root: Path, name: str) -> Finding:
    """The finding of that name."""
    return next(each for each in examine(root) if each.name == name)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack of the test's own, with its store running."""
    stack = LocalStack(tmp_path)
    stack.up(parts=("store",))
    yield stack
    stack.down()


def kill_store(stack: LocalStack) -> None:
    """Kill the store, and return when it is gone."""
    process = psutil.Process(next(each.pid for each in stack.status() if each.name == "store"))
    process.kill()
    until(lambda: stack.status()[0].state == "crashed")


def test_all_is_well_where_the_tests_run(tmp_path: Path) -> None:
    assert [each for each in examine(tmp_path) if not each.ok] == []


def test_it_changes_nothing(tmp_path: Path) -> None:
    examine(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_does_not_exist_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRATEDIG_CHROMIUM", "/no/such/chromium")

    found = finding(tmp_path, "browser")

    assert not found.ok
    assert "CRATEDIG_CHROMIUM" in found.advice


def test_a_running_store_is_reachable(stack: LocalStack) -> None:
    assert finding(stack.root, "store reachable").ok


def test_a_killed_store_is_reported_as_unreachable_and_crashed(stack: LocalStack) -> None:
    kill_store(stack)

    failed = {each.name for each in examine(stack.root) if not each.ok}
    assert failed == {"local stack", "store reachable"}


def test_the_advice_for_a_crashed_part_names_its_log(stack: LocalStack) -> None:
    kill_store(stack)

    assert str(stack.log("store")) in finding(stack.root, "local stack").advice


def test_a_store_that_is_not_configured_is_not_judged(tmp_path: Path) -> None:
    assert not [each for each in examine(tmp_path) if "reachable" in each.name]
