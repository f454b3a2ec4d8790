"""Fetch many pictures at once: `ImageLink` in, original bytes (or the reason there are none) out.

Nothing is fetched that the page, robots.txt or a response header forbids, nothing that the guard
refuses, and what a server may cost is bounded in bytes, time, redirects and attempts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress

from crawler.download import Again, Downloader, Outcome
from crawler.fetched import Fetched, Unchanged, Validators
from crawler.memory import MemoryBudget
from crawler.pages import ImageLink
from crawler.politeness import HostGates, HostLeases
from crawler.rejections import Reason, Rejected
from crawler.schedule import Schedule, Turn
from crawler.settings import CrawlPolicy
from crawler.transport import open_session

__all__ = ["FLEET_CAP", "Fetched", "Unchanged", "Validators", "fetch"]

FLEET_CAP = 128
"""Links in work at once, over all hosts, those included whose outcome waits to be taken."""

_LEASE_PATIENCE_S = 600.0
# A host that another worker visits is asked for again so often while one is patient, within bounds.
_LEASE_POLLS = 20
_MAX_LEASE_POLL_S = 5.0


async def fetch(
    links: Iterable[ImageLink],
    *,
    policy: CrawlPolicy,
    allow_private: bool,
    known: Mapping[str, Validators] | None = None,
    attempts: int = 3,
    backoff_s: float = 0.5,
    leases: HostLeases | None = None,
    lease_patience_s: float = _LEASE_PATIENCE_S,
    memory: MemoryBudget | None = None,
) -> AsyncGenerator[Outcome, None]:
    """Yield one outcome a link, as they come; never raises for what a site does.

    `known` holds validators by link URL, for conditional requests. Transient failures are tried
    `attempts` times, `backoff_s` doubling in between (with jitter), or as long as Retry-After asks,
    up to a minute; all attempts at a link share one deadline, twice `policy.timeout_s` and longer
    for what has come. Hosts take turns, so that a slow one holds up no other; with `leases`, one
    that another process visits waits, and is given up when it is all that is left and has been
    refused for `lease_patience_s`. At most `FLEET_CAP` links are in work, and no more than
    `memory` allows (by default `crawler.memory.MAX_HELD_BYTES`), and one body, is held. Close the generator
    (`contextlib.aclosing`) when stopping early.
    """
    news = asyncio.Event()

    def on_introduced(host: str) -> None:
        schedule.look_at(host)
        news.set()

    gates = HostGates(
        concurrency_per_host=policy.concurrency_per_host,
        delay_s=policy.delay_s,
        on_introduced=on_introduced,
    )
    memory = memory or MemoryBudget()
    schedule = Schedule(links, gates)
    running: dict[asyncio.Task[Outcome | Again], Turn] = {}
    ended: deque[asyncio.Task[Outcome | Again]] = deque()

    def on_end(task: asyncio.Task[Outcome | Again]) -> None:
        ended.append(task)
        news.set()

    async with open_session(
        user_agent=policy.user_agent,
        allow_private=allow_private,
        timeout_s=policy.timeout_s,
        connections_per_host=policy.concurrency_per_host,
    ) as session:
        downloader = Downloader(
            session=session,
            policy=policy,
            allow_private=allow_private,
            known=known or {},
            attempts=attempts,
            backoff_s=backoff_s,
            gates=gates,
            memory=memory,
            leases=leases,
            lease_poll_s=min(_MAX_LEASE_POLL_S, lease_patience_s / _LEASE_POLLS),
        )
        try:
            while True:
                while len(running) < FLEET_CAP and memory.has_room_for(len(running) - len(ended)):
                    if (turn := schedule.next()) is None:
                        break
                    gates.claim(turn.host)
                    task = asyncio.create_task(downloader.take(turn))
                    running[task] = turn
                    task.add_done_callback(on_end)
                if ended:
                    task = ended.popleft()
                    turn = running.pop(task)
                    gates.release(turn.host)
                    outcome = _settled(schedule, turn, task.result())
                    if outcome is not None:
                        # The rest stays in the window until it is asked for.
                        yield outcome
                    if isinstance(outcome, Fetched):
                        memory.handed_out(len(outcome.data))
                    continue
                if not running:
                    given_up = schedule.given_up(lease_patience_s)
                    for turn in given_up:
                        yield _held_elsewhere(turn)
                    if given_up:
                        continue
                    if schedule.is_empty():
                        return
                news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(schedule.opens_in()):
                        await news.wait()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _settled(schedule: Schedule, turn: Turn, result: Outcome | Again) -> Outcome | None:
    """Return the outcome of a turn that has one; have the schedule take it back otherwise."""
    if not isinstance(result, Again):
        schedule.ended(turn)
        return result
    if result.held_elsewhere:
        schedule.refused(turn, result.after_s)
    else:
        schedule.again(turn, result.after_s)
    return None


def _held_elsewhere(turn: Turn) -> Rejected:
    return Rejected(
        url=turn.link.url,
        page_url=turn.link.page_url,
        reason=Reason.CONNECTION_FAILED,
        detail=f"{turn.host} is being visited by another worker",
        transient=True,
    )
