"""Archives of small drawn pictures, and a project whose prompts label them, for the tests."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from flows.archive.job import Wanted
from flows.archive.label import LEASE_S, ArchiveResult, label_archive
from flows.archive.places import output_at
from flows.archive.rows import Format
from flows.catalog import Catalog
from flows.leases import MIN_TTL_S
from flows.objects import ObjectStore
from flows.project import Project
from flows.settings import Settings
from flows.workspace import Workspace
from tests.flows.line import WEIGHTS

PROJECT = f"""
name = "archive"
[encoder]
checkpoint = {json.dumps(str(WEIGHTS))}
[[labels]]
name = "vinyl"
prompts = ["a vinyl record, a disc"]
[[labels]]
name = "turntable"
prompts = ["a turntable, a record player"]
[limits]
delay_s = 0.0
"""


def jpeg(seed: int) -> bytes:
    """Return a small JPEG that no other seed gives."""
    image = Image.new("RGB", (80, 72), (seed * 37 % 256, seed * 101 % 256, seed * 53 % 256))
    draw = ImageDraw.Draw(image)
    draw.ellipse((5 + seed % 20, 5, 60, 50 + seed % 17), fill=(seed % 256, 20, 200))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def workspace_at(root: Path, settings: Settings, project: str = PROJECT) -> Workspace:
    """Write a project without pictures of its own into `root`, and open it."""
    root.mkdir(exist_ok=True)
    (root / "project.toml").write_text(project)
    store = ObjectStore(settings)
    return Workspace(
        root=root,
        settings=settings,
        project=Project.load(root),
        store=store,
        catalog=Catalog(store),
    )


def label(
    workspace: Workspace,
    location: Path | str,
    out: Path | str,
    *,
    model: str | None = None,
    format: Format = "parquet",  # noqa: A002 - as `Wanted` calls it
    keep_embeddings: bool = False,
    allow_private: bool = False,
    lease_s: float = LEASE_S,
) -> ArchiveResult:
    """Label an archive in shards of about ten pictures."""
    wanted = Wanted(
        location=str(location),
        out=str(out),
        model=model,
        format=format,
        keep_embeddings=keep_embeddings,
        allow_private=allow_private,
        shard_pictures=10,
    )
    return label_archive(workspace, wanted, lease_s=lease_s)


def run_label(root: Path, settings: Settings, location: str, out: str) -> None:
    """Label, and keep embeddings, as a process of its own does."""
    workspace = workspace_at(root, settings)
    label(workspace, location, out, keep_embeddings=True, lease_s=MIN_TTL_S)


def rows(workspace: Workspace, result: ArchiveResult, out: Path | str) -> list[dict[str, Any]]:
    """Return the published rows, in the order of the plan."""
    output = output_at(workspace, str(out))
    return [
        row
        for part in result.manifest.parts
        for row in pq.read_table(io.BytesIO(output.get(part.key))).to_pylist()
    ]
