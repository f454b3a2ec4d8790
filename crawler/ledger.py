"""What one run has found so far, on this machine: pages to visit, links, and what was refused.

One SQLite file. A page's outcome (its links, the pages it leads to, and that it is done) is one
transaction, so a kill at any instant leaves each page either done or still to visit, and the next
run goes on from there. Everything is keyed by address: doing a page twice changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crawler.consent import Consent
from crawler.pages import About, ImageLink
from crawler.rejections import Reason, Rejected

_SCHEMA = """
CREATE TABLE IF NOT EXISTS links (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, page_url TEXT NOT NULL,
    found_by TEXT NOT NULL, alt TEXT NOT NULL, page_title TEXT NOT NULL,
    about TEXT NOT NULL, consent TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rejected (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, page_url TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, transient INTEGER NOT NULL, sha256 TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS pages (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, depth INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'to visit', final_url TEXT NOT NULL DEFAULT '',
    browser INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS pages_by_state ON pages (state, depth, id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_LINKS_AFTER = "SELECT * FROM links WHERE id > ? ORDER BY id LIMIT 500"
_REJECTED_AFTER = "SELECT * FROM rejected WHERE id > ? ORDER BY id LIMIT 500"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverStats:
    """What discovery did, over all its attempts on one ledger."""

    pages: int
    """Pages read."""
    links: int
    """Different picture addresses."""
    rejected_pages: int
    browser_pages: int
    """Of `pages`, those that were loaded in the browser."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page to visit."""

    url: str
    parent: str
    """The page that led here; its own address for a start page."""
    depth: int
    """Links between it and a start page."""


class Ledger:
    """The record of one run; a context manager. Safe to open from several processes."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            # WAL with NORMAL survives a killed process; only a power cut could lose the last pages,
            # and those are visited again.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # Links

    def add_links(self, links: Iterable[ImageLink]) -> int:
        """Record pictures, atomically; return how many addresses are new.

        What was recorded first stays, except that a page that forbids always counts.
        """
        with self._transaction():
            return sum(self._add_link(link) for link in links)

    def links(self) -> Iterator[ImageLink]:
        """Yield every link in the order of finding, those added meanwhile too."""
        for _, url, page_url, found_by, alt, page_title, about, consent in self._rows(_LINKS_AFTER):
            yield ImageLink(
                url=url,
                page_url=page_url,
                found_by=found_by,
                alt=alt,
                page_title=page_title,
                about=About.from_json(about),
                consent=Consent.from_json(consent),
            )

    def count_links(self) -> int:
        """Return how many different picture addresses are recorded."""
        return self._count("SELECT count(*) FROM links")

    # What was refused

    def add_rejected(self, rejected: Iterable[Rejected]) -> None:
        """Record what discovery itself refused; an address keeps its latest reason."""
        with self._transaction():
            for each in rejected:
                self._add_rejected(each)

    def rejected(self) -> Iterator[Rejected]:
        """Yield everything refused, in the order of refusal."""
        for _, url, page_url, reason, detail, transient, sha256 in self._rows(_REJECTED_AFTER):
            yield Rejected(
                url=url,
                page_url=page_url,
                reason=Reason(reason),
                detail=detail,
                transient=bool(transient),
                sha256=sha256,
            )

    # Pages

    def add_pages(self, pages: Iterable[Page], *, max_pages: int) -> list[Page]:
        """Record pages to visit until there are `max_pages` in all; return those that are new."""
        with self._transaction():
            return self._add_pages(pages, max_pages)

    def pages_to_visit(self) -> list[Page]:
        """Return the pages that are recorded and not done, nearest to the start first."""
        rows = self._database.execute(
            "SELECT url, parent, depth FROM pages WHERE state = 'to visit' ORDER BY depth, id"
        )
        return [Page(url=url, parent=parent, depth=depth) for url, parent, depth in rows]

    def retry_pages(self) -> None:
        """Put pages back that failed in a way that a later try may mend."""
        with self._transaction():
            self._database.execute(
                "UPDATE pages SET state = 'to visit' WHERE state = 'rejected' AND url IN "
                "(SELECT url FROM rejected WHERE transient)"
            )
            self._database.execute(
                "DELETE FROM rejected WHERE url IN (SELECT url FROM pages WHERE state = 'to visit')"
            )

    def finish_page(
        self,
        page: Page,
        *,
        final_url: str,
        links: Iterable[ImageLink],
        leads_to: Iterable[Page],
        max_pages: int,
        browser: bool = False,
    ) -> list[Page]:
        """Record in one step that a page is read and what it held; return the new pages to visit."""
        with self._transaction():
            for link in links:
                self._add_link(link)
            new = self._add_pages(leads_to, max_pages)
            self._database.execute(
                "UPDATE pages SET state = 'read', final_url = ?, browser = ? WHERE url = ?",
                (final_url, browser, page.url),
            )
        return new

    def reject_page(self, rejected: Rejected) -> None:
        """Record in one step that a page is not read, and why."""
        with self._transaction():
            self._add_rejected(rejected)
            self._database.execute(
                "UPDATE pages SET state = 'rejected' WHERE url = ?", (rejected.url,)
            )

    def start_addresses(self) -> list[str]:
        """Return the addresses of the start pages, and where they led by redirects."""
        rows = self._database.execute("SELECT url, final_url FROM pages WHERE depth = 0")
        return [address for row in rows for address in row if address]

    # The end

    def stats(self, seconds: float = 0.0) -> DiscoverStats:
        """Return the counts so far."""
        return DiscoverStats(
            pages=self._count("SELECT count(*) FROM pages WHERE state = 'read'"),
            links=self.count_links(),
            rejected_pages=self._count("SELECT count(*) FROM pages WHERE state = 'rejected'"),
            browser_pages=self._count("SELECT count(*) FROM pages WHERE browser"),
            seconds=seconds,
        )

    @property
    def discovered(self) -> bool:
        """Whether discovery has come to its end on this ledger."""
        return self.final_stats() is not None

    def finish_discovery(self, stats: DiscoverStats) -> None:
        """Record that nothing is left to visit."""
        self._database.execute(
            "INSERT OR REPLACE INTO facts VALUES ('discovered', ?)", (json.dumps(asdict(stats)),)
        )

    def final_stats(self) -> DiscoverStats | None:
        """Return what `finish_discovery` recorded, None while there is work left."""
        row = self._database.execute("SELECT value FROM facts WHERE name = 'discovered'").fetchone()
        return None if row is None else DiscoverStats(**json.loads(row[0]))

    # Within a transaction

    def _add_link(self, link: ImageLink) -> bool:
        row = (link.url, link.page_url, link.found_by, link.alt, link.page_title)
        inserted = self._database.execute(
            "INSERT OR IGNORE INTO links (url, page_url, found_by, alt, page_title, about, consent) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*row, link.about.to_json(), link.consent.to_json()),
        )
        if inserted.rowcount:
            return True
        if not link.consent.allowed:
            self._add_consent(link)
        return False

    def _add_consent(self, link: ImageLink) -> None:
        """Let a further page's refusal count; sorted, so that the order of pages does not matter."""
        query = "SELECT consent FROM links WHERE url = ?"
        (before,) = self._database.execute(query, (link.url,)).fetchone()
        signals = {*Consent.from_json(before).signals, *link.consent.signals}
        united = Consent(allowed=False, signals=tuple(sorted(signals)))
        self._database.execute(
            "UPDATE links SET consent = ? WHERE url = ?", (united.to_json(), link.url)
        )

    def _add_rejected(self, each: Rejected) -> None:
        self._database.execute(
            "INSERT INTO rejected (url, page_url, reason, detail, transient, sha256) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (url) DO UPDATE SET reason = excluded.reason, "
            "detail = excluded.detail, transient = excluded.transient, sha256 = excluded.sha256",
            (each.url, each.page_url, each.reason, each.detail, each.transient, each.sha256),
        )

    def _add_pages(self, pages: Iterable[Page], max_pages: int) -> list[Page]:
        room = max_pages - self._count("SELECT count(*) FROM pages")
        new: list[Page] = []
        for page in pages:
            if len(new) >= room:
                break
            inserted = self._database.execute(
                "INSERT OR IGNORE INTO pages (url, parent, depth) VALUES (?, ?, ?)",
                (page.url, page.parent, page.depth),
            )
            if inserted.rowcount:
                new.append(page)
        return new

    def _count(self, query: str) -> int:
        (count,) = self._database.execute(query).fetchone()
        return int(count)

    def _rows(self, query_after: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows by id, a batch at a time: no read is open while the caller writes."""
        last = 0
        while batch := self._database.execute(query_after, (last,)).fetchall():
            yield from batch
            last = batch[-1][0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
