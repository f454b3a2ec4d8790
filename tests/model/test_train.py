"""Training is deterministic, honest about what it measures, and refuses what it cannot measure."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score

from model.checkpoint import TrainedModel, head_bytes, to_files
from model.data import Example, Snapshot, kin_groups
from model.held_out import HeldOut, deal_sides
from model.thresholds import choose_thresholds
from model.train import TooFewExamples, TrainConfig, fit, train
from tests.model.synthetic import draw_pictures, snapshot_of

QUICK = TrainConfig(repeats=1, resamples=100)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    drawn = draw_pictures(80)
    return train(
        snapshot_of(drawn.targets), drawn.embeddings, config=TrainConfig(), text_LD=drawn.text
    )


def test_eight_pictures_are_learned_by_heart() -> None:
    drawn = draw_pictures(8, 1, dim=32)
    targets = np.array([[1], [0]] * 4, np.float32)
    head = fit(drawn.embeddings, targets, labels=["a"], encoder_id="e", config=QUICK)
    np.testing.assert_array_equal(head.scores(drawn.embeddings) >= 0.5, targets == 1)


def test_new_pictures_are_told_apart(model: TrainedModel) -> None:
    """On 500 pictures drawn after the 80 that were trained on."""
    later = draw_pictures(580)
    scores = model.head.scores(later.embeddings[80:])
    assert average_precision_score(later.targets[80:], scores) > 0.85


def test_the_card_does_not_flatter(model: TrainedModel) -> None:
    """What 500 new pictures show lies in the interval that 80 pictures gave."""
    later = draw_pictures(580)
    scores = model.head.scores(later.embeddings[80:])
    for column, metrics in enumerate(model.card.evaluation.labels):
        truth = average_precision_score(later.targets[80:, column], scores[:, column])
        assert metrics.average_precision.low <= truth <= metrics.average_precision.high


def test_labels_that_say_nothing_of_the_pictures_look_like_chance() -> None:
    """Answers by coin: nothing that is chosen on the way may make them look learned.

    The mean over ten sets: in each, AP is a half give or take 0.05.
    """
    found = []
    for seed in range(10):
        drawn = draw_pictures(80, 1, seed=seed)
        coins = (np.random.default_rng(seed).random((80, 1)) < 0.5).astype(np.float32)
        judged = train(
            snapshot_of(coins, seed=seed), drawn.embeddings, config=QUICK, text_LD=drawn.text
        )
        found.append(judged.card.evaluation.labels[0].average_precision.value)
    assert 0.4 < np.mean(found) < 0.58


def test_kin_on_both_sides_would_flatter_and_are_not() -> None:
    """Coins again, but each picture is there four times: only a split that parts kin would see it."""
    drawn = draw_pictures(20, 1)
    coins = (np.arange(20)[:, None] % 2).astype(np.float32)
    rows = np.repeat(np.arange(20), 4)
    honest = train(snapshot_of(coins[rows], kin=4), drawn.embeddings[rows], config=QUICK)
    flattered = train(snapshot_of(coins[rows], kin=1), drawn.embeddings[rows], config=QUICK)
    assert flattered.card.evaluation.macro_f1.value > 0.95
    assert honest.card.evaluation.macro_f1.value < 0.8


def test_thresholds_of_a_fold_are_chosen_without_it() -> None:
    """They are the best for the out-of-fold scores of the other folds' pictures."""
    drawn = draw_pictures(80)
    trained = train(snapshot_of(drawn.targets), drawn.embeddings, config=QUICK)
    for fold, thresholds in enumerate(trained.fold_thresholds_FL):
        others = trained.fold_N != fold
        expected = choose_thresholds(trained.out_of_fold_NL[others], drawn.targets[others])
        np.testing.assert_array_equal(thresholds, expected)


def test_the_same_snapshot_and_seed_give_the_same_bytes() -> None:
    drawn = draw_pictures(60)
    first, second = (
        to_files(
            train(snapshot_of(drawn.targets), drawn.embeddings, config=QUICK, text_LD=drawn.text)
        )
        for _ in range(2)
    )
    assert first == second


def test_another_seed_gives_another_version() -> None:
    drawn = draw_pictures(60)
    first, second = (
        train(snapshot_of(drawn.targets, seed=seed), drawn.embeddings, config=QUICK)
        for seed in (0, 1)
    )
    assert first.card.version != second.card.version
    assert not np.array_equal(first.out_of_fold_NL, second.out_of_fold_NL)


def test_settings_that_only_the_report_depends_on_give_another_version() -> None:
    """A version is published once: two different cards may not share one."""
    drawn = draw_pictures(60)
    first, second = (
        train(
            snapshot_of(drawn.targets),
            drawn.embeddings,
            config=dataclasses.replace(QUICK, resamples=n),
        )
        for n in (100, 200)
    )
    assert first.card.version != second.card.version


def test_fit_gives_the_head_that_train_gives() -> None:
    drawn = draw_pictures(60)
    snapshot = snapshot_of(drawn.targets, kin=2)
    trained = train(snapshot, drawn.embeddings, config=QUICK)
    head = fit(
        drawn.embeddings,
        drawn.targets,
        labels=snapshot.labels,
        encoder_id=snapshot.encoder_id,
        config=QUICK,
        groups=snapshot.groups,
    )
    assert head_bytes(head) == head_bytes(trained.head)


def test_the_text_is_followed_where_it_helps() -> None:
    """With sixteen examples in many dimensions, and texts that point the right way."""
    drawn = draw_pictures(416, dim=256, signal=0.4)
    zero_shot = 100 * drawn.text  # as a logit scale makes of it
    few, later = slice(16), slice(16, None)
    precision = {}
    for name, text in (("with", zero_shot), ("without", None)):
        head = fit(
            drawn.embeddings[few],
            drawn.targets[few],
            labels=["a", "b"],
            encoder_id="e",
            config=TrainConfig(resamples=100),
            text_LD=text,
        )
        scores = head.scores(drawn.embeddings[later])
        precision[name] = average_precision_score(drawn.targets[later], scores)
    assert precision["with"] > precision["without"] + 0.05


def test_a_text_that_points_the_wrong_way_costs_little() -> None:
    drawn = draw_pictures(480)
    few, later = slice(80), slice(80, None)
    precision = {}
    for name, text in (("wrong", -100 * drawn.text), ("none", None)):
        head = fit(
            drawn.embeddings[few],
            drawn.targets[few],
            labels=["a", "b"],
            encoder_id="e",
            config=QUICK,
            text_LD=text,
        )
        scores = head.scores(drawn.embeddings[later])
        precision[name] = average_precision_score(drawn.targets[later], scores)
    assert precision["wrong"] > precision["none"] - 0.01


def test_one_picture_of_each_answer_gives_a_head() -> None:
    """Nothing can be held out: the pull is the default one, thresholds are a half."""
    drawn = draw_pictures(2, 1)
    targets = np.array([[1], [0]], np.float32)
    head = fit(drawn.embeddings, targets, labels=["a"], encoder_id="e", config=QUICK)
    assert head.scores(drawn.embeddings)[0] > head.scores(drawn.embeddings)[1]
    assert head.thresholds_L == 0.5


@pytest.fixture(scope="module")
def many() -> tuple[Snapshot, TrainedModel]:
    drawn = draw_pictures(20_000, 2, dim=8, signal=1.5)
    snapshot = snapshot_of(drawn.targets, kin=2)
    return snapshot, train(snapshot, drawn.embeddings, config=QUICK)


def test_many_pictures_are_judged_on_those_that_their_hashes_hold_out(
    many: tuple[Snapshot, TrainedModel],
) -> None:
    """A picture keeps its side however the set grows; kin are never on two sides."""
    snapshot, trained = many
    assert "70 % fitted on" in trained.card.fold_scheme
    group_of = dict(zip(snapshot.sha256s, snapshot.groups, strict=True))
    side_of = dict(zip(trained.sha256s, trained.fold_N.tolist(), strict=True))
    assert 0.2 < len(side_of) / len(group_of) < 0.3
    by_group: dict[str, set[int]] = {}
    for sha256, side in side_of.items():
        by_group.setdefault(group_of[sha256], set()).add(side)
    assert all(len(sides) == 1 for sides in by_group.values())


def test_a_larger_set_holds_the_same_pictures_out(many: tuple[Snapshot, TrainedModel]) -> None:
    _, trained = many
    grown = draw_pictures(24_000, 2, dim=8, signal=1.5)
    larger = snapshot_of(grown.targets, kin=2)
    deal = deal_sides(larger.targets_NL(), larger.groups, larger.sha256s)
    assert deal is not None
    now = dict(zip(larger.sha256s, deal.side_N.tolist(), strict=True))
    before = dict(zip(trained.sha256s, trained.fold_N.tolist(), strict=True))
    assert all(now[sha256] == side for sha256, side in before.items())


def test_a_label_too_rare_for_sides_is_judged_in_folds() -> None:
    targets = np.zeros((20_000, 1), np.float32)
    targets[:60] = 1
    assert deal_sides(targets, *[snapshot_of(targets).sha256s] * 2) is None


def test_unreviewed_pictures_are_scored_but_not_counted() -> None:
    drawn = draw_pictures(60)
    masked = drawn.targets.copy()
    masked[:20, 0] = np.nan
    trained = train(snapshot_of(masked), drawn.embeddings, config=QUICK)
    counts = trained.card.counts[0]
    assert (counts.positives + counts.negatives, counts.unreviewed) == (40, 20)
    assert np.isfinite(trained.out_of_fold_NL).all()


def test_too_few_examples_names_every_label_and_its_counts() -> None:
    drawn = draw_pictures(30)
    targets = np.zeros_like(drawn.targets)
    targets[:2, 0] = 1
    targets[:28, 1] = 1
    with pytest.raises(
        TooFewExamples,
        match="label0 has 2 positives and 28 negatives; label1 has 28 positives and 2 negatives",
    ):
        train(snapshot_of(targets), drawn.embeddings, config=QUICK)


def test_positives_of_one_shoot_alone_are_refused() -> None:
    drawn = draw_pictures(30, 1)
    targets = np.zeros((30, 1), np.float32)
    targets[:5] = 1
    with pytest.raises(TooFewExamples, match="the 5 positives of label0 are all of one shoot"):
        train(snapshot_of(targets, kin=5), drawn.embeddings, config=QUICK)


def test_three_positives_and_three_negatives_are_enough() -> None:
    drawn = draw_pictures(6, 1)
    targets = np.array([[1], [1], [1], [0], [0], [0]], np.float32)
    card = train(snapshot_of(targets), drawn.embeddings, config=QUICK).card
    assert "1 x 3-fold" in card.fold_scheme
    assert "label0 has 3 positives: its intervals are wide" in card.warnings


def test_positives_of_few_shoots_are_warned_of() -> None:
    drawn = draw_pictures(80, 1)
    targets = (np.arange(80)[:, None] < 40).astype(np.float32)
    card = train(snapshot_of(targets, kin=10), drawn.embeddings, config=QUICK).card
    assert any("40 positives of label0 come from 4 shoots" in each for each in card.warnings)


def test_vectors_that_are_not_unit_are_refused() -> None:
    drawn = draw_pictures(30)
    with pytest.raises(ValueError, match="not unit vectors"):
        train(snapshot_of(drawn.targets), drawn.embeddings * 2, config=QUICK)


def test_embeddings_of_other_pictures_are_refused() -> None:
    drawn = draw_pictures(30)
    with pytest.raises(ValueError, match="do not fit together"):
        train(snapshot_of(drawn.targets), drawn.embeddings[1:], config=QUICK)


def test_a_config_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"folds 1 \(2 or more\)"):
        TrainConfig(folds=1)


def test_progress_reaches_its_total() -> None:
    drawn = draw_pictures(40)
    told: list[tuple[int, int]] = []
    train(
        snapshot_of(drawn.targets),
        drawn.embeddings,
        config=QUICK,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 6) for done in range(1, 7)]


def test_calibration_makes_log_odds_of_logits() -> None:
    """Logits of two normal classes, overconfident threefold and off by one."""
    rng = np.random.default_rng(0)
    target = (rng.random((4000, 1)) < 0.3).astype(np.float32)
    log_odds = 2 * (target - 0.5) * 2 + 2 * rng.normal(size=target.shape)
    held_out = HeldOut.of((3 * log_odds + 1)[None].astype(np.float32), target)
    slope, shift = held_out.calibration(held_out.best_strengths(0))
    assert slope[0] == pytest.approx(1 / 3, rel=0.1)
    assert shift[0] == pytest.approx(-1 / 3, abs=0.1)


def embed_photographs(folder: Path, weights: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Embed with plain open_clip, in the order of the pictures' sha256."""
    import open_clip
    import torch

    encoder, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{weights}")
    encoder.eval()
    paths = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob("*.jpg")}
    ordered = [path for _, path in sorted(paths.items())]
    pictures = [preprocess(Image.open(path).convert("RGB")) for path in ordered]
    with torch.no_grad():
        rows = [
            encoder.encode_image(torch.stack(pictures[start : start + 32]), normalize=True).numpy()
            for start in range(0, len(pictures), 32)
        ]
    return [path.name for path in ordered], np.concatenate(rows)


@pytest.mark.slow
def test_turntables_and_records_are_told_apart(shared: Path) -> None:
    """The founding example, on real photographs: average precision near .92 and .94."""
    folder = shared / "data" / "turntable_vinyl"
    names, embeddings = embed_photographs(folder / "images", shared / "weights" / "standin")
    with (folder / "labels.csv").open() as file:
        truth = {row["filename"]: row["labels"].split(";") for row in csv.DictReader(file)}
    sha256s = [
        hashlib.sha256((folder / "images" / name).read_bytes()).hexdigest() for name in names
    ]
    groups = kin_groups(sha256s, embeddings, {})
    labels = ("turntable", "vinyl")
    snapshot = Snapshot(
        labels=labels,
        examples=tuple(
            Example(
                sha256=sha256,
                group=groups[sha256],
                answers={label: label in truth[name] for label in labels},
            )
            for sha256, name in zip(sha256s, names, strict=True)
        ),
        encoder_id="standin",
        table_versions={},
        seed=0,
    )
    card = train(snapshot, embeddings, config=TrainConfig()).card
    turntable, vinyl = (label.average_precision.value for label in card.evaluation.labels)
    assert turntable > 0.88
    assert vinyl > 0.90
