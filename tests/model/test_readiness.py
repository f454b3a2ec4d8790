"""What there is to train on is counted, its gaps are named, and too little is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model.card import LabelCounts
from model.classifier import Strength
from model.facts import BLURRED, DARK, PictureFacts, measure_appearance
from model.learning_curve import forecast, learning_curves
from model.mislabels import Suspect
from model.readiness import LabelReadiness, Readiness, answer_warnings, examine, refusals
from tests.model.synthetic import Pictures, draw_pictures, snapshot_of

GOOD = PictureFacts(
    sha256="", host="a.example", licence="", width=800, height=600, brightness=0.5, sharpness=500
)


def examine_drawn(
    drawn: Pictures, facts: list[PictureFacts] | None = None, suspects: list[Suspect] | None = None
) -> Readiness:
    snapshot = snapshot_of(drawn.targets)
    facts = facts or [GOOD] * len(drawn.targets)
    return examine(
        snapshot,
        drawn.embeddings,
        facts={
            sha256: dataclasses.replace(fact, sha256=sha256)
            for sha256, fact in zip(snapshot.sha256s, facts, strict=True)
        },
        unreviewed={"label0": 7},
        duplicates=5,
        suspects=suspects or [],
    )


def only(readiness: Readiness) -> LabelReadiness:
    (label,) = readiness.labels
    return label


def test_answers_are_counted_per_label() -> None:
    drawn = draw_pictures(90, 1)
    label = only(examine_drawn(drawn))
    assert label.positives == int(drawn.targets.sum())
    assert label.positives + label.negatives == 90
    assert label.unreviewed == 7


def test_positives_of_one_site_are_warned_of() -> None:
    said = examine_drawn(draw_pictures(90, 1)).warnings
    assert any("pictures of label0 come from 1 site" in each for each in said)


def test_positives_of_three_sites_are_not_warned_of() -> None:
    facts = [dataclasses.replace(GOOD, host=f"{row % 3}.example") for row in range(90)]
    assert not any(
        "come from" in each for each in examine_drawn(draw_pictures(90, 1), facts).warnings
    )


def test_dark_blurred_and_small_positives_are_counted() -> None:
    drawn = draw_pictures(90, 1)
    hard = dataclasses.replace(GOOD, brightness=0.05, sharpness=1.0, width=100)
    facts = [hard if row < 45 else GOOD for row in range(90)]
    label = only(examine_drawn(drawn, facts))
    expected = int(drawn.targets[:45].sum())
    assert (label.dark, label.blurred, label.small) == (expected, expected, expected)


def test_suspects_are_counted_and_warned_of() -> None:
    suspect = Suspect(sha256="x", label="label0", answer=True, score=0.1, quality=0.1)
    readiness = examine_drawn(draw_pictures(90, 1), suspects=[suspect])
    assert only(readiness).suspects == 1
    assert "1 answers to label0 look wrong: review them again" in readiness.warnings


def test_too_little_is_refused_by_name_and_the_rest_is_still_told() -> None:
    drawn = draw_pictures(30, 1)
    drawn.targets[:] = 0
    drawn.targets[:2] = 1
    readiness = examine_drawn(drawn)
    assert not readiness.ready
    assert readiness.refused == ("label0 has 2 positives and 28 negatives",)
    assert only(readiness).negatives == 28


def test_enough_is_not_refused() -> None:
    assert refusals(snapshot_of(draw_pictures(30).targets)) == ()


def test_mean_cosine_is_that_of_all_pairs() -> None:
    drawn = draw_pictures(40, 1)
    chosen = drawn.embeddings[drawn.targets[:, 0] == 1]
    pairs = (chosen @ chosen.T)[np.triu_indices(len(chosen), 1)]
    assert only(examine_drawn(drawn)).alike == pytest.approx(float(pairs.mean()), abs=1e-5)


def test_blur_lowers_sharpness_and_night_lowers_brightness() -> None:
    rng = np.random.default_rng(0)
    sharp = Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
    blurred = sharp.filter(ImageFilter.GaussianBlur(4))
    night = sharp.point(lambda level: level // 8)
    assert measure_appearance(sharp)[1] > BLURRED > measure_appearance(blurred)[1]
    assert measure_appearance(sharp)[0] > DARK > measure_appearance(night)[0]


def test_the_forecast_holds_what_more_pictures_really_bring() -> None:
    """Of 60 drawn pictures, what 120 of the same kind would do; then those are drawn."""
    covered = 0
    for seed in range(8):
        drawn = draw_pictures(260, 1, signal=1.0, seed=seed)
        few, more = slice(60), slice(180)

        def curve_of(part: slice, drawn: Pictures = drawn) -> float:
            (curve,) = learning_curves(
                drawn.embeddings[part],
                drawn.targets[part],
                labels=["a"],
                groups=[str(row) for row in range(len(drawn.targets[part]))],
                strengths=[Strength(penalty=0.005, text=0.0)],
                text_LD=None,
                seed=0,
            )
            return float(np.nanmean(curve.recall_RS[:, -1]))

        (curve,) = learning_curves(
            drawn.embeddings[few],
            drawn.targets[few],
            labels=["a"],
            groups=[str(row) for row in range(60)],
            strengths=[Strength(penalty=0.005, text=0.0)],
            text_LD=None,
            seed=0,
        )
        positives = int(drawn.targets[few].sum())
        extra = int(drawn.targets[more].sum()) - positives
        said = forecast(curve, positives, extra)
        assert said is not None
        assert said.then.value >= said.now - 1e-9
        covered += said.then.low <= curve_of(more) <= said.then.high
    assert covered >= 7


@pytest.mark.parametrize(("disagreements", "warned"), [(2, False), (3, True)])
def test_people_who_differ_on_more_than_one_answer_in_twenty_are_a_warning(
    disagreements: int, warned: bool
) -> None:
    counts = LabelCounts(
        label="vinyl",
        positives=20,
        negatives=20,
        unreviewed=0,
        positive_groups=20,
        negative_groups=20,
        disagreements=disagreements,
    )
    assert any("people differ on 3 of 40" in said for said in answer_warnings(counts)) is warned
