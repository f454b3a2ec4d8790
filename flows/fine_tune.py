"""Fine-tune the project's encoder on what was decided, judge a head on it, promote it if it is better.

A third of the decided pictures is kept from the encoder (`model.fine_tune_parts`): on them alone a
model on it is judged, and compared with the one in production. What a run has in flight lies in its
folder of `Workspace.scratch`; a run that is killed is carried on by asking for it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from flows.encoders import EncoderSource
from flows.pixel_feed import PixelFeed, Unreadable
from flows.progress import Progress, Watch, unwatched
from flows.snapshots import make_snapshot
from flows.train import DEFAULT_RULE, PromotionRule, TrainResult, train, train_on
from flows.tuned_encoders import Backend, TunedSource, Tuning, publish, tuning_of_run
from flows.workspace import Workspace
from model.clip_files import EncoderConfig, resolve
from model.data import Snapshot
from model.encoder import encoder_id
from model.fine_tune import FineTuned, Pictures, fine_tune, prepared
from model.fine_tune_config import FineTuneConfig
from model.fine_tune_parts import FITTED, JUDGED, WATCHED, deal_parts
from model.fine_tune_state import write_encoder
from model.preprocess import Preprocessing
from model.train import fit


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneResult:
    """What a run of fine-tuning made, and whether it went into production."""

    run: str
    encoder_id: str | None
    """The new encoder; None where fine-tuning made nothing better."""
    fitted: int
    watched: int
    judged: int
    steps: int
    watched_loss: tuple[float, float]
    """Before and after, on the watched pictures."""
    model: TrainResult
    """On the new encoder; where there is none, the head on the encoder as it was."""
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        before, after = self.watched_loss
        if self.encoder_id is None:
            return (
                f"fine-tuning made nothing better: loss {before:.3f} on {self.watched} watched "
                f"pictures, and not less after {self.steps} steps; {self.model}"
            )
        return (
            f"fine-tuned {self.encoder_id} on {self.fitted} pictures, loss on {self.watched} watched "
            f"{before:.3f} to {after:.3f} in {self.steps} steps, {self.judged} kept to judge by; "
            f"{self.model}"
        )


def fine_tune_and_train(
    workspace: Workspace,
    config: FineTuneConfig,
    *,
    rule: PromotionRule = DEFAULT_RULE,
    watch: Watch = unwatched,
    say: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Train a head as ever, fine-tune, train a head on the new encoder, and promote the better.

    `say` is told how long fine-tuning will take. A run that was asked for before, on the same
    snapshot with the same settings, is not done again. Raises TooFewExamples where pictures do not
    suffice for the three parts, and FineTuneUnsupported for a tower without blocks.
    """
    started = time.monotonic()
    champion = train(workspace, rule=rule, watch=watch)
    source = EncoderSource(workspace)
    snapshot = make_snapshot(workspace, source.id())
    asked = [snapshot.id, source.id(), dataclasses.asdict(config)]
    run = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    tuning = tuning_of_run(workspace.store, run)
    if tuning is None:
        workspace.store.put_once(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())
        tuning = _tune(workspace, source, snapshot, run, config, watch, say)
    if (in_flight := _folder(workspace, run)).exists():
        shutil.rmtree(in_flight)
    model = champion
    if tuning.encoder_id is not None:
        model = train_on(workspace, TunedSource(workspace, tuning), rule=rule, watch=watch)
    best = next(each for each in tuning.looks if each.step == tuning.best_step)
    return FineTuneResult(
        run=run,
        encoder_id=tuning.encoder_id,
        fitted=len(tuning.fitted),
        watched=len(tuning.watched),
        judged=tuning.judged,
        steps=tuning.looks[-1].step,
        watched_loss=(tuning.looks[0].watched_loss, best.watched_loss),
        model=model,
        seconds=round(time.monotonic() - started, 2),
    )


def _tune(
    workspace: Workspace,
    source: EncoderSource,
    snapshot: Snapshot,
    run: str,
    config: FineTuneConfig,
    watch: Watch,
    say: Callable[[str], None],
) -> Tuning:
    started = time.monotonic()
    part_N = deal_parts(snapshot)
    folder = _folder(workspace, run)
    folder.mkdir(parents=True, exist_ok=True)
    given = source.config()
    seen = source.load().preprocessing
    targets_NL, sha256s = snapshot.targets_NL(), snapshot.sha256s
    pictures = {}
    for part, name, how in ((FITTED, "fitted", prepared(seen)), (WATCHED, "watched", seen)):
        rows = np.flatnonzero(part_N == part)
        with watch(f"read {name}") as progress:
            pixels = _pixels(
                workspace, [sha256s[row] for row in rows], how, folder / f"{name}.npy", progress
            )
        answers_NL = targets_NL[rows]
        answers_NL[~pixels.any((1, 2, 3))] = np.nan
        pictures[part] = Pictures(pixels=pixels, targets_NL=answers_NL)
    fitted_N = np.flatnonzero(part_N == FITTED)
    _, embeddings_ND = workspace.catalog.embeddings(source.id(), [sha256s[row] for row in fitted_N])
    groups = snapshot.groups
    head = fit(
        embeddings_ND,
        targets_NL[fitted_N],
        labels=snapshot.labels,
        encoder_id=source.id(),
        config=workspace.project.train_config(),
        text_LD=source.prompts(workspace.project.taxonomy()).zero_shot_LD,
        groups=[groups[row] for row in fitted_N],
    )
    with watch("fine-tune") as progress:
        result = fine_tune(
            given,
            pictures[FITTED],
            pictures[WATCHED],
            head,
            config,
            state=folder / "state",
            on_estimate=lambda estimate: say(str(estimate)),
            on_progress=progress,
        )
    tuning = Tuning(
        run=run,
        base_id=source.id(),
        encoder_id=None,
        backend=_backend(given),
        files=(),
        snapshot_id=snapshot.id,
        settings=dataclasses.asdict(config),
        fitted=tuple(sha256s[row] for row in fitted_N),
        watched=tuple(sha256s[row] for row in np.flatnonzero(part_N == WATCHED)),
        judged=int((part_N == JUDGED).sum()),
        looks=result.looks,
        best_step=result.best.step,
        seconds=round(time.monotonic() - started, 2),
    )
    made = None
    if result.improved:
        made = folder / "encoder"
        tuning = _with_encoder(tuning, result, given, made)
    publish(workspace.store, tuning, made)
    return tuning


def _folder(workspace: Workspace, run: str) -> Path:
    return workspace.scratch / f"fine-tune-{run}"


def _with_encoder(tuning: Tuning, result: FineTuned, base: EncoderConfig, folder: Path) -> Tuning:
    """Write the new encoder's files into `folder`; return the record with its id and their names."""
    write_encoder(result.model, resolve(base), folder)
    made = EncoderConfig(checkpoint=folder, backend=tuning.backend)
    names = sorted(path.name for path in folder.iterdir())
    return dataclasses.replace(tuning, encoder_id=encoder_id(made), files=tuple(names))


def _backend(config: EncoderConfig) -> Backend:
    """Return what runs the new encoder: as the project's, but never in 8 bits, which it was not tried in."""
    if config.backend in ("onnx", "onnx-int8"):
        return "onnx"
    return "torch-bf16" if config.backend == "torch-bf16" else "torch"


def _pixels(
    workspace: Workspace,
    sha256s: Sequence[str],
    preprocessing: Preprocessing,
    path: Path,
    progress: Progress,
) -> NDArray[np.uint8]:
    """Return the pictures' pixels, uint8 (N, H, W, C), as a file that is mapped, not read.

    One that no longer decodes, though it had an embedding, is all zero: it is to teach nothing.
    """
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        shape = (len(sha256s), *preprocessing.size, 3)
        pixels = open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        catalog = workspace.catalog
        places = catalog.places(sha256s)
        max_pixels = workspace.project.policy().max_pixels
        with PixelFeed(preprocessing, max_pixels=max_pixels) as feed:
            found = feed.pixels(
                sha256s, lambda each: catalog.read_image_bytes(each, places.get(each))
            )
            for row, (_, seen) in enumerate(found):
                pixels[row] = 0 if isinstance(seen, Unreadable) else seen
                progress(row + 1, len(sha256s))
        pixels.flush()
        del pixels
        unfinished.replace(path)
    return np.asarray(np.load(path, mmap_mode="r"))
