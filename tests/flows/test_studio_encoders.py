"""The encoder that the studio's pages share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.studio.encoders import EncoderShelf
from flows.studio.reader import Reader
from model.encoder import EncoderUnavailable
from tests.conftest import RunningStore
from tests.flows.line import WEIGHTS
from tests.flows.studio_data import make_project

DEMO = f'[encoder]\ncheckpoint = "{WEIGHTS}"\n'
NAMED = '[encoder]\nmodel = "ViT-B-32"\npretrained = "none-is-loaded-here"\n'


@pytest.fixture
def root(store_server: RunningStore, tmp_path: Path) -> Path:
    """A project whose encoder is the demo's."""
    make_project(tmp_path, store_server)
    _write(tmp_path, NAMED, DEMO)
    return tmp_path


def _write(root: Path, before: str, after: str) -> None:
    """Change project.toml, and its time for certain."""
    path = root / "project.toml"
    stamp = path.stat().st_mtime
    path.write_text(path.read_text().replace(before, after))
    os.utime(path, (stamp + 1, stamp + 1))


def test_all_threads_get_the_same_encoder(root: Path) -> None:
    shelf = EncoderShelf(Reader(root))
    with ThreadPoolExecutor(4) as threads:
        assert len({id(each) for each in threads.map(lambda _: shelf.get(), range(8))}) == 1


def test_an_edit_of_something_else_reloads_nothing(root: Path) -> None:
    shelf = EncoderShelf(Reader(root))
    before = shelf.get()
    _write(root, 'name = "records"', 'name = "discs"')
    assert shelf.get() is before


def test_another_encoder_in_the_project_is_the_one_that_is_given(root: Path) -> None:
    shelf = EncoderShelf(Reader(root))
    assert shelf.id() == shelf.get().id
    _write(root, DEMO, NAMED)
    with pytest.raises(EncoderUnavailable):
        shelf.get()
