"""An object store on loopback of a benchmark's own, and a project of photographs in it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from flows.catalog import Catalog
from flows.imports import import_pictures
from flows.objects import ObjectStore
from flows.project import Project
from flows.settings import Settings
from flows.workspace import Workspace
from infra.local import LocalStack
from tests.bench.report import shared_folder

_PROJECT = """
name = "bench"
[encoder]
model = "ViT-B-32"
pretrained = "openai"
[[labels]]
name = "bee"
"""


@contextmanager
def loopback_store(*, prefect: bool = False) -> Iterator[tuple[Path, Settings, ObjectStore]]:
    """Start a SeaweedFS, and Prefect if asked; give a folder, the settings and the store.

    Both are stopped in the end, and nothing is left of them.
    """
    with tempfile.TemporaryDirectory(prefix="cratedig-bench-") as folder:
        stack = LocalStack(Path(folder) / "stack")
        try:
            addresses = stack.up(parts=("store", "prefect") if prefect else ("store",))
            access, secret = stack.keys()
            settings = Settings(
                endpoint=addresses["store"],
                access_key=SecretStr(access),
                secret_key=SecretStr(secret),
                bucket="bench",
                prefect_api_url=addresses["prefect"] + "/api" if prefect else None,
            )
            store = ObjectStore(settings, attempts=20)
            store.ensure_bucket()
            yield Path(folder), settings, store
        finally:
            stack.down()


@contextmanager
def photographs_in_store(count: int) -> Iterator[Workspace]:
    """Give a project that holds `count` pictures: photographs of ants and bees, some 500 pixels wide.

    Where there are not so many, each is there several times with a few bytes more behind its end.
    """
    found = sorted((shared_folder() / "data" / "hymenoptera" / "images").iterdir())
    with loopback_store() as (folder, settings, store):
        (folder / "project.toml").write_text(_PROJECT)
        chosen = folder / "photographs"
        chosen.mkdir()
        for number in range(count):
            path, again = found[number % len(found)], number // len(found)
            # Written anew: an import follows no links.
            (chosen / f"{again}-{path.name}").write_bytes(path.read_bytes() + bytes(again))
        workspace = Workspace(
            root=folder,
            settings=settings,
            project=Project.load(folder),
            store=store,
            catalog=Catalog(store),
        )
        result, _ = import_pictures(workspace, str(chosen))
        if workspace.catalog.image_count() != count:
            sys.exit(
                f"of {count} pictures only {workspace.catalog.image_count()} came in: {result}"
            )
        yield workspace
