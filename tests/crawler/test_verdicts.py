"""What people said about pairs stands above what is computed, whatever comes later."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from crawler.decode import Fingerprint
from crawler.dedupe import DuplicateGroup, group_duplicates
from crawler.verdicts import Sides, Verdict

NAMES = "abcdef"


def made(sha256: str, *, phash: int = 0, side: int = 100) -> Fingerprint:
    """A picture that is near those whose `phash` differs in few bits, and kept before smaller ones."""
    return Fingerprint(
        sha256=sha256,
        pixel_sha256=f"pixels-{sha256}",
        phash=phash,
        dhash=0,
        hashable=True,
        width=side,
        height=side,
        size_bytes=1000,
        tiny=bytes(384),
    )


def same(first: str, second: str) -> Verdict:
    return Verdict(first=first, second=second, same=True)


def two(first: str, second: str) -> Verdict:
    return Verdict(first=first, second=second, same=False)


def groups(
    pictures: Sequence[Fingerprint],
    verdicts: Sequence[Verdict] = (),
    earlier: dict[str, str] | None = None,
) -> list[set[str]]:
    """The groups of two or more, as sets of names."""
    found = group_duplicates(pictures, verdicts=verdicts, earlier=earlier)
    return [members(each) for each in found]


def members(group: DuplicateGroup) -> set[str]:
    return {group.kept, *(each.sha256 for each in group.duplicates)}


FAR = 2**40 - 1
"""40 bits away from 0."""


def test_two_that_were_parted_stay_apart_though_they_are_alike() -> None:
    pictures = [made("a"), made("b"), made("c")]
    assert groups(pictures, [two("c", "a"), two("c", "b")]) == [{"a", "b"}]


def test_a_better_picture_that_is_near_both_takes_only_one_of_two_that_were_parted() -> None:
    pictures = [made("a"), made("b"), made("z", side=900)]
    (group,) = groups(pictures, [two("a", "b")])
    assert group in ({"a", "z"}, {"b", "z"})


def test_an_earlier_grouping_does_not_bring_a_parted_one_back() -> None:
    pictures = [made("a"), made("b"), made("c")]
    said = [two("a", "b"), two("a", "c")]
    assert groups(pictures, said, {"b": "a", "c": "a"}) == [{"b", "c"}]


def test_two_that_were_merged_are_one_group_though_nothing_is_alike() -> None:
    (group,) = group_duplicates([made("a"), made("b", phash=FAR)], verdicts=[same("a", "b")])
    assert (group.kept, [(each.sha256, each.how) for each in group.duplicates]) == (
        "a",
        [("b", "a person")],
    )


def test_merging_two_joins_the_groups_that_they_lead() -> None:
    """Also when those groups are of an earlier search, and would not be found any more."""
    pictures = [made("a"), made("b"), made("c", phash=FAR), made("d", phash=FAR)]
    assert groups(pictures, [same("a", "c")]) == [set("abcd")]
    lonely = [made("a"), made("b", phash=2**20 - 1), made("c", phash=FAR)]
    assert groups(lonely, [same("a", "c")], {"b": "a"}) == [set("abc")]


def test_of_two_words_on_a_pair_the_newer_counts() -> None:
    pictures = [made("a"), made("b")]
    assert groups(pictures, [two("a", "b"), same("a", "b")]) == [{"a", "b"}]
    assert groups(pictures, [same("a", "b"), two("a", "b")]) == []


def test_equal_pixels_are_parted_when_a_person_says_so() -> None:
    pictures = [dataclasses.replace(made(name), pixel_sha256="equal") for name in "abc"]
    assert groups(pictures) == [set("abc")]
    assert groups(pictures, [two("a", "b"), two("b", "c")]) == [{"a", "c"}]


def test_a_verdict_on_a_picture_that_is_not_there_changes_nothing() -> None:
    pictures = [made("a"), made("b")]
    assert groups(pictures, [two("a", "gone"), same("b", "lost")]) == [{"a", "b"}]


@given(
    hashes=st.lists(st.sampled_from([0, 1, 3, FAR]), min_size=6, max_size=6),
    verdicts=st.lists(
        st.builds(
            Verdict, first=st.sampled_from(NAMES), second=st.sampled_from(NAMES), same=st.booleans()
        ).filter(lambda v: v.first != v.second),
        max_size=8,
    ),
    order=st.permutations(NAMES),
    earlier=st.dictionaries(st.sampled_from("def"), st.sampled_from("abc")),
)
def test_no_grouping_contradicts_what_stands_of_what_was_said(
    hashes: list[int], verdicts: list[Verdict], order: list[str], earlier: dict[str, str]
) -> None:
    """The newest verdict always stands; and the order of the input changes nothing."""
    pictures = {
        name: made(name, phash=phash, side=100 + at)
        for at, (name, phash) in enumerate(zip(NAMES, hashes, strict=True))
    }
    found = groups([pictures[name] for name in order], verdicts, earlier)
    assert found == groups(list(pictures.values()), verdicts, earlier)
    together = {name: at for at, group in enumerate(found) for name in group}
    sides = Sides(verdicts)
    for one in NAMES:
        for other in NAMES:
            grouped = together.get(one, one) == together.get(other, other)
            if sides.are_apart(one, other):
                assert not grouped
            if sides.side(one) == sides.side(other):
                assert grouped
    if verdicts:
        newest = verdicts[-1]
        grouped = together.get(newest.first, "-") == together.get(newest.second, "+")
        assert grouped == newest.same
