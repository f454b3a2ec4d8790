"""Which pages are visited: each once, and none on and on where a site leads in circles.

A calendar without end, a shop's filters in every combination, a link that nests one folder deeper
each time: such pages look alike, and after a while bring no new picture. Pages are therefore counted
by families (crawler/alike.py), and a family may be visited as often as it has earned: a few times to
begin with, further for each page that brought new pictures or led to one that did, and no more after
many pages in a row that brought nothing. A page that is not let in waits until its families may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from crawler.alike import families
from crawler.ledger import Page

# How much further a page that brought something lets its families go.
_EARNED = 5
# Sitemaps read in one crawl: an index may name fifty thousand.
_MAX_SITEMAPS = 50


@dataclass(slots=True)
class _Family:
    allowance: int
    pending: int = 0
    """Let in, and not done."""
    barren: int = 0
    """Done without a new picture, in a row."""
    waiting: deque[Page] = field(default_factory=deque)

    @property
    def open(self) -> bool:
        return self.pending + self.barren < self.allowance


class Frontier:
    """Decides which pages are let in: `max_pages` in all, those that were done earlier included.

    Sitemaps are no pages: they do not count, and have a number of their own.
    """

    def __init__(self, *, max_pages: int) -> None:
        self._room = max_pages
        self._room_for_sitemaps = _MAX_SITEMAPS
        self._families: dict[str, _Family] = {}
        self.pending = 0
        """Pages let in and not done."""

    def offer(self, page: Page) -> bool:
        """Return whether to visit `page` now; one that is not let in is kept waiting."""
        if (self._room_for_sitemaps if page.kind == "sitemap" else self._room) <= 0:
            return False
        for family in self._families_of(page.url).values():
            if not (page.is_start or page.kind == "sitemap" or family.open):
                family.waiting.append(page)
                return False
        self._let_in(page)
        return True

    def done(self, page: Page, *, brought: int) -> list[Page]:
        """Note that `page`, which was let in, is done and brought so many new pictures.

        Returns pages that were waiting, and are to be visited now.
        """
        self.pending -= 1
        touched = self._families_of(page.url)
        for family in touched.values():
            family.pending -= 1
            family.barren += 1
        if brought:
            # A list brings no pictures itself, and leads to those that do.
            touched |= self._families_of(page.parent)
            for family in touched.values():
                family.barren = 0
                family.allowance += _EARNED
        return [page for family in touched.values() for page in self._released(family)]

    def recall(self, page: Page, *, brought: int) -> None:
        """Count a page that an earlier attempt has done."""
        self._let_in(page)
        self.done(page, brought=brought)

    def _let_in(self, page: Page) -> None:
        for family in self._families_of(page.url).values():
            family.pending += 1
        if page.kind == "sitemap":
            self._room_for_sitemaps -= 1
        else:
            self._room -= 1
        self.pending += 1

    def _released(self, family: _Family) -> Iterator[Page]:
        for _ in range(len(family.waiting)):
            if not family.open:
                break
            page = family.waiting.popleft()
            if self.offer(page):
                yield page

    def _families_of(self, url: str) -> dict[str, _Family]:
        return {
            name: self._families.setdefault(name, _Family(allowance))
            for name, allowance in families(url).items()
        }
