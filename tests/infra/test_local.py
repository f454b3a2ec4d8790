"""The local stack starts once, restarts what was killed, and ends no process but its own."""

from __future__ import annotations

import dataclasses
import json
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from infra.local import LocalStack, Part, StackError
from infra.ports import free_ports
from infra.processes import marked
from tests.waiting import until


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack of the test's own."""
    stack = LocalStack(tmp_path)
    yield stack
    stack.down()


def web(name: str = "web") -> Part:
    """A small real web server."""
    command = (sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1")
    return Part(name=name, command=command, port=0)


def program(name: str, source: str, *arguments: str, port: int | None = None) -> Part:
    """A part that runs `source`."""
    return Part(name=name, command=(sys.executable, "-c", source, *arguments), port=port)


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def up(stack: LocalStack, *extra: Part) -> dict[str, str]:
    """Start these parts alone."""
    return stack.up(extra, parts=(), timeout_s=60)


def state_of(stack: LocalStack, name: str) -> str:
    """How `name` is."""
    return next(each.state for each in stack.status() if each.name == name)


def pid_of(stack: LocalStack, name: str) -> int:
    """The pid of `name`, which must be running."""
    pid = next(each.pid for each in stack.status() if each.name == name)
    assert pid is not None
    return pid


def kill_9(stack: LocalStack, name: str) -> None:
    """Kill the part's own process, and return when it is gone."""
    process = psutil.Process(pid_of(stack, name))
    process.kill()
    until(lambda: state_of(stack, name) == "crashed")


def written(path: Path) -> Callable[[], bool]:
    """A condition: `path` has a whole number in it."""
    return lambda: path.exists() and path.read_text().isdigit()


def test_a_started_part_answers_at_the_returned_address(stack: LocalStack) -> None:
    addresses = up(stack, web())

    assert urllib.request.urlopen(addresses["web"]).status == 200


def test_up_twice_leaves_the_running_part_alone(stack: LocalStack) -> None:
    first = up(stack, web())
    pid = pid_of(stack, "web")

    assert up(stack, web()) == first
    assert pid_of(stack, "web") == pid


def test_two_ups_at_once_start_one_process(stack: LocalStack) -> None:
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: up(LocalStack(stack.root), web()), range(3)))

    assert results[0] == results[1] == results[2]
    assert len(marked(str(stack.folder))) == 1


def test_a_killed_part_is_reported_as_crashed(stack: LocalStack) -> None:
    up(stack, web())

    kill_9(stack, "web")

    assert state_of(stack, "web") == "crashed"


def test_up_after_a_kill_restarts_that_part_alone_on_its_old_port(stack: LocalStack) -> None:
    first = up(stack, web("one"), web("two"))
    survivor = pid_of(stack, "two")
    kill_9(stack, "one")

    assert up(stack, web("one"), web("two")) == first
    assert pid_of(stack, "two") == survivor


def test_ports_stay_the_same_from_down_to_up(stack: LocalStack) -> None:
    first = up(stack, web())
    stack.down()

    assert up(stack, web()) == first


def test_a_port_that_a_stranger_took_is_given_up(stack: LocalStack) -> None:
    first = up(stack, web())
    stack.down()
    with socket.create_server(("127.0.0.1", int(first["web"].rpartition(":")[2]))):
        second = up(stack, web())

    assert second["web"] != first["web"]


def test_a_fixed_port_that_a_stranger_took_is_an_error_that_names_it(stack: LocalStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(StackError, match=f"web needs port {port} "):
            up(stack, dataclasses.replace(web(), port=port))


def test_down_ends_the_children_too(stack: LocalStack, tmp_path: Path) -> None:
    up(stack, program("parent", PARENT, str(tmp_path / "pid")))
    until(written(tmp_path / "pid"))
    child = psutil.Process(int((tmp_path / "pid").read_text()))

    stack.down()

    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_children_of_a_killed_part_are_ended_before_it_starts_again(
    stack: LocalStack, tmp_path: Path
) -> None:
    """Two workers over one ledger, or two stores over one folder, would spoil it."""
    part = program("parent", PARENT, str(tmp_path / "pid"))
    up(stack, part)
    until(written(tmp_path / "pid"))
    orphan = psutil.Process(int((tmp_path / "pid").read_text()))
    kill_9(stack, "parent")

    up(stack, part)

    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_part_that_ignores_sigterm_is_killed(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local._STOP_GRACE_S", 0.2)
    source = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    up(stack, program("deaf", source, str(tmp_path / "pid")))
    until(written(tmp_path / "pid"))
    process = psutil.Process(pid_of(stack, "deaf"))

    stack.down()

    assert not process.is_running()


def test_a_recycled_pid_is_never_killed(stack: LocalStack) -> None:
    """The recorded pid belongs to someone else, a day after the part crashed."""
    up(stack, web())
    kill_9(stack, "web")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        path = stack.folder / "state.json"
        body = json.loads(path.read_text())
        body["parts"]["web"]["process"]["pid"] = stranger.pid
        body["parts"]["web"]["process"]["created"] -= 86_400
        path.write_text(json.dumps(body))

        stack.down()

        assert stranger.poll() is None
        stranger.kill()


def test_a_part_started_by_a_killed_up_is_found_again(stack: LocalStack) -> None:
    """Killed after the start and before it was written down: the port must not stay taken."""
    first = up(stack, web())
    orphan = psutil.Process(pid_of(stack, "web"))
    path = stack.folder / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parts": {}}))

    assert up(stack, web()) == first
    assert not orphan.is_running()


def test_a_part_that_ends_at_once_is_an_error_with_its_last_words(stack: LocalStack) -> None:
    part = program("bad", "import sys; sys.exit('no such folder: /x')", "{port}", port=0)

    with pytest.raises(StackError, match=r"(?s)bad ended while it started.*no such folder: /x"):
        up(stack, part)


def test_the_last_words_are_those_of_this_start(stack: LocalStack) -> None:
    with pytest.raises(StackError):
        up(stack, program("bad", "import sys; sys.exit('first')", port=0))

    with pytest.raises(StackError) as raised:
        up(stack, program("bad", "import sys; sys.exit('second')", port=0))

    assert "first" not in str(raised.value)


def test_a_part_that_never_answers_is_an_error_and_is_ended(stack: LocalStack) -> None:
    part = program("mute", "import time; time.sleep(600)", port=0)

    with pytest.raises(StackError, match="mute did not answer within 1 s"):
        stack.up([part], parts=(), timeout_s=1)

    assert marked(str(stack.folder)) == []


def test_a_part_whose_command_changed_is_started_again(stack: LocalStack) -> None:
    up(stack, web())
    pid = pid_of(stack, "web")

    up(stack, dataclasses.replace(web(), environment={"DIFFERENT": "1"}))

    assert pid_of(stack, "web") != pid


def test_a_changed_project_file_restarts_what_reads_it_alone(stack: LocalStack) -> None:
    reader = dataclasses.replace(web("reader"), after=("other",))
    up(stack, web("other"), reader)
    before = {name: pid_of(stack, name) for name in ("other", "reader")}

    (stack.root / "project.toml").write_text("name = 'changed'\n")
    up(stack, web("other"), reader)

    changed = {name for name, pid in before.items() if pid_of(stack, name) != pid}
    assert changed == {"reader"}


def test_a_part_starts_only_when_those_before_it_are_ready(
    stack: LocalStack, tmp_path: Path
) -> None:
    port = free_ports(1)[0]
    first = dataclasses.replace(web("first"), port=port)
    source = (
        "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]));"
        "c.request('GET', '/'); open(sys.argv[2], 'w').write(str(c.getresponse().status));"
        "import time; time.sleep(600)"
    )
    second = program("second", source, str(port), str(tmp_path / "status"))

    up(stack, dataclasses.replace(second, after=("first",)), first)

    until(written(tmp_path / "status"))
    assert (tmp_path / "status").read_text() == "200"


def test_down_without_up_does_nothing(tmp_path: Path) -> None:
    LocalStack(tmp_path).down()

    assert list(tmp_path.iterdir()) == []


def test_status_names_the_usual_parts_before_anything_was_started(tmp_path: Path) -> None:
    found = {each.name: each.state for each in LocalStack(tmp_path).status()}

    assert found == dict.fromkeys(("store", "prefect", "worker", "studio"), "stopped")


def test_a_damaged_state_file_is_an_error_that_says_what_to_do(stack: LocalStack) -> None:
    up(stack, web())
    path = stack.folder / "state.json"
    whole = path.read_text()
    path.write_text(whole[:30])

    with pytest.raises(StackError, match=r"state.json is damaged .* delete it"):
        stack.status()
    path.write_text(whole)


def test_the_store_is_told_to_the_rest_in_local_env(stack: LocalStack) -> None:
    address = stack.up(parts=("store",))["store"]

    lines = stack.settings_file.read_text().splitlines()
    assert f"CRATEDIG_ENDPOINT={address}" in lines


def test_keys_are_for_their_owner_alone(stack: LocalStack) -> None:
    stack.up(parts=("store",))

    for path in (stack.settings_file, stack.folder / "keys.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_down_takes_local_env_away(stack: LocalStack) -> None:
    """What starts after it says that the stack is down, instead of finding no connection."""
    up(stack, web())

    stack.down()

    assert not stack.settings_file.exists()


def test_nothing_of_the_stack_gets_into_git(stack: LocalStack) -> None:
    subprocess.run(["git", "init", "-q", stack.root], check=True)
    stack.up(parts=("store",))

    untracked = subprocess.run(
        ["git", "-C", stack.root, "status", "--porcelain"], check=True, capture_output=True
    )

    assert untracked.stdout == b""


def test_the_store_keeps_its_keys_over_a_kill(stack: LocalStack) -> None:
    stack.up(parts=("store",))
    before = stack.settings_file.read_text()
    kill_9(stack, "store")

    stack.up(parts=("store",))

    assert stack.settings_file.read_text() == before


def test_prefect_answers_with_its_own_address_for_its_pages(prefect_server: str) -> None:
    """With a wrong one the pages load and then show nothing."""
    base = prefect_server.removesuffix("/api")
    settings = json.load(urllib.request.urlopen(f"{base}/ui-settings"))

    assert settings["api_url"] == prefect_server


def test_prefect_does_not_let_foreign_pages_read_it(prefect_server: str) -> None:
    request = urllib.request.Request(
        f"{prefect_server}/health", headers={"Origin": "http://elsewhere.example"}
    )

    assert "access-control-allow-origin" not in urllib.request.urlopen(request).headers


def test_prefect_reports_to_nobody(prefect_server: str) -> None:
    settings = json.load(urllib.request.urlopen(f"{prefect_server}/admin/settings"))

    assert settings["server"]["analytics_enabled"] is False


def test_the_prefect_client_reaches_the_server(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        assert str(client.api_url).rstrip("/") == prefect_api
        assert client.api_version() != ""
