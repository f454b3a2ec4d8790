"""The live line, in a log and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from crawler.rejections import Reason, Rejected
from flows.live import MAX_HOSTS, OTHER_HOSTS, Live, host_of
from flows.progress import silent

_SHOW = """
from flows import progress
from flows.live import Live
progress.LINE_EVERY_S = 0
with progress.progress_bar("fetch shop") as shown:
    live = Live(shown, total=3)
    live.kept("https://a.org/1.jpg", 2_000_000)
    live.tell()
    live.unchanged("https://a.org/2.jpg")
    live.tell()
"""


def _rejected(url: str, *, transient: bool) -> Rejected:
    return Rejected(
        url=url, page_url="", reason=Reason.HTTP_ERROR, detail="HTTP 503", transient=transient
    )


def test_the_line_counts_what_came_and_what_is_left() -> None:
    live = Live(silent, total=9)
    live.kept("https://a.org/1.jpg", 1000)
    live.unchanged("https://a.org/2.jpg")
    live.rejected(_rejected("https://b.org/3.jpg", transient=True))
    live.tell(3)
    assert str(live).startswith(
        "kept 1, unchanged 1, rejected 1, to be stored 1, hosts failing 1, queue 6, "
    )


def test_a_host_that_answers_again_is_failing_no_longer() -> None:
    live = Live(silent)
    live.rejected(_rejected("https://b.org/3.jpg", transient=True))
    live.kept("https://b.org/4.jpg", 1000)
    assert "failing" not in str(live)
    assert (live.hosts["b.org"].outcomes, live.hosts["b.org"].transient) == (2, 1)


def test_however_many_hosts_there_are_they_take_bounded_memory() -> None:
    live = Live(silent)
    for number in range(MAX_HOSTS + 50):
        live.kept(f"https://h{number}.org/1.jpg", 1)
    assert len(live.hosts) == MAX_HOSTS + 1
    assert live.hosts[OTHER_HOSTS].outcomes == 50


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user@A.org:8000/x", "a.org:8000"),
        ("archive:photos/1.jpg", "archive:"),
        ("data:image/png;base64,AA", "data:"),
        ("https://[", "(no address)"),
    ],
)
def test_every_address_has_a_host_to_be_counted_under(url: str, host: str) -> None:
    assert host_of(url) == host


def test_in_a_log_it_is_a_plain_line() -> None:
    said = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
    first, second = said.stderr.splitlines()
    assert first.startswith("fetch shop: 1 of 3 (")
    assert "kept 1, unchanged 1, to be stored 1, queue 1, " in second
    assert "\x1b" not in said.stderr


def test_on_a_terminal_it_is_a_bar_with_the_same_counts() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen([sys.executable, "-c", _SHOW], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        # The other end of a pseudo-terminal ends with an error, not with an end.
        with suppress(OSError):
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    assert process.returncode == 0
    assert b"2/3" in shown
    assert b"kept 1" in shown
