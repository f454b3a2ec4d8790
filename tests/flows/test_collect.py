"""Collecting a source, again and again: what is fetched, what is left alone, what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crawler.sources import SourceInvalid
from flows.collect import CollectResult, collect
from flows.crawl_report import read_report
from flows.listing import table_source
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.gallery import Gallery, gallery, png, workspace_at


@pytest.fixture
def site() -> Iterator[Gallery]:
    with gallery() as there:
        there.show("/", range(100))
        yield there


@pytest.fixture
def workspace(site: Gallery, bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket, site.base)


def crawl(workspace: Workspace, source: str = "gallery", **options: bool) -> CollectResult:
    result, repeated = collect(workspace, source, **options)  # type: ignore[arg-type]  # all are flags
    assert not repeated
    return result


def listed(workspace: Workspace, *numbers: int) -> None:
    """Let those pictures be what the project's table lists: a crawl without pages is quick."""
    base = workspace.project.sources[0].start[0]
    lines = (f"{base}{number}.png\n" for number in numbers)
    (workspace.root / "table.csv").write_text("url\n" + "".join(lines))


def test_an_unchanged_site_is_crawled_again_without_fetching_a_body(
    site: Gallery, workspace: Workspace
) -> None:
    """By the server's own log: 100 pictures, each asked for again, none sent again."""
    first = crawl(workspace)
    again = crawl(workspace)
    assert (first.links, first.fetched, again.links, again.fetched) == (100, 100, 100, 0)
    assert (again.kept, again.duplicates) == (first.kept, first.duplicates)
    assert set(site.bodies.values()) == {1}
    assert all(site.asked[f"/{number}.png"] == 2 for number in range(100))


def test_what_failed_for_now_is_tried_again_and_what_failed_for_good_is_not(
    site: Gallery, workspace: Workspace
) -> None:
    """503 may pass, 404 may not; the reason of the one that is left alone is kept."""
    listed(workspace, 1, 2, 3)
    site.statuses = {"/2.png": 503, "/3.png": 404}
    assert crawl(workspace, "table").rejected == {"http_error": 2}
    asked = site.asked["/3.png"]
    site.statuses = {}
    again = crawl(workspace, "table")
    assert again.rejected == {"http_error": 1}
    assert site.bodies["/2.png"] == 1
    assert site.asked["/3.png"] == asked
    (row,) = [each for each in workspace.catalog.links() if each.outcome == "rejected"]
    assert (row.url, row.run_id) == (site.picture_url(3), again.run_id)
    assert "404" in row.detail


def test_what_failed_for_good_is_tried_again_when_asked_to(
    site: Gallery, workspace: Workspace
) -> None:
    listed(workspace, 1, 3)
    site.statuses = {"/3.png": 404}
    crawl(workspace, "table")
    site.statuses = {}
    assert crawl(workspace, "table", retry_all=True).rejected == {}
    assert site.bodies["/3.png"] == 1


def test_what_robots_txt_no_longer_forbids_is_fetched(site: Gallery, workspace: Workspace) -> None:
    """What is judged without asking the picture's server is judged anew each time."""
    listed(workspace, 1, 2)
    site.pages["/robots.txt"] = "User-agent: *\nDisallow: /2.png\n"
    assert crawl(workspace, "table").rejected == {"robots_txt": 1}
    del site.pages["/robots.txt"]
    assert crawl(workspace, "table").rejected == {}
    assert site.bodies["/2.png"] == 1


def test_a_picture_whose_site_comes_to_forbid_it_may_not_be_used_any_longer(
    site: Gallery, workspace: Workspace
) -> None:
    """The image stays on record with the evidence, and is out of what may be used."""
    listed(workspace, 1, 2)
    crawl(workspace, "table")
    assert len(workspace.catalog.permitted()) == 2
    site.headers["/2.png"] = {"X-Robots-Tag": "noai"}
    assert crawl(workspace, "table").rejected == {"x_robots_tag": 1}
    (forbidden,) = workspace.catalog.images("NOT consent_allowed")
    assert "noai" in forbidden.consent
    assert len(workspace.catalog.permitted()) == 1


def test_what_a_page_no_longer_shows_stays(site: Gallery, workspace: Workspace) -> None:
    """An earlier run's picture keeps its row and its bytes, and is not asked for again."""
    site.show("/", [1, 2])
    first = crawl(workspace)
    site.show("/", [1])
    assert crawl(workspace).links == 1
    rows = {row.url: row for row in workspace.catalog.links()}
    gone = rows[site.picture_url(2)]
    assert (gone.outcome, gone.run_id) == ("kept", first.run_id)
    assert gone.sha256 is not None
    assert workspace.catalog.read_image_bytes(gone.sha256) == png(2)
    assert site.asked["/2.png"] == 1


def test_a_table_is_a_source_like_any_other(site: Gallery, workspace: Workspace) -> None:
    """Pictures with their captions, bad rows with their line; columns nobody knows are kept."""
    rows = [f"{site.picture_url(n)},picture {n},{n}" for n in range(3)]
    text = "\n".join(["url,caption,stars", *rows, "nothing,x,y", ""])
    (workspace.root / "table.csv").write_text(text)
    result = crawl(workspace, "table")
    assert (result.links, result.fetched, result.rejected) == (4, 3, {"bad_row": 1})
    about = {place.about for image in workspace.catalog.images() for place in image.provenance}
    assert '{"caption": "picture 2", "columns": {"stars": "2"}}' in about
    (bad,) = [row for row in workspace.catalog.links() if row.outcome == "rejected"]
    assert bad.url == "table.csv:5"


def test_a_table_needs_no_entry_in_the_project_and_may_lie_in_the_bucket(
    site: Gallery, workspace: Workspace
) -> None:
    text = "".join(f"{site.picture_url(number)}\n" for number in range(3)).encode()
    workspace.store.put("lists/pictures.txt", text)
    source = table_source(
        workspace.store.uri("lists/pictures.txt"), name=None, url_column="", allow_private=True
    )
    result, _ = collect(workspace, source)
    assert (result.links, result.fetched, result.rejected) == (3, 3, {})
    assert result.source.startswith("table-pictures-")
    assert not list(workspace.scratch.iterdir())


def test_a_table_that_leads_to_other_people_needs_a_contact(workspace: Workspace) -> None:
    path = workspace.root / "mine.txt"
    path.write_text("https://example.org/1.jpg\n")
    source = table_source(str(path), name="mine", url_column="", allow_private=False)
    with pytest.raises(SourceInvalid, match=r"example\.org anonymously"):
        collect(workspace, source)


def test_the_report_says_what_became_of_the_links_and_what_to_do(
    site: Gallery, workspace: Workspace
) -> None:
    """It lies in the bucket under the run's id, with counts by reason, host and way of finding."""
    listed(workspace, 1, 2, 3, 4)
    site.statuses = {"/3.png": 503, "/4.png": 404}
    result = crawl(workspace, "table")
    assert result.report == f"runs/{result.run_id}/report.md"
    text = read_report(workspace.store)
    host = site.base.removeprefix("http://")
    assert text == read_report(workspace.store, result.run_id)
    for line in (
        f"# table, run {result.run_id}",
        "| kept | 2 |",
        "| http_error | 2 |",
        f"| {host} | 2 | 2 |",
        "| url table | 2 |",
        "- failures that may pass: 1; the next crawl tries them again",
        "- `cratedig label`",
    ):
        assert line in text
