"""Whether everything that the tables and manifests point at is there, and is what it says it is."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from flows import observe
from flows.errors import CratedigError, Permanent, Transient
from flows.predictions import manifests, versions
from flows.progress import Watch, unwatched
from flows.registry import Registry
from flows.shards import Place
from flows.workspace import Workspace
from model.errors import ModelError

AT_ONCE = 8
"""Requests to the store: one waits while others are answered."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is not as it should be."""

    kind: str
    """`image`, `prediction` or `model`."""
    which: str
    said: str

    def __str__(self) -> str:
        return f"{self.kind} {self.which}: {self.said}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """How much was looked at, and how much of it is wrong, by kind."""

    images: int
    of_images: int
    parts: int
    models: int
    troubles: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        wrong = ", ".join(f"{kind} {count}" for kind, count in self.troubles.items())
        return (
            f"verified images {self.images} of {self.of_images} prediction parts {self.parts} "
            f"models {self.models} troubles {wrong or 'none'} in {self.seconds:.0f} s"
        )


@observe.stage("verify")
def verify(
    workspace: Workspace,
    *,
    sample: int | None = None,
    seed: int = 0,
    on_trouble: Callable[[Trouble], None] = lambda trouble: None,
    watch: Watch = unwatched,
) -> VerifyResult:
    """Read the bytes of every picture, or of about `sample` by lot, and check them against its id.

    Published parts must be there, and every model must load. `on_trouble` is told of each trouble as
    it is found. Raises what `ObjectStore` does when the store itself fails.
    """
    started = time.monotonic()
    troubles: Counter[str] = Counter()

    def tell(trouble: Trouble) -> None:
        troubles[trouble.kind] += 1
        on_trouble(trouble)

    parts = models = looked_at = 0
    for version in versions(workspace.store):
        for manifest in manifests(workspace.store, version):
            for part in manifest.parts:
                parts += 1
                if workspace.store.head(part) is None:
                    said = f"manifest {manifest.number} of model {version} names it; it is gone"
                    tell(Trouble(kind="prediction", which=part, said=said))
    registry = Registry(workspace.store, workspace.project.name)
    for version in registry.versions():
        models += 1
        try:
            registry.load(version)
        except (Permanent, ModelError) as error:
            tell(Trouble(kind="model", which=version, said=str(error)))
    total = workspace.catalog.image_count()
    wanted = total if sample is None else min(sample, total)
    share = 1.0 if wanted == total else wanted / total
    with watch("verify") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        for rows in _places(workspace, share, seed):
            for trouble in pool.map(lambda row: _image_trouble(workspace, *row), rows):
                looked_at += 1
                if trouble is not None:
                    tell(trouble)
            progress(looked_at, wanted)
    return VerifyResult(
        images=looked_at,
        of_images=total,
        parts=parts,
        models=models,
        troubles=dict(sorted(troubles.items())),
        seconds=round(time.monotonic() - started, 2),
    )


def _places(workspace: Workspace, share: float, seed: int) -> Iterator[list[tuple[str, Place]]]:
    """Yield, in batches, where the bytes of that share of the images lie, drawn by lot."""
    rng = np.random.default_rng(seed)
    for batch in workspace.catalog.image_batches(["sha256", "shard", "offset", "size"]):
        lot_B = rng.random(batch.num_rows) < share
        yield [
            (record.pop("sha256"), Place(**record))
            for record, drawn in zip(batch.to_pylist(), lot_B.tolist(), strict=True)
            if drawn
        ]


def _image_trouble(workspace: Workspace, sha256: str, place: Place) -> Trouble | None:
    try:
        data = workspace.catalog.read_image_bytes(sha256, place)
    except Transient:
        raise  # the store fails, not the picture
    except CratedigError as error:
        return Trouble(kind="image", which=sha256, said=str(error))
    if len(data) != place.size:
        said = f"{place.shard} ends {place.size - len(data)} bytes before it does"
        return Trouble(kind="image", which=sha256, said=said)
    return None
