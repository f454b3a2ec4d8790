"""Duplicates are found, lookalikes are kept apart, and neither depends on the order of the input."""

from __future__ import annotations

import csv
import dataclasses
import random
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from crawler.decode import Examined, Fingerprint, examine
from crawler.dedupe import MAX_PHASH_DISTANCE, DuplicateGroup, group_duplicates
from infra.demo.draw import FIRST_DEMO_SEED, KINDS, draw
from tests.crawler.pictures import encoded, picture


def pairs_of(groups: list[DuplicateGroup]) -> set[frozenset[str]]:
    """Return every pair of ids that lie in one group."""
    return {
        frozenset(pair)
        for group in groups
        for pair in combinations([group.kept, *(each.sha256 for each in group.duplicates)], 2)
    }


@pytest.fixture(scope="module")
def labelled(shared: Path) -> dict[str, tuple[Fingerprint, str]]:
    """Fingerprint and true group of the 149 real files, by name."""
    folder = shared / "data/duplicates"
    with (folder / "groups.csv").open() as rows:
        return {
            row["filename"]: (
                examine((folder / "images" / row["filename"]).read_bytes()).fingerprint,
                row["dup_group"],
            )
            for row in csv.DictReader(rows)
        }


def true_pairs(labelled: dict[str, tuple[Fingerprint, str]]) -> set[frozenset[str]]:
    return {
        frozenset((first.sha256, second.sha256))
        for (first, group), (second, other) in combinations(labelled.values(), 2)
        if group and group == other
    }


def test_no_lookalike_of_the_real_collection_is_merged(
    labelled: dict[str, tuple[Fingerprint, str]],
) -> None:
    """Guitars in one pose, buttons with other words, one player in three colours: all are kept."""
    found = pairs_of(group_duplicates([each for each, _ in labelled.values()]))
    assert found - true_pairs(labelled) == set()


def test_most_duplicates_of_the_real_collection_are_found(
    labelled: dict[str, tuple[Fingerprint, str]],
) -> None:
    """251 of 292 pairs when measured; mirrored, rotated, cropped and grey ones are missed."""
    found = pairs_of(group_duplicates([each for each, _ in labelled.values()]))
    assert len(found & true_pairs(labelled)) >= 250


@pytest.fixture(scope="module")
def thumbnails(shared: Path) -> dict[str, bytes]:
    """Thumbnails of the 149 real files, by id."""
    files = (shared / "data/duplicates/images").iterdir()
    seen = [examine(file.read_bytes()) for file in files]
    return {each.fingerprint.sha256: each.thumbnail for each in seen}


def test_a_second_look_finds_turned_and_cropped_ones_and_no_lookalike(
    labelled: dict[str, tuple[Fingerprint, str]], thumbnails: dict[str, bytes]
) -> None:
    """272 of 289 pairs of different files when measured, none wrong."""
    fingerprints = [each for each, _ in labelled.values()]
    found = pairs_of(group_duplicates(fingerprints, thumbnails=lambda ids: thumbnails))
    assert found - true_pairs(labelled) == set()
    assert len(found & true_pairs(labelled)) >= 272


def cropped(image: Image.Image, share: float) -> Image.Image:
    edge = (1 - share) / 2
    width, height = image.size
    return image.crop(
        (
            round(width * edge),
            round(height * edge),
            width - round(width * edge),
            height - round(height * edge),
        )
    )


def with_caption(image: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (image.width, image.height * 8 // 7), "white")
    sheet.paste(image, (0, 0))
    ImageDraw.Draw(sheet).text((9, image.height + 5), "What it shows, and who took it", "black")
    return sheet


@pytest.mark.parametrize(
    "change",
    [
        *(partial(Image.Image.transpose, method=method) for method in Image.Transpose),
        partial(cropped, share=0.875),
        partial(ImageOps.expand, border=20, fill="black"),
        with_caption,
    ],
    ids=[*(method.name.lower() for method in Image.Transpose), "crop", "border", "caption"],
)
def test_photographs_that_were_turned_cropped_or_framed_are_found(
    shared: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    """20 photographs and 20 copies: at least 18 of the copies, and no two different pictures."""
    seen: dict[str, tuple[Examined, Path]] = {}
    for file in sorted((shared / "data/hymenoptera/images").iterdir())[:20]:
        with Image.open(file) as opened:
            original = opened.convert("RGB")
        for image in (original, change(original)):
            examined = examine(encoded(image, "JPEG", quality=85))
            seen[examined.fingerprint.sha256] = (examined, file)
    groups = group_duplicates(
        [each.fingerprint for each, _ in seen.values()],
        thumbnails=lambda ids: {sha256: seen[sha256][0].thumbnail for sha256 in ids},
    )
    pairs = pairs_of(groups)
    assert all(len({seen[sha256][1] for sha256 in pair}) == 1 for pair in pairs)
    assert len(pairs) >= 18


@pytest.mark.parametrize(
    "change",
    [
        partial(ImageOps.expand, border=20, fill="black"),
        with_caption,
        partial(cropped, share=0.875),
        partial(Image.Image.transpose, method=Image.Transpose.ROTATE_90),
    ],
    ids=["border", "caption", "crop", "turned"],
)
def test_the_largest_that_nothing_was_added_to_is_kept(
    shared: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    """A frame adds pixels, and a crop takes some away: of 20 originals 18 stay at least."""
    kept: list[bool] = []
    for file in sorted((shared / "data/hymenoptera/images").iterdir())[20:40]:
        with Image.open(file) as opened:
            original = opened.convert("RGB")
        seen = [
            examine(encoded(image, "JPEG", quality=quality))
            for image, quality in ((original, 90), (change(original), 85))
        ]
        thumbnails = {each.fingerprint.sha256: each.thumbnail for each in seen}
        groups = group_duplicates(
            [each.fingerprint for each in seen],
            thumbnails=lambda ids, thumbnails=thumbnails: thumbnails,  # type: ignore[misc]
        )
        kept.extend(group.kept == seen[0].fingerprint.sha256 for group in groups)
    assert kept.count(True) >= 18


def test_groups_do_not_depend_on_the_order(
    labelled: dict[str, tuple[Fingerprint, str]],
) -> None:
    fingerprints = [each for each, _ in labelled.values()]
    shuffled = random.Random(1).sample(fingerprints, len(fingerprints))
    assert group_duplicates(shuffled) == group_duplicates(fingerprints)


def renditions(image: Image.Image) -> list[Fingerprint]:
    """Return an original, a reduced copy of it and one of low quality, as a site would serve."""
    reduced = image.resize((image.width * 6 // 10, image.height * 6 // 10))
    bodies = [
        encoded(image, "JPEG", quality=92),
        encoded(reduced, "JPEG", quality=85),
        encoded(image, "JPEG", quality=60),
    ]
    return [examine(body).fingerprint for body in bodies]


@pytest.mark.parametrize("seed", range(4))
def test_a_reduced_and_a_reencoded_copy_hang_on_the_original(seed: int) -> None:
    original, *copies = renditions(picture(seed, (400, 300)))
    groups = group_duplicates([*copies, original])
    assert [(group.kept, len(group.duplicates)) for group in groups] == [(original.sha256, 2)]
    assert {each.how for each in groups[0].duplicates} == {"perceptual"}


def test_drawings_of_the_demo_are_kept_apart_and_their_copies_found() -> None:
    """Drawn by the same few strokes, they are the nearest that different pictures come."""
    drawings = [draw(FIRST_DEMO_SEED + at, KINDS[at % 4]).image for at in range(8)]
    served = [renditions(each) for each in drawings]
    groups = group_duplicates([each for group in served for each in group])
    assert {
        (group.kept, frozenset(each.sha256 for each in group.duplicates)) for group in groups
    } == {
        (original.sha256, frozenset(each.sha256 for each in copies)) for original, *copies in served
    }


def test_different_pictures_are_never_grouped() -> None:
    fingerprints = [examine(encoded(picture(seed))).fingerprint for seed in range(40)]
    assert group_duplicates(fingerprints) == []


def test_a_small_change_that_hashes_do_not_see_keeps_pictures_apart() -> None:
    """A dark spot of one thirtieth of the width."""
    plain = picture(9, (480, 360))
    marked = plain.copy()
    bright = max(
        ((x, y) for x in range(40, 440, 20) for y in range(40, 320, 20)),
        key=lambda at: sum(plain.getpixel(at)),  # type: ignore[arg-type]  # three bands
    )
    x, y = bright
    ImageDraw.Draw(marked).rectangle((x - 15, y - 15, x + 15, y + 15), fill="black")
    first, second = (examine(encoded(each)).fingerprint for each in (plain, marked))
    assert (first.phash ^ second.phash).bit_count() <= MAX_PHASH_DISTANCE
    assert group_duplicates([first, second]) == []


def test_another_colour_keeps_pictures_apart() -> None:
    """Hashes look at brightness alone."""
    plain = picture(3)
    red, green, blue = plain.split()
    swapped = Image.merge("RGB", (blue, green, red))
    grey = dataclasses.replace(
        examine(encoded(swapped)).fingerprint,
        phash=examine(encoded(plain)).fingerprint.phash,
        dhash=examine(encoded(plain)).fingerprint.dhash,
    )
    assert group_duplicates([examine(encoded(plain)).fingerprint, grey]) == []


def test_the_same_pixels_in_two_files_are_one_picture() -> None:
    files = [encoded(picture(1), "PNG"), encoded(picture(1), "BMP")]
    (group,) = group_duplicates([examine(each).fingerprint for each in files])
    assert [(each.how, each.distance) for each in group.duplicates] == [("same pixels", 0)]


def made(sha256: str, **changes: object) -> Fingerprint:
    """Return a fingerprint with a structure shared by all that this makes."""
    plain = Fingerprint(
        sha256=sha256,
        pixel_sha256=f"pixels of {sha256}",
        phash=0x0F0F_0F0F_0F0F_0F0F,
        dhash=0x3333_3333_3333_3333,
        hashable=True,
        width=100,
        height=100,
        size_bytes=1000,
        tiny=bytes(384),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # any of its fields


def test_flat_pictures_are_not_merged_by_hash() -> None:
    assert group_duplicates([made("a", hashable=False), made("b", hashable=False)]) == []


def test_flat_pictures_with_the_same_pixels_are_merged() -> None:
    flat = [made(each, hashable=False, pixel_sha256="white") for each in "ab"]
    assert [group.kept for group in group_duplicates(flat)] == ["a"]


def test_a_fingerprint_without_the_tiny_picture_is_not_merged_by_hash() -> None:
    assert group_duplicates([made("a", tiny=b""), made("b", tiny=b"")]) == []


def test_the_picture_with_most_pixels_is_kept_then_most_bytes_then_lowest_id() -> None:
    largest = made("c", width=200)
    heavy = made("d", size_bytes=2000)
    assert [group.kept for group in group_duplicates([made("a"), heavy, largest])] == ["c"]
    assert [group.kept for group in group_duplicates([made("a"), heavy])] == ["d"]
    assert [group.kept for group in group_duplicates([made("b"), made("a")])] == ["a"]


def test_a_chain_of_small_steps_does_not_become_one_group() -> None:
    """Each is 6 bits from the next; only what is near the kept picture joins it."""
    start = 0x0F0F_0F0F_0F0F_0F0F
    chain = [made(f"{at}", phash=start ^ ((1 << 6 * at) - 1), width=200 - at) for at in range(5)]
    groups = group_duplicates(chain)
    assert [(group.kept, [each.sha256 for each in group.duplicates]) for group in groups] == [
        ("0", ["1"]),
        ("2", ["3"]),
    ]


def test_the_same_id_given_twice_is_no_duplicate() -> None:
    assert group_duplicates([made("a"), made("a")]) == []


def test_nothing_has_no_duplicates() -> None:
    assert group_duplicates([]) == []


# Near where they differ in 8 bits at most: steps and bridges, so that chains come up.
synthetic = st.lists(
    st.builds(
        made,
        st.text("abcdefgh", min_size=1, max_size=2),
        phash=st.sampled_from([0, 0xF, 0xFF, 0xFFF, 0xFFFF, 0xFFFFF]),
        width=st.sampled_from([100, 200, 300]),
        pixel_sha256=st.sampled_from("pqrstuvwxyz"),
        hashable=st.booleans(),
    ),
    max_size=9,
    unique_by=lambda each: each.sha256,
)


def consistent(fingerprints: list[Fingerprint]) -> list[Fingerprint]:
    """Return them with one hash for each of the same pixels."""
    first: dict[str, Fingerprint] = {}
    for each in fingerprints:
        first.setdefault(each.pixel_sha256, each)
    return [
        dataclasses.replace(
            each,
            phash=first[each.pixel_sha256].phash,
            hashable=first[each.pixel_sha256].hashable,
            width=first[each.pixel_sha256].width,
        )
        for each in fingerprints
    ]


def marks_of(groups: list[DuplicateGroup]) -> dict[str, str]:
    return {each.sha256: group.kept for group in groups for each in group.duplicates}


@settings(max_examples=100, deadline=None)
@given(synthetic, synthetic, st.randoms(use_true_random=False))
def test_every_order_gives_the_same_groups_and_no_picture_lies_in_two(
    fingerprints: list[Fingerprint], there: list[Fingerprint], order: random.Random
) -> None:
    """Also where earlier groups are given."""
    earlier = marks_of(group_duplicates(consistent(there)))
    groups = group_duplicates(fingerprints, earlier=earlier)
    members = [
        sha256
        for group in groups
        for sha256 in (group.kept, *(each.sha256 for each in group.duplicates))
    ]
    assert len(members) == len(set(members))
    shuffled = order.sample(fingerprints, len(fingerprints))
    assert group_duplicates(shuffled, earlier=earlier) == groups


@settings(max_examples=200, deadline=None)
@given(synthetic, st.integers(0, 9))
def test_adding_pictures_never_splits_a_group_of_others(
    fingerprints: list[Fingerprint], there: int
) -> None:
    """And every member is near the kept picture, whichever that has become."""
    every = consistent(fingerprints)
    before = group_duplicates(every[:there])
    after = group_duplicates(every, earlier=marks_of(before))
    assert pairs_of(before) <= pairs_of(after)
    by_id = {each.sha256: each for each in every}
    for group in after:
        kept = by_id[group.kept]
        for each in group.duplicates:
            assert each.how != "earlier"
            other = by_id[each.sha256]
            same = other.pixel_sha256 == kept.pixel_sha256
            assert same or (kept.phash ^ other.phash).bit_count() <= MAX_PHASH_DISTANCE


def test_a_better_picture_takes_the_place_of_the_kept_one_if_it_is_near_all_others() -> None:
    there = [made("a", width=200, phash=0), made("b", phash=0xF)]
    marks = marks_of(group_duplicates(there))
    better = made("c", width=300, phash=0xFF)
    assert [group.kept for group in group_duplicates([*there, better], earlier=marks)] == ["c"]


def test_a_better_picture_that_is_not_near_all_others_joins_the_kept_one() -> None:
    """Alone it would claim one of the two and leave the other behind."""
    there = [made("a", width=200, phash=0xFF), made("b", phash=0)]
    marks = marks_of(group_duplicates(there))
    better = made("c", width=300, phash=0xFFFF)
    (group,) = group_duplicates([*there, better], earlier=marks)
    assert (group.kept, [each.sha256 for each in group.duplicates]) == ("a", ["b", "c"])
    (anew,) = group_duplicates([*there, better])
    assert (anew.kept, [each.sha256 for each in anew.duplicates]) == ("c", ["a"])


def test_a_group_whose_kept_picture_is_gone_is_found_anew() -> None:
    left = [made("b", phash=0), made("c", phash=1)]
    (group,) = group_duplicates(left, earlier={"b": "gone", "c": "gone"})
    assert group.kept == "b"
