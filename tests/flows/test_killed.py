"""A crawl that is killed again and again, at points that nobody chose, ends as if it never was.

Three kills in the suite; `make soak` kills a crawl of 5,000 addresses fifty times.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crawler.fetch import FLEET_CAP
from flows.settings import Settings
from tests.flows.gallery import gallery, workspace_at
from tests.flows.test_cli import settings_of
from tests.waiting import until

KILLS = int(os.environ.get("CRATEDIG_SOAK_KILLS", "3"))
URLS = int(os.environ.get("CRATEDIG_SOAK_URLS", "600"))
SHARD = 50

IN_FLIGHT = SHARD + FLEET_CAP + 4
"""Pictures that are in memory at most: to be stored, being fetched, and waiting to be decoded."""


@pytest.mark.slow
def test_a_crawl_that_is_killed_at_random_points_loses_and_repeats_nothing(
    bucket: Settings, tmp_path: Path
) -> None:
    """What was committed is never fetched again, and every picture is there once in the end."""
    numbers = random.Random(7)
    with gallery() as site:
        workspace = workspace_at(tmp_path / "project", bucket, site.base)
        lines = (f"{site.picture_url(number)}\n" for number in range(URLS))
        (workspace.root / "table.csv").write_text("url\n" + "".join(lines))

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.flows.gallery", workspace.root, "table", str(SHARD)],
                env={**os.environ, **settings_of(bucket)},
            )

        def sent() -> int:
            return sum(site.bodies.values())

        def committed() -> set[str]:
            return {row.url.removeprefix(site.base) for row in workspace.catalog.links("table")}

        for _ in range(KILLS):
            safe = {path: site.bodies[path] for path in committed()}
            before = sent()
            process = start()
            # By what it has fetched, and then a moment that may lie within a commit.
            goal = before + numbers.randrange(URLS // KILLS)
            until(_reached(process, sent, goal), timeout_s=120)
            try:
                process.wait(numbers.uniform(0, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
            assert process.wait() != 0, "it ended before it could be killed"
            assert all(site.bodies[path] == count for path, count in safe.items())
            assert sent() - before - len(committed() - safe.keys()) <= IN_FLIGHT
        assert start().wait(300) == 0

        images = list(workspace.catalog.images())
        assert len(committed()) == URLS
        assert len({image.sha256 for image in images}) == len(images) == URLS
        assert {len(image.provenance) for image in images} == {1}
        assert len({place.run_id for image in images for place in image.provenance}) == 1
        for image in numbers.sample(images, 20):
            workspace.catalog.read_image_bytes(image.sha256)


def _reached(
    process: subprocess.Popen[bytes], sent: Callable[[], int], goal: int
) -> Callable[[], bool]:
    return lambda: sent() >= goal or process.poll() is not None
