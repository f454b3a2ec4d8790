"""Hosts take turns; what waits for one host, or for another worker, holds up nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, aclosing, nullcontext

from aiohttp import web

from crawler.fetch import Fetched, fetch
from crawler.memory import MemoryBudget
from crawler.pages import ImageLink
from crawler.politeness import HostGates
from crawler.rejections import Reason, Rejected
from crawler.schedule import LOOK_AHEAD, Schedule, Turn
from tests.crawler.picture_server import FAST, JPEG, Answers, fetch_all, serving, status


def link(host: str, at: int = 0) -> ImageLink:
    return ImageLink(url=f"http://{host}/{at}.jpg", page_url="", found_by="test")


def handed_out(schedule: Schedule, gates: HostGates) -> list[Turn]:
    """Return all turns that may start now, and start them."""
    turns = []
    while (turn := schedule.next()) is not None:
        gates.claim(turn.host)
        turns.append(turn)
    return turns


def test_a_host_that_is_new_is_asked_one_thing_and_others_go_on() -> None:
    gates = HostGates(concurrency_per_host=4, delay_s=0)
    links = [link("a", at) for at in range(9)] + [link("b", at) for at in range(9)]
    turns = handed_out(Schedule(links, gates), gates)
    assert [turn.link.url for turn in turns] == ["http://a/0.jpg", "http://b/0.jpg"]


def test_a_host_that_answered_gets_its_links_in_order() -> None:
    gates = HostGates(concurrency_per_host=1, delay_s=0)
    schedule = Schedule([link("a", at) for at in range(5)], gates)
    seen = []
    while (turn := schedule.next()) is not None:
        gates.claim(turn.host)
        seen.append(turn.link.url)
        gates.release(turn.host)
        schedule.ended(turn)
    assert seen == [link("a", at).url for at in range(5)]


def test_no_more_is_read_ahead_than_allowed() -> None:
    gates = HostGates(concurrency_per_host=1, delay_s=0)
    taken = 0

    def endless() -> Iterator[ImageLink]:
        nonlocal taken
        while True:
            taken += 1
            yield link("a", taken)

    handed_out(Schedule(endless(), gates), gates)
    assert taken == LOOK_AHEAD + 1


def test_no_more_is_read_ahead_than_needed() -> None:
    gates = HostGates(concurrency_per_host=1, delay_s=0)
    source = iter([link("a"), link("b"), link("c")])
    assert Schedule(source, gates).next() is not None
    assert len(list(source)) == 2


def test_a_delay_of_one_host_does_not_hold_up_another() -> None:
    gates = HostGates(concurrency_per_host=4, delay_s=0)
    gates.delay("a", 3600)
    schedule = Schedule([link("a"), link("b")], gates)
    assert [turn.host for turn in handed_out(schedule, gates)] == ["b"]
    wait_s = schedule.opens_in()
    assert wait_s is not None
    assert 3500 < wait_s <= 3600


def test_what_is_tried_again_waits_and_keeps_its_place() -> None:
    gates = HostGates(concurrency_per_host=1, delay_s=0)
    schedule = Schedule([link("a", 1), link("a", 2)], gates)
    (first,) = handed_out(schedule, gates)
    gates.release("a")
    schedule.again(first, 0.0)
    assert schedule.next() is first


def test_a_slow_answer_delays_the_next_request_and_a_fast_one_less() -> None:
    """As AutoThrottle: the mean of the old delay and the new wish, and never below the wish."""
    gates = HostGates(concurrency_per_host=2, delay_s=0)

    def delay_after(seconds: float, *, well: bool = True) -> float:
        gates.answered("a", seconds, well=well)
        gates.claim("a")
        gates.release("a")
        return round(gates.opens_in("a") or 0.0)

    assert delay_after(40) == 20
    fresh = HostGates(concurrency_per_host=2, delay_s=0)
    for seconds, well in ((40, True), (4, True), (1, False)):
        fresh.answered("a", seconds, well=well)
    fresh.claim("a")
    fresh.release("a")
    # 20, then (20 + 2) / 2; the error, however quick, speeds nothing up.
    assert round(fresh.opens_in("a") or 0.0) == 11


def test_the_crawl_delay_holds_after_robots_txt_too() -> None:
    """robots.txt is a request like another: at least the delay lies between any two."""
    times: list[float] = []

    async def note(_: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        return web.Response(body=JPEG)

    async def robots(_: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        return web.Response(text="User-agent: *\nCrawl-delay: 0.8")

    async def scenario() -> None:
        answers: Answers = {"/robots.txt": robots, "/a.jpg": note, "/b.jpg": note, "/c.jpg": note}
        async with serving(answers) as server:
            outcomes = await fetch_all([server.link(f"/{name}.jpg") for name in "abc"])
            assert [type(each) for each in outcomes] == [Fetched] * 3

    asyncio.run(scenario())
    gaps = [later - before for before, later in itertools.pairwise(times)]
    assert len(gaps) == 3
    # What is measured is when they arrive, and on a busy machine one arrives late.
    assert min(gaps) > 0.4


def test_requests_that_a_busy_process_kept_waiting_do_not_start_together() -> None:
    """Their turns have all come when it gets round to them; the delay lies between them still."""

    async def scenario() -> list[float]:
        gates, times = HostGates(concurrency_per_host=4, delay_s=0.1), []

        async def ask() -> None:
            async with gates.slot("a"):
                times.append(time.monotonic())

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - this is what keeps the process busy
        await asyncio.gather(*asking)
        return times

    times = asyncio.run(scenario())
    assert min(later - before for before, later in itertools.pairwise(times)) >= 0.1


# --- more workers than one


class Leases:
    """Hosts held in memory, as `flows` holds them in the bucket."""

    def __init__(self, owners: dict[str, str], owner: str) -> None:
        self._owners = owners
        self._owner = owner
        self.asked: list[str] = []
        self.asked_again = asyncio.Event()

    async def hold(self, host: str) -> bool:
        """Return whether the host is ours, now or from now on."""
        if host in self.asked:
            self.asked_again.set()
        self.asked.append(host)
        return self._owners.setdefault(host, self._owner) == self._owner

    def visit(self, host: str) -> AbstractContextManager[None]:
        """Be told of a request that is under way."""
        return nullcontext()

    def rest(self, host: str, seconds: float) -> None:
        """Be told what the host asks of whoever comes next."""


def test_a_host_is_asked_only_while_it_is_held() -> None:
    """Robots.txt and tdmrep.json included; the links of a host that another holds wait, and are given up at last."""

    async def scenario() -> tuple[list[object], int, int]:
        async with serving({"/a.jpg": JPEG}) as ours, serving({"/a.jpg": JPEG}) as theirs:
            owners = {theirs.base.removeprefix("http://"): "another"}
            outcomes = fetch(
                [each.link(f"/a.jpg?{at}") for at in range(5) for each in (theirs, ours)],
                policy=FAST,
                allow_private=True,
                leases=Leases(owners, "us"),
                lease_patience_s=0.2,
            )
            async with aclosing(outcomes):
                found: list[object] = [each async for each in outcomes]
            return found, len(ours.requests), len(theirs.requests)

    found, ours, theirs = asyncio.run(scenario())
    assert (ours, theirs) == (2 + 5, 0)
    assert [type(each) for each in found] == [Fetched] * 5 + [Rejected] * 5
    for each in found[5:]:
        assert isinstance(each, Rejected)
        assert (each.reason, each.transient) == (Reason.CONNECTION_FAILED, True)
        assert "is being visited by another worker" in each.detail


def test_a_host_that_is_let_go_is_visited_after_all() -> None:
    async def scenario() -> list[object]:
        async with serving({"/a.jpg": JPEG}) as server:
            owners = {server.base.removeprefix("http://"): "another"}
            leases = Leases(owners, "us")
            outcomes = fetch(
                [server.link("/a.jpg")],
                policy=FAST,
                allow_private=True,
                leases=leases,
                lease_patience_s=10,
            )

            async def let_go() -> None:
                await leases.asked_again.wait()
                owners.clear()

            letting_go = asyncio.create_task(let_go())
            async with aclosing(outcomes):
                found: list[object] = [each async for each in outcomes]
            await letting_go
            return found

    assert [type(each) for each in asyncio.run(scenario())] == [Fetched]


def test_a_host_is_held_before_every_request() -> None:
    """Twice for each: before its robots.txt, and when its turn has come after a wait."""

    async def scenario() -> list[str]:
        async with serving(
            {"/a.jpg": status(302, {"Location": "/b.jpg"}), "/b.jpg": JPEG}
        ) as server:
            leases = Leases({}, "us")
            outcomes = fetch(
                [server.link("/a.jpg")], policy=FAST, allow_private=True, leases=leases
            )
            async with aclosing(outcomes):
                assert [type(each) async for each in outcomes] == [Fetched]
            return leases.asked

    assert len(asyncio.run(scenario())) == 4


# --- memory


def test_reading_stops_at_the_limit_except_for_the_oldest() -> None:
    """Were it to stop too, nothing could ever end."""

    async def scenario() -> None:
        memory = MemoryBudget(100)
        first, second = object(), object()
        assert memory.read(first, 60)
        assert not memory.read(second, 60)
        assert memory.read(first, 60)
        waiting = asyncio.create_task(memory.room(second))
        await asyncio.sleep(0)
        assert not waiting.done()
        memory.kept(first)  # still in memory, but now the second is the oldest
        await waiting
        memory.abandoned(second)
        memory.handed_out(120)
        assert memory.has_room_for(0)

    asyncio.run(scenario())


def test_bodies_larger_than_memory_allows_all_come() -> None:
    """More is asked for at once than may be held: they wait for one another, and none is lost."""
    policy = dataclasses.replace(FAST, concurrency_per_host=40)

    async def scenario() -> list[object]:
        body = bytes(4_000_000)
        async with serving({"/a.jpg": body}) as server:
            outcomes = fetch(
                (server.link(f"/a.jpg?{at}") for at in range(40)),
                policy=policy,
                allow_private=True,
                memory=MemoryBudget(10_000_000),
            )
            async with aclosing(outcomes):
                return [type(each) async for each in outcomes]

    assert asyncio.run(scenario()) == [Fetched] * 40
