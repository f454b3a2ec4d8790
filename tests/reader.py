"""Somebody who types every block of the documents, one after another, in a folder of their own.

What the documents leave to the reader is done here: a folder `photographs`, answers about them in
`decisions.csv`, and the lines of project.toml that name a CLIP and a site.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.example_project import EXAMPLE_PROJECT
from infra.demo.draw import FIRST_DEMO_SEED, KINDS, draw
from infra.demo.pictures import DemoPicture, encode
from infra.demo.site import build_site
from tests.documents import ROOT, Block

PROJECT = "records"
"""The folder that the README makes, and in which every later document is read."""

PHOTOGRAPHS = 48
ON_THE_SITE = 13
BLOCK_LIMIT_S = 300


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a block ended: the shell's exit code, and all that was printed."""

    code: int
    said: str


def type_all(blocks: Sequence[Block], home: Path) -> dict[Block, Outcome]:
    """Run the blocks in order, below `home`, until one fails; those after it have no outcome."""
    outcomes: dict[Block, Outcome] = {}
    pictures = _pictures()
    _put_photographs(home, pictures[ON_THE_SITE:])
    with _site(home, pictures[:ON_THE_SITE]) as site:
        try:
            here = home
            for block in blocks:
                if outcomes and block.document != next(reversed(outcomes)).document:
                    here = home / PROJECT
                outcomes[block], here = _type(block, here, home)
                if outcomes[block].code:
                    break
                _edit_project(home / PROJECT / "project.toml", site)
        finally:
            for folder in sorted(home.glob("*/.cratedig")):
                subprocess.run(
                    ["cratedig", "down", "--project", folder.parent],
                    env=_environment(home),
                    check=True,
                    timeout=BLOCK_LIMIT_S,
                )
    return outcomes


def _type(block: Block, here: Path, home: Path) -> tuple[Outcome, Path]:
    """Run a block by bash, which ends at the first failure; return where it went, too."""
    whither = home / ".whither"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{block.text}\npwd > {whither}"],
        cwd=here,
        env=_environment(home),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_LIMIT_S,
    )
    if done.returncode == 0:
        here = Path(whither.read_text().strip())
    return Outcome(code=done.returncode, said=done.stdout), here


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which `cratedig` is that of the tests, and no store is named yet."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CRATEDIG_") or name == "CRATEDIG_CHROMIUM"
    }
    here = Path(sys.executable).parent
    return kept | {"PATH": f"{here}:{kept['PATH']}", "PREFECT_HOME": str(home / ".prefect")}


def _pictures() -> list[DemoPicture]:
    """Draw all pictures, of each kind as many."""
    drawings = [
        draw(FIRST_DEMO_SEED + number, KINDS[number % len(KINDS)])
        for number in range(ON_THE_SITE + PHOTOGRAPHS)
    ]
    return [
        DemoPicture(
            name=f"item-{each.seed}", labels=each.labels, jpeg=encode(each.image, quality=88)
        )
        for each in drawings
    ]


def _put_photographs(home: Path, pictures: Sequence[DemoPicture]) -> None:
    """Write the folder that the README imports, and a table of what is on its pictures."""
    folder = home / "photographs"
    folder.mkdir()
    with (home / "decisions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "answer"])
        for picture in pictures:
            (folder / f"{picture.name}.jpg").write_bytes(picture.jpeg)
            for label in ("turntable", "vinyl"):
                answer = "yes" if label in picture.labels else "no"
                table.writerow([hashlib.sha256(picture.jpeg).hexdigest(), label, answer])


@contextmanager
def _site(home: Path, pictures: Sequence[DemoPicture]) -> Iterator[str]:
    """Serve a shop with the pictures, and yield its address."""
    build_site(home / ".site", shop=pictures[1:], arrivals=pictures[:1], seed=0)
    command = [sys.executable, "-m", "infra.demo.site", "--folder", str(home / ".site")]
    with subprocess.Popen(
        [*command, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


def _edit_project(path: Path, site: str) -> None:
    """Name the demo's CLIP and site in a project.toml that is still as `cratedig init` wrote it."""
    if not path.exists() or path.read_text(encoding="utf-8") != EXAMPLE_PROJECT:
        return
    weights = ROOT / "infra" / "demo" / "weights"
    text = EXAMPLE_PROJECT
    for written, edited in {
        'model = "ViT-B-32"\n': f'checkpoint = "{weights}"\n',
        'pretrained = "laion2b_s34b_b79k"': "",
        # Measuring the backends takes longer than so few pictures do in any of them.
        'backend = "auto"': 'backend = "torch"',
        'start = ["https://example.org/records/"]\n': f'start = ["{site}/"]\nallow_private = true\n',
        'allow = ["/records/"]\n': "",
        "delay_s = 0.25": "delay_s = 0",
    }.items():
        assert written in text
        text = text.replace(written, edited)
    path.write_text(text, encoding="utf-8")
