"""Where outcomes end: they are committed a shard at a time, so that a kill costs what was in flight.

The order of writing is what makes a kill harmless: bytes, then the image's row, then the link's
row. A link without a row is fetched again; an image that comes twice is merged by its sha256.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime

from crawler.consent import Consent, Signal
from crawler.decode import Candidate
from crawler.fetch import Fetched, Unchanged
from crawler.rejections import Reason, Rejected
from flows import metrics, observe
from flows.conditions import chunks, sql_in
from flows.earlier import Earlier
from flows.live import Live
from flows.rows import ImageRow, LinkRow, Provenance
from flows.shards import MAX_SHARD_BYTES, MAX_SHARD_IMAGES, Member, Place, write_shard
from flows.tombstones import keep_out
from flows.workspace import Workspace

_WITHDRAWN = {
    Reason.ROBOTS_TXT: "robots.txt",
    Reason.X_ROBOTS_TAG: "x-robots-tag",
    Reason.META_ROBOTS: "meta-robots",
    Reason.TDMREP: "tdmrep",
    Reason.AIPREF: "content-usage",
    Reason.IPTC: "iptc",
    Reason.C2PA: "c2pa",
}
"""A picture of an earlier run that is refused for one of these may not be used any longer; the kind of
signal (`crawler.consent.Signal`) that is put on record."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommitLimits:
    """When what is in memory is committed: this much is fetched again after a kill, at most."""

    images: int = MAX_SHARD_IMAGES
    bytes: int = MAX_SHARD_BYTES
    links: int = 10_000
    """Rows of links that brought no picture. A commit reads the keys of the whole table, so that a
    crawl of which nothing has changed wants few of them."""
    age_s: float = 60.0
    """A slow site must not keep its pictures waiting until a shard is full."""


class Sink:
    """Takes the outcomes of one source in one run and commits them."""

    def __init__(
        self,
        workspace: Workspace,
        source: str,
        run_id: str,
        earlier: Earlier,
        *,
        live: Live,
        limits: CommitLimits,
    ) -> None:
        self._workspace = workspace
        self._source = source
        self._run_id = run_id
        self._earlier = earlier
        self._live = live
        self._limits = limits
        self._candidates: list[Candidate] = []
        self._held_bytes = 0
        self._links: list[LinkRow] = []
        self._withdrawn: dict[str, Rejected] = {}
        self._committed_at = time.monotonic()

    def settle(self, settled: Iterable[LinkRow | Rejected]) -> None:
        """Take what needs no fetching: what discovery refused, and what earlier runs have settled."""
        for each in settled:
            if isinstance(each, Rejected):
                self._take(each)
            else:
                self._carry(each)
            if self._is_full():
                self._commit()
        self._commit()

    async def drain(
        self,
        outcomes: AsyncGenerator[Candidate | Unchanged | Rejected, None],
        on_taken: Callable[[], None],
    ) -> None:
        """Take every outcome to its end; what is left at the end is committed too."""
        async with aclosing(outcomes):
            async for outcome in outcomes:
                self._take(outcome)
                on_taken()
                if self._is_full():
                    await asyncio.to_thread(self._commit)
        await asyncio.to_thread(self._commit)

    def _is_full(self) -> bool:
        limits = self._limits
        return (
            len(self._candidates) >= limits.images
            or self._held_bytes >= limits.bytes
            or len(self._links) >= limits.links
            or time.monotonic() - self._committed_at >= limits.age_s
        )

    def _take(self, outcome: Candidate | Unchanged | Rejected) -> None:
        if isinstance(outcome, Candidate):
            self._candidates.append(outcome)
            self._held_bytes += len(outcome.fetched.data)
            self._live.kept(outcome.fetched.link.url, len(outcome.fetched.data))
        elif isinstance(outcome, Unchanged):
            self._carry(self._before(outcome.link.url))
            self._live.unchanged(outcome.link.url)
        else:
            self._links.append(self._rejected_row(outcome))
            metrics.count(metrics.REJECTED, source=self._source, reason=outcome.reason.value)
            self._live.rejected(outcome)
            before = self._earlier.row(outcome.url)
            if outcome.reason in _WITHDRAWN and before is not None and before.sha256 is not None:
                self._withdrawn[before.sha256] = outcome

    def _before(self, url: str) -> LinkRow:
        row = self._earlier.row(url)
        if row is None:
            raise KeyError(url)  # only what was kept is asked for by a condition
        return row

    def _carry(self, row: LinkRow) -> None:
        """Let what an earlier run recorded stand for this one too."""
        now = datetime.now(UTC)
        self._links.append(dataclasses.replace(row, run_id=self._run_id, seen_at=now))

    def _commit(self) -> None:
        with observe.shard("collect"):
            self._commit_held()
        metrics.show(metrics.LINKS_WAITING, self._live.waiting, source=self._source)

    def _commit_held(self) -> None:
        """Bytes, then image rows, then link rows: see the head of this module."""
        catalog, store = self._workspace.catalog, self._workspace.store
        self._candidates, self._links = keep_out(store, self._candidates, self._links)
        by_sha256 = {each.fingerprint.sha256: each for each in self._candidates}
        stored = catalog.places(list(by_sha256))
        new = [each for sha256, each in by_sha256.items() if sha256 not in stored]
        self._live.same(len(self._candidates) - len(new))
        if new:
            prefix = f"shards/{self._run_id}/{self._source}"
            stored |= write_shard(store, prefix, [_member(each) for each in new])
        catalog.add_images(
            [self._image_row(each, stored[each.fingerprint.sha256]) for each in self._candidates]
            + self._withdrawn_images()
        )
        catalog.record_links(
            [*self._links, *(self._kept_row(each.fetched) for each in self._candidates)]
        )
        self._count(new=len(new), same=len(self._candidates) - len(new))
        self._candidates, self._links, self._held_bytes = [], [], 0
        self._withdrawn = {}
        self._committed_at = time.monotonic()
        self._live.committed()

    def _count(self, *, new: int, same: int) -> None:
        """Count what is committed now."""
        for outcome, number in (("new", new), ("same", same)):
            metrics.count(metrics.PICTURES, number, source=self._source, outcome=outcome)
        metrics.count(metrics.BYTES, self._held_bytes, source=self._source)

    def _withdrawn_images(self) -> list[ImageRow]:
        """Return the rows of pictures whose site has come to forbid them, marked so."""
        catalog = self._workspace.catalog
        return [
            dataclasses.replace(
                row, consent_allowed=False, consent=_refusal(self._withdrawn[row.sha256]).to_json()
            )
            for chunk in chunks(self._withdrawn)
            for row in catalog.images(sql_in("sha256", chunk), thumbnails=True)
        ]

    def _rejected_row(self, rejected: Rejected) -> LinkRow:
        return LinkRow(
            url=rejected.url,
            source=self._source,
            page_url=rejected.page_url,
            found_by="",
            outcome="rejected",
            reason=rejected.reason.value,
            detail=rejected.detail,
            transient=rejected.transient,
            sha256=rejected.sha256,
            run_id=self._run_id,
            seen_at=datetime.now(UTC),
        )

    def _kept_row(self, fetched: Fetched) -> LinkRow:
        return LinkRow(
            url=fetched.link.url,
            source=self._source,
            page_url=fetched.link.page_url,
            found_by=fetched.link.found_by,
            outcome="kept",
            sha256=fetched.sha256,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            run_id=self._run_id,
            seen_at=fetched.fetched_at,
        )

    def _image_row(self, candidate: Candidate, place: Place) -> ImageRow:
        fetched, seen = candidate.fetched, candidate.fingerprint
        link = fetched.link
        return ImageRow(
            sha256=seen.sha256,
            shard=place.shard,
            offset=place.offset,
            size=place.size,
            format=candidate.format,
            width=seen.width,
            height=seen.height,
            pixel_sha256=seen.pixel_sha256,
            phash=seen.phash,
            dhash=seen.dhash,
            tiny=seen.tiny,
            views=seen.views,
            hashable=seen.hashable,
            thumbnail=candidate.thumbnail,
            provenance=(
                Provenance(
                    source=self._source,
                    url=link.url,
                    page_url=link.page_url,
                    found_by=link.found_by,
                    alt=link.alt,
                    page_title=link.page_title,
                    about=link.about.to_json(),
                    fetched_at=fetched.fetched_at,
                    run_id=self._run_id,
                ),
            ),
            consent_allowed=fetched.consent.allowed,
            consent=fetched.consent.to_json(),
            duplicate_of=None,
            duplicate_how=None,
            added_at=fetched.fetched_at,
        )


def _member(candidate: Candidate) -> Member:
    fetched = candidate.fetched
    return Member(
        sha256=candidate.fingerprint.sha256,
        format=candidate.format,
        data=fetched.data,
        metadata={
            "url": fetched.link.url,
            "page_url": fetched.link.page_url,
            "alt": fetched.link.alt,
            "about": json.loads(fetched.link.about.to_json()),
            "content_type": fetched.content_type,
            "consent": json.loads(fetched.consent.to_json()),
        },
    )


def _refusal(rejected: Rejected) -> Consent:
    signal = Signal(kind=_WITHDRAWN[rejected.reason], value=rejected.detail, where=rejected.url)
    return Consent(allowed=False, signals=(signal,))
