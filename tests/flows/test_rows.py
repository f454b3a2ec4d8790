"""Rows: they survive the trip through Arrow, and merging does not depend on order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.rows import (
    DECISIONS,
    IMAGES,
    LINKS,
    PRELABELS,
    DecisionRow,
    ImageRow,
    LinkRow,
    PreLabelRow,
    Provenance,
    combine_images,
    from_record,
    latest_link,
    merge_images,
    to_table,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SHA256S = st.text("0123456789abcdef", min_size=64, max_size=64)
TIMES = st.datetimes(
    # Hypothesis takes bounds without a zone.
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
UINT64S = st.integers(0, 2**64 - 1)
SCORES = st.floats(0, 1, width=32)
# Few times and addresses, so that ties and repetitions happen.
FEW_TIMES = st.sampled_from([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)])

PROVENANCES = st.builds(
    Provenance,
    source=st.sampled_from(["shop", "forum"]),
    url=st.sampled_from(["https://a.org/1", "https://a.org/2", "https://a.org/ü?q='"]),
    page_url=TEXT,
    found_by=TEXT,
    alt=TEXT,
    page_title=TEXT,
    about=TEXT,
    fetched_at=FEW_TIMES,
    run_id=TEXT,
)


def _image_rows(sha256s: st.SearchStrategy[str]) -> st.SearchStrategy[ImageRow]:
    def build(mark: tuple[str | None, str | None], **fields: object) -> ImageRow:
        return ImageRow(duplicate_of=mark[0], duplicate_how=mark[1], **fields)  # type: ignore[arg-type] # drawn below, a type each

    return st.builds(
        build,
        mark=st.one_of(
            st.just((None, None)),
            st.tuples(SHA256S, st.sampled_from(["same pixels", "perceptual"])),
        ),
        sha256=sha256s,
        shard=TEXT,
        offset=st.integers(0, 2**63 - 1),
        size=st.integers(1, 2**31),
        format=st.sampled_from(["jpeg", "png"]),
        width=st.integers(1, 2**31 - 1),
        height=st.integers(1, 2**31 - 1),
        pixel_sha256=SHA256S,
        phash=UINT64S,
        dhash=UINT64S,
        hashable=st.booleans(),
        tiny=st.binary(max_size=20),
        thumbnail=st.binary(max_size=20),
        provenance=st.lists(PROVENANCES, max_size=4).map(tuple),
        consent_allowed=st.booleans(),
        consent=TEXT,
        added_at=FEW_TIMES,
    )


LINK_ROWS = st.builds(
    LinkRow,
    url=st.sampled_from(["https://a.org/1"]),
    source=st.just("shop"),
    page_url=TEXT,
    found_by=TEXT,
    outcome=st.sampled_from(["kept", "rejected"]),
    reason=TEXT,
    detail=TEXT,
    transient=st.booleans(),
    sha256=st.none() | SHA256S,
    etag=TEXT,
    last_modified=TEXT,
    run_id=TEXT,
    seen_at=FEW_TIMES,
)
PRELABEL_ROWS = st.builds(
    PreLabelRow, sha256=SHA256S, label=TEXT, score=SCORES, taxonomy_id=TEXT, encoder_id=TEXT
)
DECISION_ROWS = st.builds(
    DecisionRow,
    sha256=SHA256S,
    label=TEXT,
    answer=st.sampled_from(["yes", "no", "unsure"]),
    who=TEXT,
    at=TIMES,
    score=st.none() | SCORES,
    note=TEXT,
)
# A busy machine draws slowly; that is no fault of the code.
unhurried = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
ONE_IMAGE = _image_rows(st.just("0" * 64))


@unhurried
@given(st.lists(_image_rows(SHA256S), max_size=3))
def test_image_rows_round_trip(rows: Sequence[ImageRow]) -> None:
    read = [from_record(ImageRow, record) for record in to_table(rows, IMAGES).to_pylist()]

    assert read == list(rows)


@unhurried
@given(st.lists(LINK_ROWS, max_size=3))
def test_link_rows_round_trip(rows: Sequence[LinkRow]) -> None:
    read = [from_record(LinkRow, record) for record in to_table(rows, LINKS).to_pylist()]

    assert read == list(rows)


@unhurried
@given(st.lists(PRELABEL_ROWS, max_size=3))
def test_prelabel_rows_round_trip(rows: Sequence[PreLabelRow]) -> None:
    read = [from_record(PreLabelRow, record) for record in to_table(rows, PRELABELS).to_pylist()]

    assert read == list(rows)


@unhurried
@given(st.lists(DECISION_ROWS, max_size=3))
def test_decision_rows_round_trip(rows: Sequence[DecisionRow]) -> None:
    read = [from_record(DecisionRow, record) for record in to_table(rows, DECISIONS).to_pylist()]

    assert read == list(rows)


@unhurried
@given(ONE_IMAGE, ONE_IMAGE)
def test_merging_images_is_commutative(first: ImageRow, second: ImageRow) -> None:
    assert merge_images(first, second) == merge_images(second, first)


@unhurried
@given(ONE_IMAGE, ONE_IMAGE, ONE_IMAGE)
def test_merging_images_is_associative(a: ImageRow, b: ImageRow, c: ImageRow) -> None:
    assert merge_images(merge_images(a, b), c) == merge_images(a, merge_images(b, c))


@unhurried
@given(ONE_IMAGE, ONE_IMAGE)
def test_merging_images_again_changes_nothing(first: ImageRow, second: ImageRow) -> None:
    merged = merge_images(first, second)

    assert merge_images(merged, second) == merged
    assert merge_images(merged, merged) == merged


@unhurried
@given(ONE_IMAGE, ONE_IMAGE)
def test_merging_images_keeps_every_place_once(first: ImageRow, second: ImageRow) -> None:
    """Each (source, url) of either row is there once."""
    merged = [(place.source, place.url) for place in merge_images(first, second).provenance]

    found = {(place.source, place.url) for place in (*first.provenance, *second.provenance)}
    assert sorted(merged) == sorted(found)


@unhurried
@given(ONE_IMAGE, ONE_IMAGE)
def test_merging_images_keeps_the_stricter_consent(first: ImageRow, second: ImageRow) -> None:
    merged = merge_images(first, second)

    assert merged.consent_allowed == (first.consent_allowed and second.consent_allowed)


@unhurried
@given(st.lists(ONE_IMAGE, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_combining_images_ignores_order(rows: list[ImageRow], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))

    assert combine_images(shuffled) == combine_images(rows)


@unhurried
@given(LINK_ROWS, LINK_ROWS)
def test_latest_link_ignores_order(first: LinkRow, second: LinkRow) -> None:
    assert latest_link(first, second) == latest_link(second, first)


def test_naive_time_is_refused() -> None:
    """A time without a zone would be stored as if it were UTC."""
    with pytest.raises(ValueError, match="at must be an aware time in UTC"):
        DecisionRow(sha256="0" * 64, label="vinyl", answer="yes", who="me", at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is tested


def test_unknown_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="answer must be yes, no or unsure"):
        DecisionRow(
            sha256="0" * 64,
            label="vinyl",
            answer="maybe",  # type: ignore[arg-type] # that is what is tested
            who="me",
            at=datetime(2026, 1, 1, tzinfo=UTC),
        )


def test_images_that_differ_are_not_merged() -> None:
    first, second = _row("0" * 64), _row("1" * 64)

    with pytest.raises(ValueError, match="rows of two images"):
        merge_images(first, second)


def _row(sha256: str) -> ImageRow:
    return ImageRow(
        sha256=sha256,
        shard="s",
        offset=0,
        size=1,
        format="png",
        width=1,
        height=1,
        pixel_sha256="",
        phash=0,
        dhash=0,
        hashable=True,
        thumbnail=b"",
        provenance=(),
        consent_allowed=True,
        consent="",
        added_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
