"""Trying the model on pictures: by the page in a real browser, and by the interface."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, expect

from flows.studio.security import MAX_PICTURES_BYTES
from flows.studio.tray import Pace
from infra.demo.pictures import DemoPicture
from tests.flows.judged import Judged
from tests.flows.line import drawings
from tests.flows.studio_data import serving
from tests.flows.test_studio_security import OURS


@pytest.fixture(scope="module")
def address(judged: Judged) -> Iterator[str]:
    """A studio of the trained project."""
    with serving(judged.root) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A client of that studio, with the header that its own pages send."""
    with httpx.Client(base_url=address, headers=OURS, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> DemoPicture:
    """A drawing that nobody has seen, another for every test."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()
    return drawings(5_000 + int(digest[:4], 16), 1)[0]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name for it
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on loopback at which it is served."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever).start()
    try:
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _pictures(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", each) for each in files]


def test_a_training_picture_is_nearest_to_itself_and_known(
    client: httpx.Client, judged: Judged
) -> None:
    sha256, picture = next(iter(judged.pictures.items()))
    answer = client.post("/api/predict", files=_pictures(("it.jpg", picture.jpeg))).json()
    (found,) = answer["pictures"]
    assert answer["version"] == judged.version
    assert (found["sha256"], found["near"][0]["sha256"]) == (sha256, sha256)
    assert found["in_dataset"]


def test_an_answer_is_yes_where_the_score_reaches_the_threshold(
    client: httpx.Client, fresh: DemoPicture
) -> None:
    (found,) = client.post("/api/predict", files=_pictures(("it.jpg", fresh.jpeg))).json()[
        "pictures"
    ]
    assert [each["label"] for each in found["labels"]] == ["turntable", "vinyl"]
    for each in found["labels"]:
        assert each["answer"] == (each["score"] >= each["threshold"])


def test_a_broken_picture_has_a_reason_and_does_not_spoil_its_neighbours(
    client: httpx.Client, fresh: DemoPicture
) -> None:
    files = _pictures(
        ("cut.jpg", fresh.jpeg[: len(fresh.jpeg) // 2]),
        ("whole.jpg", fresh.jpeg),
        ("words.jpg", b"no picture at all"),
    )
    answer = client.post("/api/predict", files=files)
    assert answer.status_code == 200
    cut, whole, words = answer.json()["pictures"]
    assert (cut["reason"], words["reason"]) == ("truncated", "not_an_image")
    assert whole["reason"] is None
    assert whole["labels"]


def test_nothing_is_stored_of_what_is_only_tried(
    client: httpx.Client, judged: Judged, fresh: DemoPicture
) -> None:
    before = judged.workspace.catalog.versions()
    client.post("/api/predict", files=_pictures(("it.jpg", fresh.jpeg)))
    assert judged.workspace.catalog.versions() == before


def test_a_thumbnail_that_comes_back_has_no_metadata(
    client: httpx.Client, fresh: DemoPicture
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody in particular"
    data = io.BytesIO()
    Image.open(io.BytesIO(fresh.jpeg)).save(data, "JPEG", exif=exif)
    answer = client.post(
        "/api/predict?thumbnails=true", files=_pictures(("it.jpg", data.getvalue()))
    )
    thumbnail = base64.b64decode(answer.json()["pictures"][0]["thumbnail"])
    assert b"somebody" in data.getvalue()
    assert not Image.open(io.BytesIO(thumbnail)).getexif()


def test_an_address_is_fetched(
    client: httpx.Client, site: tuple[Path, str], fresh: DemoPicture
) -> None:
    folder, base = site
    (folder / "it.jpg").write_bytes(fresh.jpeg)
    answer = client.post("/api/predict", data={"urls": [f"{base}/it.jpg"]}).json()
    assert answer["pictures"][0]["sha256"] == hashlib.sha256(fresh.jpeg).hexdigest()


def test_what_robots_txt_forbids_is_not_predicted(
    client: httpx.Client, site: tuple[Path, str], fresh: DemoPicture
) -> None:
    folder, base = site
    (folder / "it.jpg").write_bytes(fresh.jpeg)
    (folder / "robots.txt").write_text("User-agent: *\nDisallow: /it.jpg\n")
    answer = client.post("/api/predict", data={"urls": [f"{base}/it.jpg"]}).json()
    assert answer["pictures"][0]["reason"] == "robots_txt"


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "x"])
def test_an_address_that_is_nobodys_business_is_refused(client: httpx.Client, url: str) -> None:
    answer = client.post("/api/predict", data={"urls": [url]})
    assert answer.status_code == 200
    assert answer.json()["pictures"][0]["reason"] == "address_forbidden"


def test_more_pictures_than_the_project_allows_at_once_are_refused(
    client: httpx.Client, fresh: DemoPicture
) -> None:
    files = _pictures(*((f"{number}.jpg", fresh.jpeg) for number in range(5)))
    answer = client.post("/api/predict", files=files)
    assert (answer.status_code, answer.json()["detail"]) == (422, "4 pictures at once, not 5")


def test_a_client_that_is_too_fast_is_told_how_long_to_wait() -> None:
    pace = Pace()
    assert pace.wait_s("one", 10, a_minute=10) == 0
    assert 0 < pace.wait_s("one", 5, a_minute=10) <= 30
    assert pace.wait_s("another", 5, a_minute=10) == 0


def test_a_body_larger_than_pictures_may_be_is_refused_unread(address: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    connection.putrequest("POST", "/api/predict")
    for name, value in {**OURS, "content-length": str(MAX_PICTURES_BYTES + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_heat_map_is_of_what_the_encoder_saw(client: httpx.Client, fresh: DemoPicture) -> None:
    (found,) = client.post("/api/predict", files=_pictures(("it.jpg", fresh.jpeg))).json()[
        "pictures"
    ]
    heat = client.post(
        "/api/predict/heat", json={"sha256": found["sha256"], "label": "vinyl"}
    ).json()
    assert heat["method"] == "occlusion"
    assert {len(row) for row in heat["grid"]} == {len(heat["grid"])}
    assert any(cell for row in heat["grid"] for cell in row)


def test_what_was_never_tried_has_no_heat_map(client: httpx.Client) -> None:
    answer = client.post("/api/predict/heat", json={"sha256": "0" * 64, "label": "vinyl"})
    assert answer.status_code == 404


def test_a_picture_that_is_added_is_stored_embedded_and_decided(
    client: httpx.Client, judged: Judged, fresh: DemoPicture
) -> None:
    sha256 = hashlib.sha256(fresh.jpeg).hexdigest()
    client.post("/api/predict", files=_pictures(("C:\\home\\it.jpg", fresh.jpeg)))
    body = {"sha256": sha256, "answers": {"turntable": "yes", "vinyl": "unsure"}}
    answer = client.post("/api/predict/add", json=body)
    assert answer.json() == {"sha256": sha256, "kept_as": sha256, "decisions": 2}
    catalog = judged.workspace.catalog
    assert catalog.read_image_bytes(sha256) == fresh.jpeg
    row = catalog.image(sha256)
    assert row is not None
    assert row.provenance[0].url == f"archive:studio/{sha256[:12]}-it.jpg"
    assert catalog.latest_decisions()[sha256, "turntable"].answer == "yes"
    encoder = next(
        name.removeprefix("embeddings/")
        for name in catalog.versions()
        if name.startswith("embeddings/")
    )
    assert catalog.embeddings(encoder, [sha256])[0] == [sha256]


def test_a_dropped_picture_is_scored_explained_and_added(
    browser: Browser, address: str, judged: Judged, fresh: DemoPicture
) -> None:
    """The whole way in a browser: drop, look where a score comes from, add with another answer."""
    sha256 = hashlib.sha256(fresh.jpeg).hexdigest()
    page = browser.new_page()
    troubles: list[str] = []
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.goto(f"{address}/predict")
    page.evaluate(
        """(base64) => {
            const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(fresh.jpeg).decode(),
    )
    card = page.locator(f'[data-sha256="{sha256}"]')
    expect(card.get_by_role("heading", name="dropped.jpg")).to_be_visible(timeout=60_000)
    expect(card.locator(".why .tile")).to_have_count(6)
    card.get_by_role("button", name="Where does the score of vinyl come from?").click()
    expect(card.locator('.how[data-done="vinyl"]')).to_contain_text("occlusion", timeout=60_000)
    card.get_by_role("button", name="Add to the dataset").click()
    card.get_by_role("group", name="vinyl").get_by_role("button", name="unsure").click()
    card.get_by_role("button", name="Add with these answers").click()
    expect(card.locator(f'[data-added="{sha256}"]')).to_be_visible(timeout=60_000)
    decided = judged.workspace.catalog.latest_decisions()
    assert decided[sha256, "vinyl"].answer == "unsure"
    assert troubles == []
    page.close()
