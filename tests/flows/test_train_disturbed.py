"""A training whose store fails, or whose process is killed, ends in the same version or in one error.

Whatever happens, what is in production is whole, and is what it was before or what an undisturbed
training promotes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.errors import CratedigError, StoreRefused, StoreUnavailable
from flows.registry import Registry
from flows.settings import Settings
from flows.train import PromotionRule, TrainResult, train
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.archives import jpeg
from tests.flows.catalog_rows import decision, image
from tests.flows.conftest import new_bucket
from tests.flows.killing import Point, after, killed_at, put
from tests.flows.nights import add_pictures, open_project
from tests.flows.store_proxy import FAULTS, Fault, StoreProxy, Strikes, now_and_then, run_proxy

pytestmark = pytest.mark.slow

QUICK = "[train]\nrepeats = 1\n"
ALWAYS = PromotionRule(lowest=-2.0, mean=-2.0)
"""So that it is not the rule that keeps a model from production."""

POINTS = {
    "the snapshot": put("/snapshots/"),
    "the page": put("/models/", "card.html"),
    "the head": put("/models/", "head.safetensors"),
    "the scores out of fold": put("/models/", "out_of_fold.json"),
    "the card": put("/models/", "card.json"),
    "what is in production": put("/models/", "aliases.json"),
}
"""What a training writes, in order."""


@pytest.fixture
def proxy(store_server: RunningStore) -> Iterator[StoreProxy]:
    with run_proxy(store_server) as proxy:
        yield proxy


def decided_at(root: Path, settings: Settings) -> Workspace:
    """Return a project whose first model is in production, and with decisions made since."""
    root.mkdir()
    workspace = open_project(root, settings, QUICK)
    shown = [dataclasses.replace(image(n, minute=-1), thumbnail=jpeg(n)) for n in range(80)]
    workspace.catalog.add_images(shown)
    add_pictures(workspace, range(80))  # the vectors; of images the earlier ones stand
    decide(workspace, range(60))
    train(workspace)
    decide(workspace, range(60, 80))
    return workspace


def decide(workspace: Workspace, numbers: range) -> None:
    """Say of even numbers that they are vinyl."""
    workspace.catalog.add_decisions(
        decision(number, "yes" if number % 2 == 0 else "no") for number in numbers
    )


def run_train(root: Path, settings: Settings) -> TrainResult:
    """Train as a process of its own does."""
    return train(open_project(root, settings, QUICK), rule=ALWAYS)


def files(workspace: Workspace, version: str) -> dict[str, bytes]:
    """Return what decides the answers of a version: a card tells the time, too."""
    prefix = f"models/nights/{version}/"
    names = ("head.safetensors", "out_of_fold.json")
    return {name: workspace.store.get(f"{prefix}{name}") for name in names}


def production(workspace: Workspace) -> str | None:
    """Return what is in production, having read that and every other version that is published."""
    registry = Registry(workspace.store, "nights")
    for version in registry.versions():
        assert registry.load(version).card.version == version
    return registry.production()


@pytest.mark.parametrize("fault", FAULTS)
def test_through_a_store_that_fails_now_and_then_it_makes_the_same_version(
    fault: Fault,
    bucket: Settings,
    proxy: StoreProxy,
    store_server: RunningStore,
    tmp_path: Path,
) -> None:
    """One request in eight: the weights are the same, and the model is promoted."""
    calm = decided_at(tmp_path / "calm", new_bucket(store_server))
    expected = train(calm, rule=ALWAYS)
    workspace = decided_at(tmp_path / "project", bucket)
    struck: list[str] = []
    proxy.strikes = noted(now_and_then(fault), struck)
    through = bucket.model_copy(update={"endpoint": proxy.endpoint})

    result = run_train(workspace.root, through)

    assert struck
    assert (result.version, result.verdict.promoted) == (expected.version, True)
    assert files(workspace, result.version) == files(calm, expected.version)
    assert production(workspace) == expected.version


def noted(strikes: Strikes, struck: list[str]) -> Strikes:
    """Strike as told, and write down where."""

    def strike(method: str, path: str) -> Fault | None:
        fault = strikes(method, path)
        if fault is not None:
            struck.append(path)
        return fault

    return strike


def from_then_on(fault: Fault, point: Point) -> Strikes:
    """Let every request fail from the first that `point` names."""
    failing = False

    def strike(method: str, path: str) -> Fault | None:
        nonlocal failing
        failing = failing or point(method, path)
        return fault if failing else None

    return strike


@pytest.mark.parametrize(
    ("fault", "error", "said", "points"),
    [
        ("expired", StoreRefused, "the keys have expired", [3, 12, 24, *POINTS]),
        ("503", StoreUnavailable, "again and again", [12, "the head", "what is in production"]),
        ("reset", StoreUnavailable, "broke off|cannot be reached", [12, "the card"]),
    ],
)
def test_a_store_that_fails_for_good_wherever_it_is_gives_one_error_and_promotes_nothing(
    fault: Fault,
    error: type[CratedigError],
    said: str,
    points: list[str | int],
    bucket: Settings,
    proxy: StoreProxy,
    tmp_path: Path,
) -> None:
    """While tables are read, and before each thing that is written; afterwards it trains as ever."""
    workspace = decided_at(tmp_path / "project", bucket)
    champion = production(workspace)
    through = bucket.model_copy(update={"endpoint": proxy.endpoint})
    for name in points:
        point = after(name) if isinstance(name, int) else POINTS[name]
        proxy.strikes = from_then_on(fault, point)
        with pytest.raises(error, match=said):
            run_train(workspace.root, through)
        assert production(workspace) == champion, name
    proxy.strikes = lambda method, path: None
    result = run_train(workspace.root, through)
    assert result.verdict.promoted
    assert production(workspace) == result.version != champion


def test_a_training_that_is_killed_wherever_it_writes_is_carried_to_the_same_end(
    bucket: Settings, proxy: StoreProxy, store_server: RunningStore, tmp_path: Path
) -> None:
    """Before or after the store has done it: the model is promoted whole, or not at all.

    After the card nothing is written again: the next run only promotes.
    """
    calm = decided_at(tmp_path / "calm", new_bucket(store_server))
    expected = train(calm, rule=ALWAYS)
    workspace = decided_at(tmp_path / "project", bucket)
    champion = production(workspace)
    through = bucket.model_copy(update={"endpoint": proxy.endpoint})
    last = "what is in production"
    kills = [*((name, False) for name in POINTS if name != last), ("the card", True)]
    kills += [(last, False), (last, True)]
    for name, answered in kills:
        arguments = (workspace.root, through)
        assert killed_at(proxy, POINTS[name], run_train, *arguments, answered=answered), name
        promoted = (name, answered) == (last, True)
        assert production(workspace) == (expected.version if promoted else champion)
    assert run_train(workspace.root, bucket).version == expected.version
    assert production(workspace) == expected.version
    assert files(workspace, expected.version) == files(calm, expected.version)
