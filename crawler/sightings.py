"""Gathers where a page names pictures, so that each picture counts once, at its largest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from crawler.about import NOTHING_SAID, About
from crawler.addresses import spelling_key

# What kind of address a picture has, from a stand-in until a script runs to the page's own choice.
PLACEHOLDER, SHOWN, ZOOMED, LINKED = range(4)


@dataclass(frozen=True, slots=True)
class Sight:
    """One address at which a picture may be had."""

    url: str
    found_by: str
    alt: str = ""
    about: About = NOTHING_SAID
    rank: tuple[float, ...] = (SHOWN,)
    """The larger, the better: kind, width, density, laziness..."""


@dataclass(slots=True)
class Sightings:
    """A page's pictures: `found`, in order, and which address is `better` than which.

    `found` holds what is passed over, too.
    """

    found: dict[str, Sight] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)
    _spellings: dict[str, str] = field(default_factory=dict)

    def take(self, sights: Iterable[Sight]) -> None:
        """Take one picture, of which `sights` are the addresses; none of them is no picture.

        What several places say about it is put together, the first to say something counts.
        """
        sights = [self._as_first_spelled(sight) for sight in sights]
        if not sights:
            return
        best = max(sights, key=lambda each: each.rank)
        self.found.setdefault(best.url, best)
        for sight in sights:
            # Two elements that each call the other's address the smaller one must not lose both.
            if self._best(best.url) != sight.url:
                self.better.setdefault(sight.url, best.url)
        kept = self.found[self._best(best.url)]
        self.found[kept.url] = dataclasses.replace(
            kept, alt=kept.alt or best.alt, about=kept.about.or_else(best.about)
        )

    def best(self) -> list[Sight]:
        """Return each picture at its best address, in order."""
        return [sight for url, sight in self.found.items() if url not in self.better]

    def _as_first_spelled(self, sight: Sight) -> Sight:
        first = self._spellings.setdefault(spelling_key(sight.url), sight.url)
        return sight if first == sight.url else dataclasses.replace(sight, url=first)

    def _best(self, url: str) -> str:
        while url in self.better:
            url = self.better[url]
        return url
