"""Which pictures are asked about, how far answers agree, and what stands when they do not."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from flows import queues as stored_queues
from flows.decision_notes import AGAIN, RETRACTED, SETTLED, kind_of
from flows.objects import ObjectStore
from flows.rows import Answer, DecisionRow
from flows.studio.agreement import disputed, measure
from flows.studio.desk import Desk, NewDecision
from flows.studio.page_leases import Held, PageLeases
from flows.studio.queues import QueuePage, Queues
from flows.studio.reader import Reader
from flows.studio.view import View
from tests.conftest import RunningStore
from tests.flows.studio_data import START, Drawn, Wire, decide, fill, make_project
from tests.flows.test_studio_view import NOW, a_picture, an_id


def said(who: str, answer: Answer, second: int, note: str = "") -> DecisionRow:
    return DecisionRow(
        sha256=an_id(0),
        label="vinyl",
        answer=answer,
        who=who,
        at=NOW + timedelta(seconds=second),
        score=0.8,
        note=note,
    )


def a_view(*rows: DecisionRow) -> View:
    return View.of(pictures=[a_picture(0)], decisions=rows)


def test_a_blind_answer_measures_and_does_not_stand() -> None:
    view = a_view(said("me", "yes", 0), said("me", "no", 1, AGAIN), said("you", "yes", 2, AGAIN))
    assert view.answer(an_id(0), "vinyl") == "yes"
    found = measure(view.decisions, "vinyl")
    assert (found.with_oneself.agreed, found.with_oneself.pairs) == (0, 1)
    assert (found.with_others.agreed, found.with_others.pairs) == (1, 1)
    assert (found.with_prelabels.agreed, found.with_prelabels.pairs) == (1, 2)


def test_a_blind_answer_that_differs_is_disputed_until_it_is_settled() -> None:
    rows = [said("me", "yes", 0), said("me", "no", 1, AGAIN)]
    assert list(disputed(a_view(*rows).decisions, "vinyl")) == [0]
    settled = a_view(*rows, said("me", "no", 2, SETTLED))
    assert list(disputed(settled.decisions, "vinyl")) == []
    assert settled.answer(an_id(0), "vinyl") == "no"


def test_two_people_who_differ_are_disputed_and_one_who_changed_his_mind_is_not() -> None:
    both = a_view(said("me", "yes", 0), said("you", "no", 1))
    assert list(disputed(both.decisions, "vinyl")) == [0]
    one = a_view(said("me", "yes", 0), said("me", "no", 1))
    assert list(disputed(one.decisions, "vinyl")) == []
    back = a_view(said("me", "yes", 0), said("you", "no", 1), said("you", "unsure", 2, RETRACTED))
    assert list(disputed(back.decisions, "vinyl")) == []


@dataclasses.dataclass
class Room:
    """A filled project with its queues and desk."""

    root: Path
    drawings: list[Drawn]
    queues: Queues
    desk: Desk

    def asked(self, order: str, holder: str = "tab-1", limit: int = 5) -> list[int]:
        """The drawings on the first page of a queue."""
        ids = [each.sha256 for each in self.drawings]
        page = self.queues.page(
            "vinyl",
            order,  # type: ignore[arg-type]  # a name of an order
            after=None,
            limit=limit,
            holder=holder,
        )
        return [ids.index(each.picture.sha256) for each in page.asked]


def a_room(store: RunningStore, root: Path, *, again: float = 0.0) -> Room:
    workspace = make_project(root, store)
    text = (root / "project.toml").read_text().replace("again = 0.0", f"again = {again}")
    (root / "project.toml").write_text(text)
    drawings = fill(workspace)
    reader = Reader(root)
    return Room(root, drawings, Queues(reader), Desk(reader=reader, reviewer="me"))


def test_two_tabs_are_not_asked_the_same(store_server: RunningStore, tmp_path: Path) -> None:
    room = a_room(store_server, tmp_path)
    first, second = room.asked("highest", "tab-1"), room.asked("highest", "tab-2")
    assert set(first) & set(second) == set()
    assert room.asked("highest", "tab-1") == first


def test_decided_pictures_come_round_again_and_the_answer_to_them_does_not_overwrite(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path, again=0.5)
    decide(room.desk.reader.workspace(), room.drawings[3], "vinyl", "yes")
    page = room.queues.page("vinyl", "uncertain", after=None, limit=5, holder="tab-1")
    again = [each for each in page.asked if each.again]
    assert [each.picture.sha256 for each in again] == [room.drawings[3].sha256]
    answer = NewDecision(
        id="blind-0001",
        sha256=room.drawings[3].sha256,
        label="vinyl",
        answer="no",
        given="again",
    )
    room.desk.hand_in([answer])
    catalog = room.desk.reader.workspace().catalog
    assert catalog.latest_decisions()[room.drawings[3].sha256, "vinyl"].answer == "yes"
    assert [kind_of(row.note) for row in catalog.decisions()] == ["", AGAIN]
    assert room.asked("disputed") == [3]


def test_the_queue_that_teaches_starts_with_what_the_night_has_chosen(
    store_server: RunningStore, tmp_path: Path
) -> None:
    """And leaves out what has been decided since."""
    room = a_room(store_server, tmp_path)
    picks = tuple(
        stored_queues.QueuedPick(sha256=room.drawings[number].sha256, why="unsure", score=0.5)
        for number in (9, 2, 7)
    )
    made_at = START.now(START.tzinfo)
    queue = stored_queues.Queue(label="vinyl", made_at=made_at, version=None, picks=picks)
    workspace = room.desk.reader.workspace()
    stored_queues.write(workspace.store, queue)
    decide(workspace, room.drawings[2], "vinyl", "no")
    assert room.asked("teaching", limit=2) == [9, 7]
    assert len(room.asked("teaching", limit=99)) == 10


@pytest.mark.parametrize(
    ("decided", "likeliest"),
    [([], {0, 1, 2}), ([6], {5, 7, 8})],
    ids=["before any answer", "after one"],
)
def test_without_a_nights_queue_what_teaches_is_chosen_by_the_embeddings(
    store_server: RunningStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decided: list[int],
    likeliest: set[int],
) -> None:
    """Half of what may be chosen are the highest scores, or what is in doubt once one is decided."""
    monkeypatch.setattr("flows.studio.queues._CANDIDATES", 6)
    monkeypatch.setattr("flows.studio.queues._PATIENCE_S", 60.0)
    room = a_room(store_server, tmp_path)
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [each.sha256 for each in room.drawings]
    workspace = room.desk.reader.workspace()
    workspace.catalog.add_embeddings("e", ids, vectors)
    for number in decided:
        decide(workspace, room.drawings[number], "vinyl", "yes")
    chosen = room.asked("teaching", limit=6)
    assert likeliest < set(chosen)
    in_doubt = [row for row in (6, 7, 5, 8, 4, 9, 3, 10, 2, 1, 0) if row not in decided]
    assert set(chosen) != set(in_doubt[:6])
    waiting = set(range(11)) - set(decided)
    assert set(room.asked("teaching", limit=99)) == waiting


def test_without_a_model_nothing_is_wrong_by_it(store_server: RunningStore, tmp_path: Path) -> None:
    room = a_room(store_server, tmp_path)
    decide(room.desk.reader.workspace(), room.drawings[3], "vinyl", "yes")
    assert room.asked("suspects") + room.asked("false-positives") == []


def test_that_nothing_waits_is_said_only_after_the_store_was_asked(
    store_server: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.studio.reader.CHECK_EVERY_S", 0.0)  # else a view is new for a second
    room = a_room(store_server, tmp_path)
    assert room.asked("disputed") == []
    for answer in ("yes", "no"):
        row = dataclasses.replace(said(answer, answer, 0), sha256=room.drawings[3].sha256)
        room.desk.reader.workspace().catalog.add_decisions([row])
    assert room.asked("disputed") == [3]


def another_studio(room: Room) -> Room:
    """A second studio, as another process on the same project has it."""
    reader = Reader(room.root)
    return dataclasses.replace(
        room, queues=Queues(reader), desk=Desk(reader=reader, reviewer="you")
    )


def a_page(room: Room, holder: str, *, limit: int = 5, who: str = "me") -> QueuePage:
    return room.queues.page("vinyl", "highest", after=None, limit=limit, holder=holder, who=who)


def test_two_studios_on_one_bucket_do_not_ask_the_same(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path)
    first, second = room.asked("highest", "tab-1"), another_studio(room).asked("highest", "tab-2")
    assert set(first) & set(second) == set()


def test_of_studios_that_deal_at_once_each_gets_other_pictures(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path)
    rooms = [room, *(another_studio(room) for _ in range(3))]
    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(
            lambda each: each[1].asked("highest", f"tab-{each[0]}", 2), enumerate(rooms)
        )
    numbers = [number for page in asked for number in page]
    assert len(numbers) == 8
    assert len(set(numbers)) == 8


def test_what_others_hold_is_counted_and_their_names_told(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path)
    a_page(room, "tab-1", limit=99, who="Anna")
    page = a_page(another_studio(room), "tab-2")
    assert (page.asked, page.held, page.holders) == ((), 11, ("Anna",))


def test_a_tab_that_is_closed_gives_its_pictures_back(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path)
    asked = room.asked("highest", "tab-1")
    room.queues.release("vinyl", "tab-1")
    assert another_studio(room).asked("highest", "tab-2") == asked


def test_a_tab_that_takes_over_is_given_what_others_held(
    store_server: RunningStore, tmp_path: Path
) -> None:
    room = a_room(store_server, tmp_path)
    asked = room.asked("highest", "tab-1", 99)
    other = another_studio(room)
    assert other.asked("highest", "tab-2") == []
    other.queues.claim("vinyl", "tab-2")
    assert other.asked("highest", "tab-2", 99) == asked


def test_a_lease_runs_out(object_store: ObjectStore) -> None:
    def take(held: Held) -> tuple[Held, list[str]]:
        return held, [an_id(0)]

    leases = PageLeases(lease_s=0.0)
    for tab in ("tab-1", "tab-2"):
        assert leases.deal(object_store, "vinyl", tab, take, who="me").others == {}


def test_the_next_page_leaves_out_what_the_tab_has_and_a_reload_shows_it_again(
    store_server: RunningStore, tmp_path: Path
) -> None:
    """Also where the order is chosen anew in between, as that of what teaches most is."""
    room = a_room(store_server, tmp_path)
    first = room.asked("teaching", "tab-1", 4)
    after = room.drawings[first[-1]].sha256
    page = room.queues.page("vinyl", "teaching", after=after, limit=4, holder="tab-1")
    assert {each.picture.sha256 for each in page.asked} & {
        room.drawings[number].sha256 for number in first
    } == set()
    assert room.asked("teaching", "tab-1", 4) == first


def test_while_the_store_does_not_answer_tabs_of_one_studio_are_still_not_asked_the_same(
    store_server: RunningStore, tmp_path: Path
) -> None:
    wire = Wire(store_server.endpoint)
    room = a_room(dataclasses.replace(store_server, endpoint=wire.endpoint), tmp_path)
    first = room.asked("highest", "tab-1")
    wire.cut()
    assert set(room.asked("highest", "tab-2")) & set(first) == set()
