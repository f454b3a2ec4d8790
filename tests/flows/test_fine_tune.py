"""A fine-tuned encoder in a real bucket: judged on what it never saw, and used by all that follows."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from flows.catalog import Catalog
from flows.encoders import EncoderSource
from flows.errors import Corrupt, Permanent
from flows.fine_tune import FineTuneResult, fine_tune_and_train
from flows.imports import import_pictures
from flows.models import export_model, promote_model
from flows.objects import ObjectStore
from flows.predict import predict
from flows.prelabel import prelabel
from flows.project import Project
from flows.registry import Registry
from flows.review import Answered, apply_decisions
from flows.search import query_vector, search
from flows.snapshots import make_snapshot
from flows.train import train
from flows.tuned_encoders import TunedSource, production_source, source_of, tuning_of_run
from flows.workspace import Workspace
from model.data import Snapshot
from model.fine_tune_config import FineTuneConfig
from tests.conftest import RunningStore
from tests.flows.conftest import new_bucket
from tests.flows.line import WEIGHTS

pytestmark = pytest.mark.slow

PROJECT = f"""
name = "tuned"
[encoder]
checkpoint = "{WEIGHTS}"
[[labels]]
name = "ants"
[[labels]]
name = "bees"
[train]
repeats = 1
folds = 3
"""
# Steps so small that one of the first makes things better on the few pictures that are watched.
CONFIG = FineTuneConfig(blocks=1, epochs=6, batch_size=8, learning_rate=1e-4)
DECIDED, LATER = 60, 4


def photographs(shared: Path) -> dict[str, tuple[bytes, str]]:
    """Return photographs by sha256, with what is on them: ants and bees in turn."""
    folder = shared / "data" / "hymenoptera"
    found: dict[str, list[tuple[str, tuple[bytes, str]]]] = {"ants": [], "bees": []}
    for line in (folder / "labels.csv").read_text().splitlines()[1:]:
        name, label = line.split(",")[:2]
        body = (folder / "images" / name).read_bytes()
        found[label].append((hashlib.sha256(body).hexdigest(), (body, label)))
    pairs = zip(found["ants"], found["bees"], strict=False)
    return dict(each for pair in pairs for each in pair)


def bring_in(workspace: Workspace, folder: Path, pictures: dict[str, tuple[bytes, str]]) -> None:
    folder.mkdir()
    for sha256, (body, _) in pictures.items():
        (folder / f"{sha256[:8]}.jpg").write_bytes(body)
    import_pictures(workspace, str(folder))


def decide(workspace: Workspace, pictures: dict[str, tuple[bytes, str]]) -> None:
    answers = [
        Answered(image=sha256, label=label, answer="yes" if label == shown else "no")
        for sha256, (_, shown) in pictures.items()
        for label in ("ants", "bees")
    ]
    apply_decisions(workspace, answers, who="tests")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A project whose encoder was fine-tuned once, and that got new pictures afterwards."""

    workspace: Workspace
    result: FineTuneResult
    said: list[str]
    snapshot: Snapshot
    later: dict[str, tuple[bytes, str]]

    @property
    def encoder_id(self) -> str:
        """The new encoder's; fine-tuning these photographs makes one."""
        assert self.result.encoder_id is not None
        return self.result.encoder_id


@pytest.fixture(scope="module")
def tuned(
    store_server: RunningStore, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tuned:
    root = tmp_path_factory.mktemp("tuned")
    settings = new_bucket(store_server)
    (root / "project.toml").write_text(PROJECT)
    store = ObjectStore(settings)
    workspace = Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )
    pictures = list(photographs(shared).items())
    now, later = dict(pictures[:DECIDED]), dict(pictures[DECIDED : DECIDED + LATER])
    bring_in(workspace, root / "now", now)
    prelabel(workspace)
    decide(workspace, now)
    said: list[str] = []
    result = fine_tune_and_train(workspace, CONFIG, say=said.append)
    snapshot = make_snapshot(workspace, EncoderSource(workspace).id())
    bring_in(workspace, root / "later", later)
    promote_model(workspace, result.model.version)
    return Tuned(workspace=workspace, result=result, said=said, snapshot=snapshot, later=later)


def test_the_model_is_judged_on_pictures_alone_that_its_encoder_never_saw(tuned: Tuned) -> None:
    tuning = tuning_of_run(tuned.workspace.store, tuned.result.run)
    assert tuning is not None
    registry = Registry(tuned.workspace.store, "tuned")
    model = registry.load(tuned.result.model.version)
    assert model.card.encoder_id == tuned.encoder_id
    group_of = dict(zip(tuned.snapshot.sha256s, tuned.snapshot.groups, strict=True))
    seen = {group_of[each] for each in (*tuning.fitted, *tuning.watched)}
    assert model.sha256s
    assert not seen & {group_of[each] for each in model.sha256s}
    assert len(tuning.fitted) + len(tuning.watched) + len(model.sha256s) == DECIDED
    assert "encoder was not fine-tuned on" in model.card.fold_scheme


def test_it_was_compared_with_the_head_alone_and_the_reason_is_kept(tuned: Tuned) -> None:
    """The head on the encoder as it was is trained first: fine-tuning never wins for want of a rival."""
    verdict = tuned.result.model.verdict
    registry = Registry(tuned.workspace.store, "tuned")
    assert verdict.champion is not None
    assert registry.card(verdict.champion).encoder_id == EncoderSource(tuned.workspace).id()
    assert verdict.difference is not None
    assert verdict.champion in verdict.reason


def test_how_long_it_takes_is_said_and_nothing_is_left_in_flight(tuned: Tuned) -> None:
    assert [each.startswith("fine-tuning takes") for each in tuned.said] == [True]
    assert not list(tuned.workspace.scratch.glob("fine-tune-*"))


def test_the_same_is_not_done_twice(tuned: Tuned) -> None:
    said: list[str] = []
    again = fine_tune_and_train(tuned.workspace, CONFIG, say=said.append)
    assert not said
    assert again.encoder_id == tuned.encoder_id
    assert not again.model.trained
    assert again.model.version == tuned.result.model.version


def test_a_night_embeds_with_the_encoder_of_the_model_in_production(tuned: Tuned) -> None:
    result = predict(tuned.workspace)
    assert result.version == tuned.result.model.version
    assert result.predicted == DECIDED + LATER
    there, _ = tuned.workspace.catalog.embeddings(tuned.encoder_id, sorted(tuned.later))
    assert there == sorted(tuned.later)


def test_what_is_decided_later_is_learned_on_the_encoder_in_production(tuned: Tuned) -> None:
    """Also before any night or label run has embedded it; what the encoder saw stays unjudged."""
    decide(tuned.workspace, tuned.later)
    result = train(tuned.workspace)
    model = Registry(tuned.workspace.store, "tuned").load(result.version)
    assert model.card.encoder_id == tuned.encoder_id
    assert model.card.examples == DECIDED + LATER
    tuning = tuning_of_run(tuned.workspace.store, tuned.result.run)
    assert tuning is not None
    assert not {*tuning.fitted, *tuning.watched} & set(model.sha256s)


def test_words_and_pictures_can_be_searched_by_in_its_space(tuned: Tuned) -> None:
    source = source_of(tuned.workspace, tuned.encoder_id)
    base = EncoderSource(tuned.workspace)
    vector_D = query_vector(source, words="a bee")
    np.testing.assert_array_equal(vector_D, query_vector(base, words="a bee"))
    assert len(search(tuned.workspace, source, vector_D, limit=5)) == 5


def test_another_machine_fetches_it_and_refuses_a_damaged_copy(
    tuned: Tuned, tmp_path: Path
) -> None:
    (tmp_path / "project.toml").write_text(PROJECT)
    elsewhere = dataclasses.replace(tuned.workspace, root=tmp_path)
    source = source_of(elsewhere, tuned.encoder_id)
    assert isinstance(source, TunedSource)
    assert source.load().id == tuned.encoder_id
    folder = source.config().checkpoint
    assert folder is not None
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(Corrupt, match="remove the folder"):
        source_of(elsewhere, tuned.encoder_id).load()


def test_an_encoder_of_nobody_is_refused_with_what_to_do(tuned: Tuned) -> None:
    with pytest.raises(Permanent, match="none of that id was fine-tuned here"):
        source_of(tuned.workspace, "other-0123456789ab")


def test_production_goes_back_to_the_projects_encoder_with_the_model(tuned: Tuned) -> None:
    assert production_source(tuned.workspace).id() == tuned.encoder_id
    champion = tuned.result.model.verdict.champion
    assert champion is not None
    promote_model(tuned.workspace, champion)
    try:
        assert production_source(tuned.workspace).id() == EncoderSource(tuned.workspace).id()
    finally:
        promote_model(tuned.workspace, tuned.result.model.version)


def test_the_model_on_it_is_exported(tuned: Tuned, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    version = tuned.result.model.version
    assert export_model(tuned.workspace, path, version, kind="torchscript") == version
    assert path.stat().st_size > 0
