"""Encoders that were fine-tuned for the project, in the bucket; and which encoder a model answers with.

    encoders/<id>/tuned.json                how it was made; written last
    encoders/<id>/open_clip_config.json, *-tuned.safetensors    what `load_encoder` takes
    tunings/<run>.json                      the same record by what was asked, also where nothing came of it

project.toml names the encoder that words and pictures are compared by: pre-labels, search, kin and
duplicates are its own. A model answers with the encoder that its card names, which is the project's
or one that was fine-tuned from it; the nightly flow embeds with that one what lacks its vectors.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from flows.encoders import EncoderSource
from flows.errors import Corrupt, Permanent
from flows.objects import ObjectStore
from flows.registry import Registry
from flows.workspace import Workspace
from model.encoder import EncoderConfig, encoder_id
from model.fine_tune_config import Look

Backend = Literal["torch", "onnx", "torch-bf16"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """One run of fine-tuning: what was asked, on which pictures, and what came of it."""

    run: str
    base_id: str
    """The project's encoder, from which it began."""
    encoder_id: str | None
    """The new encoder; None where no weights were better on the watched pictures."""
    backend: Backend
    files: tuple[str, ...]
    snapshot_id: str
    settings: dict[str, str | int | float | bool | None]
    fitted: tuple[str, ...]
    watched: tuple[str, ...]
    judged: int
    looks: tuple[Look, ...]
    best_step: int
    seconds: float


_TUNING = TypeAdapter(Tuning)


class TunedSource(EncoderSource):
    """A fine-tuned encoder as `EncoderSource` gives the project's; its files come when it is loaded."""

    def __init__(self, workspace: Workspace, tuning: Tuning) -> None:
        super().__init__(workspace)
        if tuning.encoder_id is None:
            raise ValueError(f"fine-tuning run {tuning.run} made no encoder")
        self._id = tuning.encoder_id
        self._tuning = tuning
        self.seen = frozenset((*tuning.fitted, *tuning.watched))

    def kin_id(self) -> str:
        """Return the id of the encoder that it began as: itself, it finds alike what it was taught."""
        return self._tuning.base_id

    def config(self) -> EncoderConfig:
        """Return what to load, its files fetched into the cache. Raises Corrupt for other files."""
        if self._chosen is None:
            folder = self._given.cache / self.id() / "checkpoint"
            config = EncoderConfig(
                checkpoint=folder, backend=self._tuning.backend, cache=self._given.cache
            )
            for name in self._tuning.files:
                if not (folder / name).exists():
                    self._fetch(f"encoders/{self.id()}/{name}", folder / name)
            if encoder_id(config) != self.id():
                raise Corrupt(
                    f"{folder} does not hold encoder {self.id()}: remove the folder, and it is "
                    "fetched again"
                )
            self._chosen = config
        return self._chosen

    def _fetch(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            self._store.download(key, file)
        unfinished.replace(path)


def publish(store: ObjectStore, tuning: Tuning, folder: Path | None) -> None:
    """Write a run's record, and before it, where it made an encoder, the files in `folder`."""
    # Not by pydantic, which writes the nan of a run that has diverged as null.
    record = json.dumps(dataclasses.asdict(tuning), indent=2).encode()
    if tuning.encoder_id is not None and folder is not None:
        for name in tuning.files:
            with (folder / name).open("rb") as file:
                store.upload(f"encoders/{tuning.encoder_id}/{name}", file)
        store.put(f"encoders/{tuning.encoder_id}/tuned.json", record)
    store.put(f"tunings/{tuning.run}.json", record)


def tuning_of_run(store: ObjectStore, run: str) -> Tuning | None:
    """Return the record of a run that has ended, None before."""
    return _read(store, f"tunings/{run}.json")


def source_of(workspace: Workspace, wanted_id: str) -> EncoderSource:
    """Return the encoder of that id: the project's, or one that was fine-tuned for it.

    Raises Permanent when it is neither.
    """
    source = EncoderSource(workspace)
    if source.id() == wanted_id:
        return source
    tuning = _read(workspace.store, f"encoders/{wanted_id}/tuned.json")
    if tuning is None:
        raise Permanent(
            f"embeddings of {wanted_id} are wanted, but project.toml names an encoder whose id is "
            f"{source.id()}, and none of that id was fine-tuned here: run `cratedig label` and "
            "`cratedig train` again"
        )
    return TunedSource(workspace, tuning)


def production_source(workspace: Workspace) -> EncoderSource:
    """Return the encoder of the model in production if it was fine-tuned from the project's.

    Else the project's: before the first model, and after project.toml has named another encoder.
    """
    source = EncoderSource(workspace)
    registry = Registry(workspace.store, workspace.project.name)
    version = registry.production()
    if version is None:
        return source
    tuning = _read(workspace.store, f"encoders/{registry.card(version).encoder_id}/tuned.json")
    if tuning is None or tuning.base_id != source.id():
        return source
    return TunedSource(workspace, tuning)


def _read(store: ObjectStore, key: str) -> Tuning | None:
    return None if store.head(key) is None else _TUNING.validate_json(store.get(key))
