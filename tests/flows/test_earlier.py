"""What earlier runs recorded of a source's links, a million of them too."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crawler.fetch import Validators
from flows.catalog import Catalog
from flows.earlier import Earlier, is_final
from flows.objects import ObjectStore
from flows.settings import Settings
from tests.flows.catalog_rows import link
from tests.flows.test_cli import settings_of


def test_every_row_comes_back_as_it_was_recorded(object_store: ObjectStore, tmp_path: Path) -> None:
    """Times to the microsecond; of this source alone."""
    catalog = Catalog(object_store)
    rows = [link("https://a.org/1"), link("https://a.org/2", reason="timeout", minute=3)]
    catalog.record_links([*rows, link("https://a.org/1", source="forum", minute=9)])
    with Earlier(tmp_path / "earlier", catalog, "shop", run_id="next") as earlier:
        assert [earlier.row(row.url) for row in rows] == rows
        assert earlier.row("https://a.org/3") is None
        assert list(earlier.kept()) == ["https://a.org/1"]


def test_as_a_mapping_it_holds_the_validators_of_what_was_kept(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    catalog = Catalog(object_store)
    catalog.record_links([link("https://a.org/1"), link("https://a.org/2", reason="timeout")])
    with Earlier(tmp_path / "earlier", catalog, "shop", run_id="next") as earlier:
        assert dict(earlier) == {"https://a.org/1": Validators(etag='"etag"')}
        assert "https://a.org/2" not in earlier


def test_a_link_is_settled_once_this_run_has_recorded_it(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    catalog = Catalog(object_store)
    catalog.record_links([link("https://a.org/1")])
    for run_id, settled in (("run", True), ("next", False)):
        with Earlier(tmp_path / "earlier", catalog, "shop", run_id=run_id) as earlier:
            assert earlier.is_settled("https://a.org/1") is settled


@pytest.mark.parametrize(
    ("reason", "transient", "final"),
    [
        ("http_error", False, True),
        ("http_error", True, False),
        ("too_small", False, True),
        ("robots_txt", False, False),
        ("x_robots_tag", False, True),
        ("", False, False),
    ],
)
def test_what_is_left_alone_next_time(reason: str, transient: bool, final: bool) -> None:
    """What was rejected for good, and only by asking for it."""
    row = link("https://a.org/1", reason=reason)
    assert is_final(dataclasses.replace(row, transient=transient)) is final


@pytest.mark.slow
def test_a_million_links_take_no_more_memory_than_a_hundred_thousand(
    bucket: Settings, tmp_path: Path
) -> None:
    """By the peak of a process that copies and looks up, against one with a tenth of them."""
    peaks = []
    for number, count in enumerate((100_000, 1_000_000)):
        settings = bucket.model_copy(update={"prefix": f"{bucket.prefix}/{number}"})
        said = subprocess.run(
            [sys.executable, "-c", _MANY, str(count), str(tmp_path / "earlier")],
            env={**os.environ, **settings_of(settings)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(said.stdout))
    assert peaks[1] - peaks[0] < 64 * 1024


_MANY = """
import dataclasses, resource, sys
from pathlib import Path
import pyarrow as pa
from flows.catalog import Catalog
from flows.earlier import Earlier
from flows.objects import ObjectStore
from flows.rows import LINKS, to_table
from flows.settings import Settings
from tests.flows.catalog_rows import link

count, path = int(sys.argv[1]), Path(sys.argv[2])
catalog = Catalog(ObjectStore(Settings.load(Path())))
row = to_table([link("x")], LINKS)
for first in range(0, count, 50_000):
    urls = pa.array([f"https://example.org/pictures/{n}.jpg" for n in range(first, first + 50_000)])
    rows = row.take(pa.array([0] * 50_000))
    catalog._links.append(rows.set_column(rows.schema.get_field_index("url"), LINKS.field("url"), urls))
with Earlier(path, catalog, "shop", run_id="next") as earlier:
    for n in range(0, count, 100):
        assert f"https://example.org/pictures/{n}.jpg" in earlier
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
