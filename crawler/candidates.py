"""From links, or from the members of an archive, to pictures that decode.

Decoding runs in processes of its own: a decoder that crashes takes a worker with it, never the run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime

from crawler.archive import Member, SkippedMember
from crawler.consent import UNSAID, Consent
from crawler.decode import Candidate, Examined
from crawler.decode_pool import DECODE_CPU_S, DecodePool
from crawler.fetch import Fetched, Unchanged, Validators, fetch
from crawler.pages import ImageLink
from crawler.politeness import HostLeases
from crawler.refusals import Refused
from crawler.rejections import Rejected
from crawler.settings import CrawlPolicy

__all__ = ["Candidate", "candidates", "examine_members"]

# Bodies that wait for a worker, for each worker: one in work, one at hand.
_WAITING_PER_WORKER = 2

Outcome = Candidate | Unchanged | Rejected


async def candidates(
    links: Iterable[ImageLink],
    *,
    policy: CrawlPolicy,
    allow_private: bool,
    known: Mapping[str, Validators] | None = None,
    leases: HostLeases | None = None,
    workers: int | None = None,
    decode_cpu_s: float = DECODE_CPU_S,
) -> AsyncGenerator[Outcome, None]:
    """Fetch `links` and examine what comes; yield one outcome a link, in no fixed order.

    As `crawler.fetch.fetch`, memory is bounded, and the generator wants closing when left early.
    """
    fetching = fetch(links, policy=policy, allow_private=allow_private, known=known, leases=leases)
    async with (
        DecodePool(workers, policy, cpu_s=decode_cpu_s) as pool,
        aclosing(fetching),
        aclosing(_examined(fetching, pool)) as outcomes,
    ):
        async for outcome in outcomes:
            yield outcome


async def examine_members(
    members: Iterator[Member], archive_name: str, *, policy: CrawlPolicy, workers: int | None = None
) -> AsyncGenerator[Outcome, None]:
    """Examine the members of an archive; yield one outcome a member, in no fixed order.

    A member's address is `archive:NAME/MEMBER`; what the archive could not hand out is Rejected.
    """
    reading = _from_members(members, archive_name)
    async with (
        DecodePool(workers, policy) as pool,
        aclosing(reading),
        aclosing(_examined(reading, pool)) as outcomes,
    ):
        async for outcome in outcomes:
            yield outcome


async def _from_members(
    members: Iterator[Member], archive_name: str
) -> AsyncGenerator[Fetched | Rejected, None]:
    page_url = f"archive:{archive_name}"
    while (member := await asyncio.to_thread(next, members, None)) is not None:
        if isinstance(member, SkippedMember):
            yield Rejected(
                url=f"{page_url}/{member.name}",
                page_url=page_url,
                reason=member.reason,
                detail=member.detail,
            )
            continue
        name, data = member
        yield Fetched(
            link=ImageLink(url=f"{page_url}/{name}", page_url=page_url, found_by="archive"),
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            final_url=f"{page_url}/{name}",
            content_type="",
            etag="",
            last_modified="",
            fetched_at=datetime.now(UTC),
            consent=UNSAID,
        )


async def _examined(
    incoming: AsyncIterator[Fetched | Unchanged | Rejected], pool: DecodePool
) -> AsyncGenerator[Outcome, None]:
    running: set[asyncio.Task[Candidate | Rejected]] = set()
    try:
        async for outcome in incoming:
            if not isinstance(outcome, Fetched):
                yield outcome
                continue
            running.add(asyncio.create_task(_outcome(pool, outcome)))
            while len(running) >= pool.workers * _WAITING_PER_WORKER:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        for finished in asyncio.as_completed(running):
            yield await finished
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _outcome(pool: DecodePool, fetched: Fetched) -> Candidate | Rejected:
    reply = await pool.examine(fetched.data)
    said = _found_at(reply.consent, fetched.final_url)
    if not isinstance(reply.seen, Examined):
        reason, detail = reply.seen
    elif said.allowed:
        return Candidate(
            fetched=dataclasses.replace(fetched, consent=fetched.consent.merge(said)),
            fingerprint=reply.seen.fingerprint,
            format=reply.seen.format,
            thumbnail=reply.seen.thumbnail,
        )
    else:
        refused = Refused.by(said)
        reason, detail = refused.reason, refused.detail
    return Rejected(
        url=fetched.link.url,
        page_url=fetched.link.page_url,
        reason=reason,
        detail=detail,
        sha256=fetched.sha256,
    )


def _found_at(consent: Consent, url: str) -> Consent:
    """Return what the worker read with the address that it does not know."""
    signals = tuple(dataclasses.replace(each, where=url) for each in consent.signals)
    return dataclasses.replace(consent, signals=signals)
