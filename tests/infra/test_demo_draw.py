"""The demo's drawings: decided by their seed, labelled as drawn, and told apart by a deduplicator."""

from __future__ import annotations

import itertools

import imagehash
import numpy as np
import pytest

from infra.demo.captions import Caption, describe
from infra.demo.draw import FIRST_DEMO_SEED, KINDS, Drawing, Kind, draw
from infra.demo.measure_weights import MEASURED_SEEDS
from infra.demo.train_weights import TRAINING_SEEDS

LABELS: dict[Kind, tuple[str, ...]] = {
    "vinyl": ("vinyl",),
    "turntable": ("turntable",),
    "both": ("turntable", "vinyl"),
    "neither": (),
}


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    """Some of those that the demo itself would show, each kind in turn."""
    return [draw(FIRST_DEMO_SEED + at, KINDS[at % 4]) for at in range(40)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_pixels(kind: Kind) -> None:
    first, second = draw(7, kind), draw(7, kind)
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.caption, first.contents) == (second.caption, second.contents)


def test_pixels_do_not_depend_on_what_was_drawn_before() -> None:
    alone = draw(8, "both").image.tobytes()
    draw(9, "neither")
    assert draw(8, "both").image.tobytes() == alone


def test_labels_are_those_of_the_kind(drawings: list[Drawing]) -> None:
    assert [drawing.labels for drawing in drawings] == [LABELS[KINDS[at % 4]] for at in range(40)]


def test_labels_agree_with_what_was_put_into_the_picture(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        drawn = {"turntable", "vinyl"} & set(drawing.contents.things)
        assert drawn == set(drawing.labels), drawing.caption


def test_pictures_are_rgb_of_several_sizes_within_the_stated_range(
    drawings: list[Drawing],
) -> None:
    sizes = {drawing.image.size for drawing in drawings}
    assert {drawing.image.mode for drawing in drawings} == {"RGB"}
    assert len(sizes) >= 5
    assert all(400 <= width <= 640 and 360 <= height <= 560 for width, height in sizes)


def test_every_picture_shows_something(drawings: list[Drawing]) -> None:
    """None is all one tone, whatever light it was taken in."""
    assert min(float(np.asarray(each.image.convert("L")).std()) for each in drawings) > 8


def test_captions_vary(drawings: list[Drawing]) -> None:
    assert len({drawing.caption for drawing in drawings}) > 30


def test_whatever_is_said_of_a_drawing_is_true_of_it(drawings: list[Drawing]) -> None:
    rng = np.random.default_rng(0)
    for drawing in drawings:
        facts = drawing.contents.facts()
        for caption in (describe(rng, drawing.contents) for _ in range(20)):
            assert caption.is_true_of(facts), (caption.words, sorted(facts))


def test_no_two_drawings_look_like_duplicates(drawings: list[Drawing]) -> None:
    """No pair is near in pHash and in dHash: the nearest of 240 were 12 bits apart in one of them."""
    hashes = [
        (imagehash.phash(drawing.image), imagehash.dhash(drawing.image)) for drawing in drawings
    ]
    nearest = min(
        max(int(one[0] - other[0]), int(one[1] - other[1]))
        for one, other in itertools.combinations(hashes, 2)
    )
    assert nearest > 10


def test_the_demo_draws_nothing_that_was_trained_or_measured_on() -> None:
    assert TRAINING_SEEDS[-1] < MEASURED_SEEDS[0]
    assert MEASURED_SEEDS[-1] < FIRST_DEMO_SEED


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="kind is 'gramophone', and should be one of vinyl"):
        draw(1, "gramophone")  # type: ignore[arg-type]  # what a caller without mypy may do


@pytest.mark.parametrize(
    ("facts", "true"),
    [({"turntable"}, True), ({"turntable", "vinyl"}, False), ({"clock"}, False)],
)
def test_a_caption_is_true_where_its_claims_hold_and_its_denials_do(
    facts: set[str], *, true: bool
) -> None:
    caption = Caption("a deck, no record", frozenset({"turntable"}), frozenset({"vinyl"}))
    assert caption.is_true_of(frozenset(facts)) is true
