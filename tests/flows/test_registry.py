"""The registry: published whole or not at all, promoted by conditional put alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flows.errors import Permanent, Transient
from flows.models import compare_models
from flows.objects import ObjectStore
from flows.registry import Registry
from flows.train import promote_if_better
from model.checkpoint import TrainedModel
from model.data import Example, Snapshot
from model.train import TrainConfig, train

CONFIG = TrainConfig(folds=3, repeats=1, resamples=200)


def _snapshot(seed: int, labels: tuple[str, ...] = ("vinyl",)) -> Snapshot:
    return Snapshot(
        labels=labels,
        examples=tuple(
            Example(
                sha256=f"{n:064x}",
                group=f"{n:064x}",
                answers=dict.fromkeys(labels, n % 2 == 0),
            )
            for n in range(60)
        ),
        encoder_id="encoder-1",
        table_versions={},
        seed=seed,
    )


def _embeddings(spread: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Two clouds of unit vectors; the wider they spread, the harder they are to tell apart."""
    rng = np.random.default_rng(3)
    centres = np.where(np.arange(60)[:, None] % 2 == 0, 1.0, -1.0) * np.ones(8)
    vectors = centres + spread * rng.normal(size=(60, 8))
    unit: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def good() -> TrainedModel:
    """A model that tells the clouds apart."""
    return train(_snapshot(0), _embeddings(0.2), config=CONFIG)


@pytest.fixture(scope="module")
def poor() -> TrainedModel:
    """A model that was trained on almost nothing but noise."""
    return train(_snapshot(1), _embeddings(20.0), config=CONFIG)


def test_a_published_model_is_read_back(object_store: ObjectStore, good: TrainedModel) -> None:
    """Weights, card and out-of-fold scores survive the bucket."""
    registry = Registry(object_store, "records")
    registry.publish(good)
    again = registry.load(good.card.version)
    assert again.card == good.card
    np.testing.assert_array_equal(again.head.weight_LD, good.head.weight_LD)
    assert list(registry.versions()) == [good.card.version]


def test_a_version_without_its_card_is_not_there(
    object_store: ObjectStore, good: TrainedModel
) -> None:
    """A kill in the middle of publishing leaves nothing that anybody would load."""
    registry = Registry(object_store, "records")
    registry.publish(good)
    object_store.delete(f"models/records/{good.card.version}/card.json")
    assert not registry.has(good.card.version)
    assert list(registry.versions()) == []
    with pytest.raises(Permanent, match="no model version"):
        registry.promote(good.card.version, instead_of=None, reason="test")


def test_the_first_model_is_promoted(object_store: ObjectStore, good: TrainedModel) -> None:
    registry = Registry(object_store, "records")
    registry.publish(good)
    verdict = promote_if_better(registry, good, _snapshot(0))
    assert (verdict.promoted, registry.production()) == (True, good.card.version)


def test_a_better_challenger_takes_over_and_a_worse_one_does_not(
    object_store: ObjectStore, good: TrainedModel, poor: TrainedModel
) -> None:
    """Both are judged on the same pictures; the reason is told either way."""
    registry = Registry(object_store, "records")
    for model in (poor, good):
        registry.publish(model)
    promote_if_better(registry, poor, _snapshot(1))
    better = promote_if_better(registry, good, _snapshot(0))
    assert better.promoted
    assert better.difference is not None
    assert better.difference.low > 0
    worse = promote_if_better(registry, poor, _snapshot(1))
    assert not worse.promoted
    assert good.card.version in worse.reason
    assert registry.production() == good.card.version


def test_models_without_a_label_in_common_are_not_compared(good: TrainedModel) -> None:
    other = train(_snapshot(0, labels=("turntable",)), _embeddings(0.2), config=CONFIG)
    assert compare_models(other, good, _snapshot(0, labels=("turntable",))) is None


def test_of_many_promotions_at_once_one_wins(object_store: ObjectStore, good: TrainedModel) -> None:
    """The others are told to compare again: nobody overwrites what they have not seen."""
    registry = Registry(object_store, "records")
    registry.publish(good)

    def promote(_: int) -> bool:
        try:
            registry.promote(good.card.version, instead_of=None, reason="race")
        except Transient:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(promote, range(8))) == 1
