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
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from crawler.alike import without_session
from crawler.consent import UNSAID, Consent
from crawler.pages import NOTHING_SAID, About, ImageLink
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
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, same_as TEXT NOT NULL UNIQUE,
    parent TEXT NOT NULL, depth INTEGER NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'to visit', final_url TEXT NOT NULL DEFAULT '',
    browser INTEGER NOT NULL DEFAULT 0, brought INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS known (url TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pages_by_state ON pages (state, depth, id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_BATCH = 1000
_UNSAID_JSON = UNSAID.to_json()
_NOTHING_JSON = NOTHING_SAID.to_json()
_KNOWN_IN_A_ROW = "known in a row"
_LINKS_AFTER = "SELECT * FROM links WHERE id > ? ORDER BY id LIMIT 500"
_DONE_AFTER = (
    "SELECT id, url, parent, depth, kind, brought FROM pages "
    "WHERE id > ? AND state != 'to visit' ORDER BY id LIMIT 500"
)
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
    unvisited: int = 0
    """Pages that were found and not asked for: beyond the limits, or in a part that leads on and on."""
    ended_by: str = ""
    """The setting that ended it before all was seen: `max_minutes` or `stop_after_known`."""


PageKind = Literal["page", "sitemap", "feed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page to visit."""

    url: str
    parent: str
    """The page that led here; its own address for a start page."""
    depth: int
    """Links between it and a start page; the next page of a list is as near as the one before."""
    kind: PageKind = "page"

    @property
    def is_start(self) -> bool:
        """Whether the source named it."""
        return self.parent == self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came of a page."""

    new_links: int
    """Pictures that no earlier page had."""
    new_pages: tuple[Page, ...]
    """Pages that were not recorded before."""
    known_in_a_row: int
    """Of the pictures found last, in all of the crawl: how many earlier runs had kept."""


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

    def add_many_links(self, links: Iterable[ImageLink]) -> Iterator[int]:
        """Record any number of pictures, a batch at a time; yield how many are new after each batch."""
        rest = iter(links)
        while batch := list(islice(rest, _BATCH)):
            yield self.add_links(batch)

    def add_known(self, urls: Iterable[str]) -> None:
        """Record the addresses of pictures that earlier runs have kept."""
        rest = iter(urls)
        while batch := list(islice(rest, _BATCH)):
            with self._transaction():
                self._database.executemany(
                    "INSERT OR IGNORE INTO known VALUES (?)", ((url,) for url in batch)
                )

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

    def add_pages(self, pages: Iterable[Page], *, at_most: int) -> list[Page]:
        """Record pages until there are `at_most` in all; return those that are new."""
        with self._transaction():
            return self._add_pages(pages, at_most)

    def pages_to_visit(self) -> list[Page]:
        """Return the pages that are recorded and not done, nearest to the start first."""
        rows = self._database.execute(
            "SELECT url, parent, depth, kind FROM pages WHERE state = 'to visit' ORDER BY depth, id"
        )
        return [Page(url=row[0], parent=row[1], depth=row[2], kind=row[3]) for row in rows]

    def pages_done(self) -> Iterator[tuple[Page, int]]:
        """Yield the pages that are done, and how many new pictures each brought."""
        for row in self._rows(_DONE_AFTER):
            yield Page(url=row[1], parent=row[2], depth=row[3], kind=row[4]), row[5]

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
        at_most: int,
        browser: bool = False,
    ) -> Finished:
        """Record in one step that a page is read, what it held, and where it leads.

        No more pages are recorded than `at_most` in all.
        """
        with self._transaction():
            new_links = 0
            known_in_a_row = self._known_in_a_row()
            for link in links:
                if self._add_link(link):
                    new_links += 1
                    known_in_a_row = known_in_a_row + 1 if self._is_known(link.url) else 0
            self._database.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (_KNOWN_IN_A_ROW, str(known_in_a_row))
            )
            new_pages = self._add_pages(leads_to, at_most)
            self._database.execute(
                "UPDATE pages SET state = 'read', final_url = ?, browser = ?, brought = ? "
                "WHERE url = ?",
                (final_url, browser, new_links, page.url),
            )
        return Finished(
            new_links=new_links, new_pages=tuple(new_pages), known_in_a_row=known_in_a_row
        )

    def reject_page(self, rejected: Rejected) -> None:
        """Record in one step that a page is not read, and why."""
        with self._transaction():
            self._add_rejected(rejected)
            self._database.execute(
                "UPDATE pages SET state = 'rejected' WHERE url = ?", (rejected.url,)
            )

    def start_addresses(self) -> list[str]:
        """Return the addresses of the start pages, and where they led by redirects."""
        rows = self._database.execute("SELECT url, final_url FROM pages WHERE parent = url")
        return [address for row in rows for address in row if address]

    # The end

    def stats(self, seconds: float = 0.0, *, ended_by: str = "") -> DiscoverStats:
        """Return the counts so far; sitemaps are no pages."""
        return DiscoverStats(
            pages=self._count(
                "SELECT count(*) FROM pages WHERE state = 'read' AND kind != 'sitemap'"
            ),
            links=self.count_links(),
            rejected_pages=self._count("SELECT count(*) FROM pages WHERE state = 'rejected'"),
            browser_pages=self._count("SELECT count(*) FROM pages WHERE browser"),
            seconds=seconds,
            unvisited=self._count("SELECT count(*) FROM pages WHERE state = 'to visit'"),
            ended_by=ended_by,
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
        # Told apart by identity, as nearly all of a table's million links have neither.
        about = _NOTHING_JSON if link.about is NOTHING_SAID else link.about.to_json()
        consent = _UNSAID_JSON if link.consent is UNSAID else link.consent.to_json()
        row = (link.url, link.page_url, link.found_by, link.alt, link.page_title, about, consent)
        inserted = self._database.execute(
            "INSERT OR IGNORE INTO links (url, page_url, found_by, alt, page_title, about, consent) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
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

    def _add_pages(self, pages: Iterable[Page], at_most: int) -> list[Page]:
        room = at_most - self._count("SELECT count(*) FROM pages")
        new: list[Page] = []
        for page in pages:
            if len(new) >= room:
                break
            inserted = self._database.execute(
                "INSERT OR IGNORE INTO pages (url, same_as, parent, depth, kind) "
                "VALUES (?, ?, ?, ?, ?)",
                (page.url, without_session(page.url), page.parent, page.depth, page.kind),
            )
            if inserted.rowcount:
                new.append(page)
        return new

    def _known_in_a_row(self) -> int:
        query = "SELECT value FROM facts WHERE name = ?"
        row = self._database.execute(query, (_KNOWN_IN_A_ROW,)).fetchone()
        return 0 if row is None else int(row[0])

    def _is_known(self, url: str) -> bool:
        query = "SELECT 1 FROM known WHERE url = ?"
        return self._database.execute(query, (url,)).fetchone() is not None

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
