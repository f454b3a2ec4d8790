"""Fetching against img2dataset, in turn, from one server on loopback: `make bench-crawl`.

Both store original bytes in WebDataset tars with metadata in Parquet (img2dataset without any
re-encoding), and then both decode: we validate, hash and make a thumbnail; img2dataset resizes to
256 pixels, as it does by default. Twenty hosts serve 31 KB photographs, each address another one.

What counts are CPU seconds of the processes that fetch, children included; the server has a process
of its own. Start-up (imports, workers) is measured by a short run and taken off them, on both sides: it
is paid once a crawl. Pictures a second of wall clock include it. Where the
rival cannot be installed or fails, the notes say so and our figures stand alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.report import ROOT, RivalUnavailable, Row, in_turn, rival_python, write

_HOSTS = 20
_PAIRS = 3
_SHORT = 100
_COUNT = {"fetch": 4000, "candidates": 1500}
_TARGET = {"fetch": 1000.0, "candidates": 250.0}
_TITLE = {
    "fetch": "fetch and store",
    "candidates": "fetch, validate, thumbnail, hash and store",
}
_RIVAL = "img2dataset==1.47.0"
# How img2dataset is told to do the like: its own defaults but for the processes, one a core.
_RIVAL_OPTIONS = {"fetch": "disable_all_reencoding=True", "candidates": "image_size=256"}
_RIVAL_PROGRAM = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(
        url_list=sys.argv[1], output_folder=sys.argv[2], input_format="txt",
        output_format="webdataset", number_sample_per_shard=1000, processes_count=2,
        thread_count=32, enable_wandb=False, {options},
    )
"""


@dataclass(frozen=True, slots=True)
class _Cost:
    cpu_s: float
    wall_s: float


def main() -> None:
    """Measure, print and write `.bench/crawl.json`."""
    with _server() as port:
        try:
            rival = rival_python("img2dataset", _RIVAL)
            rows = [row for what in _COUNT for row in _measured(what, port, rival)]
            notes = f"rival: {_RIVAL}; start-up taken off the CPU seconds of both; {_HOSTS} hosts on loopback"
        except RivalUnavailable as unavailable:
            rows = [row for what in _COUNT for row in _measured(what, port, None)]
            notes = f"no rival: {unavailable}"
    write("crawl", rows, runs=_PAIRS, notes=notes)


def _measured(what: str, port: int, rival: Path | None) -> list[Row]:
    count = _COUNT[what]
    ours_start = _run(what, port, _SHORT, None)
    walls: dict[bool, list[float]] = {True: [], False: []}

    def per_cpu_second(python: Path | None, start: _Cost) -> float:
        cost = _run(what, port, count, python)
        walls[python is None].append(count / cost.wall_s)
        return (count - _SHORT) / (cost.cpu_s - start.cpu_s)

    if rival is None:
        ours = [per_cpu_second(None, ours_start) for _ in range(_PAIRS)]
        return [_row(what, "CPU-second", ours, [], target=_TARGET[what])]
    rival_start = _run(what, port, _SHORT, rival)
    ours, theirs = in_turn(
        lambda: per_cpu_second(None, ours_start),
        lambda: per_cpu_second(rival, rival_start),
        _PAIRS,
    )
    return [
        _row(what, "CPU-second", ours, theirs, target=_TARGET[what]),
        _row(what, "second on this machine", walls[True], walls[False], target=None),
    ]


def _row(
    what: str, per: str, ours: list[float], theirs: list[float], *, target: float | None
) -> Row:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    return Row(
        name=_TITLE[what],
        unit=f"pictures a {per}",
        value=statistics.median(ours),
        rival=statistics.median(theirs) if theirs else None,
        ratio=statistics.median(ratios) if ratios else None,
        target=target,
    )


def _run(what: str, port: int, count: int, rival: Path | None) -> _Cost:
    """Fetch `count` pictures in a process of its own, ours or the rival's; return what it cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        addresses = folder / "addresses.txt"
        addresses.write_text(
            "".join(f"http://127.0.0.{at % _HOSTS + 1}:{port}/{at}.jpg\n" for at in range(count))
        )
        into = folder / "out"
        into.mkdir()
        if rival is None:
            command = [sys.executable, "-m", "tests.bench.crawling.ours", what]
        else:
            program = folder / "rival.py"
            program.write_text(_RIVAL_PROGRAM.replace("{options}", _RIVAL_OPTIONS[what]))
            command = [str(rival), str(program)]
        # img2dataset's albumentations would ask the internet for its newest version.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1"}
        log = folder / "log.txt"
        started = time.monotonic()
        measured = [sys.executable, "-m", "tests.bench.crawling.costs"]
        with log.open("w") as output:
            status = subprocess.call(
                [*measured, folder / "cpu_s", *command, addresses, into],
                stdout=output,
                stderr=output,
                env=environment,
            )
        wall_s = time.monotonic() - started
        stored_bytes = sum(path.stat().st_size for path in into.glob("*.tar"))
        # The smallest that the pictures can be when img2dataset has shrunk them.
        if status or stored_bytes < count * 5_000:
            print(log.read_text(), file=sys.stderr)
            said = f"stored {stored_bytes} bytes of {count} pictures, status {status}"
            raise RivalUnavailable(f"{_RIVAL} {said}") if rival else RuntimeError(f"we {said}")
        return _Cost(float((folder / "cpu_s").read_text()), wall_s)


@contextmanager
def _server() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.bench.crawling.server", str(_HOSTS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


if __name__ == "__main__":
    main()
