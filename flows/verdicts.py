"""Duplicate groups by hand: take a picture out of its group, or say that some are one picture.

What was said lies in `tables/verdicts.lance`, append-only, and is respected by every later search
for duplicates (`flows.dedupe.mark_duplicates`): a machine's mark never stands against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from crawler.dedupe import DuplicateGroup, group_duplicates
from crawler.verdicts import Verdict
from flows.catalog import Catalog
from flows.errors import Permanent
from flows.rows import VerdictRow


class NoSuchGroup(Permanent):
    """There is nothing to part, or nothing to merge."""


def take_out(catalog: Catalog, sha256: str, *, who: str) -> int:
    """Part a picture from all that it is in a duplicate group with; return how many those are.

    When it is the kept one that goes, the best of the others is kept in its stead. Raises NoSuchGroup
    for a picture that is in no group.
    """
    earlier = catalog.duplicates()
    others = _groups_of([sha256], earlier) - {sha256}
    if not others:
        raise NoSuchGroup(
            f"picture {sha256} is in no duplicate group: there is nothing to part it from"
        )
    _say(catalog, [(sha256, each, False) for each in sorted(others)], earlier, who=who)
    return len(others)


def merge(catalog: Catalog, sha256s: Iterable[str], *, who: str) -> None:
    """Say that these are one picture: they, and all that are duplicates of them, become one group.

    Raises NoSuchGroup for fewer than two, or ids that the catalogue does not have.
    """
    named = sorted(set(sha256s))
    if len(named) < 2:
        raise NoSuchGroup("it takes two pictures or more to be one")
    known = {each.sha256 for each in catalog.fingerprints(named)}
    if unknown := [each for each in named if each not in known]:
        raise NoSuchGroup(f"the catalogue has no picture {unknown[0]}")
    earlier = catalog.duplicates()
    # What is said of a duplicate holds for the one that is kept: whole groups are joined.
    first, *others = sorted({earlier.get(each, each) for each in named})
    said_now = [(first, each, True) for each in others]
    said_now += [(named[0], each, True) for each in named[1:]]
    # Else an earlier word on two of their members would hold the groups apart, or part one of them.
    members = _groups_of(named, earlier)
    latest = {(row.sha256, row.other): row.same for row in catalog.verdicts()}
    said_now += [
        (*pair, True) for pair, same in latest.items() if not same and members.issuperset(pair)
    ]
    _say(catalog, said_now, earlier, who=who)


def said(rows: Sequence[VerdictRow]) -> list[Verdict]:
    """Return what `group_duplicates` respects, in the same order."""
    return [Verdict(first=row.sha256, second=row.other, same=row.same) for row in rows]


def marks_of(groups: Sequence[DuplicateGroup]) -> dict[str, tuple[str, str]]:
    """Return what `Catalog.set_duplicates` marks: duplicate -> (kept, how it was found)."""
    return {
        duplicate.sha256: (group.kept, duplicate.how)
        for group in groups
        for duplicate in group.duplicates
    }


def _say(
    catalog: Catalog, pairs: Sequence[tuple[str, str, bool]], earlier: dict[str, str], *, who: str
) -> None:
    """Record verdicts, durably first, then group anew whatever is grouped with those named."""
    at = datetime.now(UTC)
    catalog.add_verdicts(
        VerdictRow(
            sha256=min(first, second),
            other=max(first, second),
            same=same,
            who=who,
            # A microsecond apart: their order survives in the table.
            at=at + timedelta(microseconds=number),
        )
        for number, (first, second, same) in enumerate(pairs)
    )
    concerned = _groups_of(
        [each for first, second, _ in pairs for each in (first, second)], earlier
    )
    groups = group_duplicates(
        catalog.fingerprints(concerned),
        thumbnails=catalog.thumbnails,
        earlier={each: kept for each, kept in earlier.items() if each in concerned},
        verdicts=said(catalog.verdicts()),
    )
    catalog.set_duplicates(marks_of(groups), among=concerned)


def _groups_of(sha256s: Iterable[str], earlier: dict[str, str]) -> set[str]:
    """Return those pictures, and all that are in a group with one of them."""
    named = set(sha256s)
    heads = {earlier.get(each, each) for each in named}
    return named | heads | {each for each, kept in earlier.items() if kept in heads}
