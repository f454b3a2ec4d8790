"""What the first page says needs a person now, once a model is in production."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from flows import queues
from flows.imports import import_pictures
from flows.models import promote_model
from flows.review import Answered, apply_decisions
from flows.studio.overview import LastRuns, Todo, todo
from flows.studio.queues import Queues
from flows.studio.reader import Reader
from flows.studio.view import View
from flows.train import train
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.judged import make_judged
from tests.flows.line import drawings
from tests.flows.studio_data import serving
from tests.flows.test_studio_view import a_picture

TURNED_ROUND = 2


def _said(drifted: dict[str, int], suspects: dict[str, int]) -> tuple[Todo, ...]:
    view = View.of(pictures=[a_picture(0)])
    return todo(view, (), version="v", runs=LastRuns(), drifted=drifted, suspects=suspects)[
        :-1
    ]  # that nothing is pre-labelled


def test_drift_is_told_once_and_begins_where_most_is_left() -> None:
    """The same pictures wait for every label."""
    (found,) = _said({"turntable": 3, "vinyl": 12}, {})
    assert found.said.startswith("12 pictures that came lately are unlike")
    assert found.href == "/label?label=vinyl&order=drift"


def test_doubtful_answers_are_told_for_each_label_that_has_some() -> None:
    (found,) = _said({}, {"turntable": 0, "vinyl": 1})
    assert found.said == "1 answer about vinyl looks wrong."
    assert found.href == "/label?label=vinyl&order=suspects"


def test_nothing_is_told_of_queues_that_are_done() -> None:
    assert _said({"turntable": 0}, {"turntable": 0}) == ()


@pytest.fixture(scope="module")
def doubting(
    store_server: RunningStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, httpx.Client]]:
    """A studio whose model was trained on some wrong answers, and has met pictures unlike others."""
    judged = make_judged(
        tmp_path_factory.mktemp("doubting"), store_server, f"doubting-{uuid.uuid4().hex[:12]}"
    )
    workspace = judged.workspace
    right = [each for each in sorted(judged.pictures) if judged.true(each, "vinyl")]
    wrong = (
        Answered(image=each, label="vinyl", answer="no")
        for each in right[:TURNED_ROUND]
        if each in workspace.catalog.permitted()
    )
    apply_decisions(workspace, wrong, who="careless")
    version = train(workspace).version
    promote_model(workspace, version)
    arrivals = workspace.root / "arrivals"
    arrivals.mkdir()
    for each in drawings(900, 1):
        (arrivals / f"{each.name}.jpg").write_bytes(each.jpeg)
    before = workspace.catalog.permitted()
    import_pictures(workspace, str(arrivals))
    new = sorted(workspace.catalog.permitted() - before)
    for label in ("turntable", "vinyl"):
        picks = [queues.QueuedPick(sha256=each, why="drift", score=0.5) for each in new]
        picks[-1] = picks[-1].model_copy(update={"why": "unsure"})
        queue = queues.Queue(
            label=label, made_at=datetime.now(UTC), version=version, picks=tuple(picks)
        )
        queues.write(workspace.store, queue)
    with (
        serving(workspace.root) as address,
        httpx.Client(base_url=address, trust_env=False, timeout=60) as client,
    ):
        yield workspace, client


def _linked(client: httpx.Client, order: str) -> tuple[int, dict[str, str]]:
    """Return the count that stands before the link to that queue, and what the link asks for."""
    page = client.get("/")
    assert page.status_code == 200
    found = re.search(
        rf'<li><span>([\d,]+) [^<]*</span><a [^>]*href="([^"]*order={order})"', page.text
    )
    assert found is not None, page.text
    assert client.get(found[2].replace("&amp;", "&")).status_code == 200
    asked = parse_qs(urlsplit(found[2].replace("&amp;", "&")).query)
    return int(found[1]), {name: values[0] for name, values in asked.items()}


def _asked(client: httpx.Client, query: dict[str, str]) -> list[str]:
    found = client.get("/api/queue", params={**query, "limit": "60"}).json()
    return [each["sha256"] for each in found["pictures"] if not each["again"]]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["drift", "suspects"])
def test_the_count_is_that_of_the_queue_behind_the_link(
    doubting: tuple[Workspace, httpx.Client], order: str
) -> None:
    count, query = _linked(doubting[1], order)
    assert count == len(_asked(doubting[1], query)) > 0


@pytest.mark.slow
def test_answers_that_were_turned_round_are_among_those_that_look_wrong(
    doubting: tuple[Workspace, httpx.Client],
) -> None:
    workspace, client = doubting
    turned = {each.sha256 for each in workspace.catalog.decisions() if each.who == "careless"}
    assert len(turned) == TURNED_ROUND
    assert turned & set(_asked(client, {"label": "vinyl", "order": "suspects"}))


@pytest.mark.slow
def test_a_queue_that_another_model_made_is_no_news(
    doubting: tuple[Workspace, httpx.Client],
) -> None:
    """The model in production may well have learnt what that one did not know."""
    workspace, _ = doubting
    stored = queues.read(workspace.store, "vinyl")
    assert stored is not None
    assert Queues(Reader(workspace.root)).left("drift")["vinyl"] > 0
    queues.write(workspace.store, stored.model_copy(update={"version": "another"}))
    try:
        assert Queues(Reader(workspace.root)).left("drift")["vinyl"] == 0
    finally:
        queues.write(workspace.store, stored)
