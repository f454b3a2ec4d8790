"""The studio's pages over a small real catalogue in a real bucket."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from flows.decision_notes import RETRACTED, kind_of
from flows.rows import DecisionRow
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.studio_data import (
    Drawn,
    Wire,
    decide,
    fill,
    make_project,
    serving,
    write_configuration,
)
from tests.waiting import until

OURS = {"x-cratedig-studio": "1"}


@dataclasses.dataclass(frozen=True)
class Studio:
    """A served project with its pictures."""

    workspace: Workspace
    drawings: list[Drawn]
    client: httpx.Client

    def text(self, path: str) -> str:
        """The page at `path`, which must answer 200."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def decisions(self, sha256: str) -> list[DecisionRow]:
        """Every decision in the catalogue about that picture, oldest first."""
        return [row for row in self.workspace.catalog.decisions() if row.sha256 == sha256]

    def grid(self, query: str) -> list[str]:
        """The ids of the pictures that the Images page shows, in its order."""
        answer = self.client.get(f"/api/images?{query}")
        assert answer.status_code == 200, answer.text
        return [each["sha256"] for each in answer.json()["pictures"]]

    def ids(self, *indices: int) -> list[str]:
        """The ids of those drawings."""
        return [self.drawings[index].sha256 for index in indices]


@pytest.fixture(scope="module")
def studio(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """Twelve pictures, of which two are decided; nothing here changes them."""
    root = tmp_path_factory.mktemp("project")
    workspace = make_project(root, store_server)
    drawings = fill(workspace)
    decide(workspace, drawings[1], "vinyl", "yes")
    decide(workspace, drawings[2], "vinyl", "no")
    with serving(root) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield Studio(workspace, drawings, client)


@pytest.fixture(scope="module")
def fresh(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Twelve undecided pictures for tests that decide: each about a picture of its own."""
    root = tmp_path_factory.mktemp("project")
    workspace = make_project(root, store_server)
    drawings = fill(workspace)
    with serving(root) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield Studio(workspace, drawings, client)


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("links seen", "15"),
        ("rejected", "3"),
        ("kept pictures", "11"),
        ("duplicates", "1"),
        ("pre-labelled", "11"),
        ("reviewed", "2"),
        ("in production", "none"),
        ("predictions", "0"),
    ],
)
def test_the_overview_counts_every_stage(studio: Studio, stage: str, count: str) -> None:
    assert re.search(rf'data-stage="{stage}">{count}<', studio.text("/"))


def test_the_overview_links_to_prefects_page_and_not_to_its_api(studio: Studio) -> None:
    assert 'href="http://127.0.0.1:4200"' in studio.text("/")


def test_the_overview_says_what_needs_a_person(studio: Studio) -> None:
    assert "vinyl needs 2 more yes and 2 more no" in studio.text("/")


def test_the_overview_draws_how_the_dataset_grew(studio: Studio) -> None:
    """One picture a minute, so that the curve is a line from the bottom to the top."""
    points = re.search(r'<polyline points="([^"]+)"', studio.text("/"))
    assert points is not None
    heights = [float(each.split(",")[1]) for each in points[1].split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == 1


def test_images_are_newest_first_and_without_duplicates(studio: Studio) -> None:
    assert studio.grid("") == studio.ids(*range(10, -1, -1))


def test_images_are_filtered_by_answer(studio: Studio) -> None:
    assert studio.grid("label=vinyl&answer=yes") == studio.ids(1)


def test_images_are_filtered_by_score_and_sorted_by_it(studio: Studio) -> None:
    assert studio.grid("label=turntable&low=0.7&order=highest") == studio.ids(10)


def test_images_are_filtered_by_source(studio: Studio) -> None:
    assert studio.grid("source=archive") == studio.ids(9, 6, 3, 0)


def test_duplicates_are_shown_when_asked_for(studio: Studio) -> None:
    assert studio.grid("show=duplicates") == studio.ids(11)


@pytest.mark.parametrize("query", ["low=2", "order=sideways", "group=x", "answer=perhaps"])
def test_a_filter_that_means_nothing_is_refused(studio: Studio, query: str) -> None:
    assert studio.client.get(f"/images?{query}").status_code == 422


def test_a_label_that_the_project_does_not_have_is_not_found(studio: Studio) -> None:
    answer = studio.client.get("/label?label=cassette")
    assert answer.status_code == 404
    assert "cassette" in answer.text


def test_a_picture_page_shows_where_the_picture_was_found(studio: Studio) -> None:
    assert "http://127.0.0.1:9/records/4.html" in studio.text(f"/images/{studio.ids(4)[0]}")


def test_a_picture_page_shows_the_evidence_of_consent(studio: Studio) -> None:
    assert "http://127.0.0.1:9/robots.txt" in studio.text(f"/images/{studio.ids(4)[0]}")


def test_a_picture_page_shows_its_decisions_and_who_made_them(studio: Studio) -> None:
    assert "somebody" in studio.text(f"/images/{studio.ids(1)[0]}")


def test_a_picture_page_shows_its_duplicates(studio: Studio) -> None:
    assert studio.ids(11)[0] in studio.text(f"/images/{studio.ids(0)[0]}")


def test_a_duplicates_page_leads_to_the_picture_that_is_kept(studio: Studio) -> None:
    text = studio.text(f"/images/{studio.ids(11)[0]}")
    assert f'href="/images/{studio.ids(0)[0]}"' in text


def test_without_a_model_a_picture_has_no_prediction(studio: Studio) -> None:
    answer = studio.client.get(f"/api/images/{studio.ids(4)[0]}/predictions")
    assert answer.json() == {"version": None, "labels": []}


def test_what_a_site_wrote_is_escaped(studio: Studio) -> None:
    text = studio.text(f"/images/{studio.ids(4)[0]}")
    assert "Record no. 4 &lt;b&gt;&amp; more&lt;/b&gt;" in text
    assert "<b>& more" not in text


def test_a_picture_that_is_not_there_is_not_found(studio: Studio) -> None:
    assert studio.client.get(f"/images/{'0' * 64}").status_code == 404
    assert studio.client.get(f"/pictures/{'0' * 64}/thumbnail.jpg").status_code == 404


def test_a_thumbnail_may_be_kept_for_ever(studio: Studio) -> None:
    answer = studio.client.get(f"/pictures/{studio.ids(3)[0]}/thumbnail.jpg")
    assert answer.content == studio.drawings[3].row.thumbnail
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == "image/jpeg"


def test_an_original_is_served_as_a_jpeg_of_its_full_size_whatever_it_was(studio: Studio) -> None:
    drawn = studio.drawings[3]
    answer = studio.client.get(f"/pictures/{drawn.sha256}/original.jpg")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", (drawn.row.width, drawn.row.height))


def test_rejected_links_are_filtered_by_reason(studio: Studio) -> None:
    text = studio.text("/rejected?reason=x_robots_tag")
    assert "X-Robots-Tag: noai" in text
    assert "12 x 12" not in text


def test_without_a_model_the_model_page_says_what_to_do(studio: Studio) -> None:
    assert "No model yet" in studio.text("/model")


def test_the_queue_gives_the_most_uncertain_first(studio: Studio) -> None:
    queue = studio.client.get("/api/queue?label=turntable&limit=3").json()
    assert [each["sha256"] for each in queue["pictures"]] == studio.ids(6, 7, 5)
    assert queue["total"] == 11


def a_decision(sha256: str, answer: str, name: str) -> dict[str, str]:
    return {"id": f"test-{name}", "sha256": sha256, "label": "vinyl", "answer": answer}


def test_a_decision_is_in_the_catalogue_when_it_is_acknowledged(fresh: Studio) -> None:
    sha256 = fresh.ids(0)[0]
    sent = {"decisions": [a_decision(sha256, "yes", "acknowledged")]}
    answer = fresh.client.post("/api/decisions", json=sent, headers=OURS)
    assert answer.json() == {"saved": ["test-acknowledged"], "refused": []}
    assert [row.answer for row in fresh.decisions(sha256)] == ["yes"]


def test_a_decision_carries_the_score_that_the_reviewer_was_shown(fresh: Studio) -> None:
    sha256 = fresh.ids(4)[0]
    sent = {"decisions": [a_decision(sha256, "yes", "with-score")]}
    fresh.client.post("/api/decisions", json=sent, headers=OURS)
    assert fresh.decisions(sha256)[0].score == pytest.approx(1 - (0.02 + 0.9 * 4 / 12))


def test_a_decision_that_is_sent_again_is_appended_once(fresh: Studio) -> None:
    sha256 = fresh.ids(1)[0]
    sent = {"decisions": [a_decision(sha256, "yes", "sent-again")]}
    for _ in range(2):
        answer = fresh.client.post("/api/decisions", json=sent, headers=OURS)
        assert answer.json()["saved"] == ["test-sent-again"]
    assert len(fresh.decisions(sha256)) == 1


def test_taking_back_appends_and_overwrites_nothing(fresh: Studio) -> None:
    sha256 = fresh.ids(2)[0]
    sent = [a_decision(sha256, "no", "first-no"), a_decision(sha256, "retracted", "then-back")]
    fresh.client.post("/api/decisions", json={"decisions": sent}, headers=OURS)
    rows = fresh.decisions(sha256)
    assert [(row.answer, kind_of(row.note)) for row in rows] == [("no", ""), ("unsure", RETRACTED)]
    queue = fresh.client.get("/api/queue?label=vinyl&limit=100").json()
    assert sha256 in [each["sha256"] for each in queue["pictures"]]


def test_a_decision_about_an_unknown_picture_or_label_is_refused_and_the_rest_saved(
    fresh: Studio,
) -> None:
    sha256 = fresh.ids(3)[0]
    sent = [
        a_decision("0" * 64, "yes", "lost-picture"),
        a_decision(sha256, "yes", "lost-label") | {"label": "cassette"},
        a_decision(sha256, "yes", "good-one"),
    ]
    receipt = fresh.client.post("/api/decisions", json={"decisions": sent}, headers=OURS).json()
    assert receipt["saved"] == ["test-good-one"]
    assert [each["id"] for each in receipt["refused"]] == ["test-lost-picture", "test-lost-label"]


def test_decisions_of_another_process_are_seen(fresh: Studio) -> None:
    fresh.text("/images")
    decide(fresh.workspace, fresh.drawings[5], "turntable", "yes")
    until(lambda: fresh.grid("label=turntable&answer=yes") == fresh.ids(5))


@pytest.fixture(scope="module")
def empty(store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio whose bucket is empty."""
    root = tmp_path_factory.mktemp("project")
    make_project(root, store_server)
    with serving(root) as address:
        yield address


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/images",
        "/duplicates",
        "/sources",
        "/rejected",
        "/label",
        "/train",
        "/model",
        "/predict",
    ],
)
def test_every_page_works_on_an_empty_bucket(path: str, empty: str) -> None:
    assert httpx.get(empty + path, trust_env=False).status_code == 200


def test_without_a_project_the_page_says_so_and_works_once_there_is_one(
    store_server: RunningStore, tmp_path: Path
) -> None:
    with serving(tmp_path) as address:
        missing = httpx.get(address, trust_env=False)
        assert missing.status_code == 503
        assert "project.toml" in missing.text
        prefix = f"studio-{uuid4().hex[:12]}"
        write_configuration(tmp_path, store_server.endpoint, store_server, prefix)
        until(lambda: httpx.get(address, trust_env=False).status_code == 200)


def test_while_the_store_is_down_the_page_says_so_and_recovers_by_itself(
    store_server: RunningStore, tmp_path: Path
) -> None:
    wire = Wire(store_server.endpoint)
    prefix = f"studio-{uuid4().hex[:12]}"
    write_configuration(tmp_path, wire.endpoint, store_server, prefix)
    with serving(tmp_path) as address, httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(f"{address}/images").status_code == 200
        wire.cut()
        until(lambda: client.get(f"{address}/images").status_code == 503)
        assert wire.endpoint in client.get(f"{address}/images").text
        wire.mend()
        until(lambda: client.get(f"{address}/images").status_code == 200)
    wire.cut()


def test_configuration_that_changes_is_read_again(
    store_server: RunningStore, tmp_path: Path
) -> None:
    make_project(tmp_path, store_server)
    with serving(tmp_path) as address:
        assert "cassette" not in httpx.get(f"{address}/label", trust_env=False).text
        path = tmp_path / "project.toml"
        path.write_text(path.read_text() + '\n[[labels]]\nname = "cassette"\n')
        os.utime(path, (1, 1))  # the file system's clock is coarse
        assert "cassette" in httpx.get(f"{address}/label", trust_env=False).text
