"""Buckets of every earlier schema are brought up to date, whoever does it and whenever it is cut off."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from flows import cli_ops
from flows.catalog import Catalog
from flows.errors import Permanent, SchemaTooNew
from flows.example_project import EXAMPLE_PROJECT
from flows.migrations import MARK_KEY, MIGRATIONS, migrate, pending
from flows.objects import ObjectStore
from flows.progress import Progress
from flows.rows import IMAGES, SCHEMA_VERSION, SCHEMA_VERSION_KEY
from flows.settings import Settings
from flows.tables import Table, table_names
from flows.workspace import open_workspace
from tests.flows import old_schemas
from tests.flows.catalog_rows import START, image, sha
from tests.flows.old_schemas import image_record, make_bucket, make_table

OLD = [1, 2]


def _versions(store: ObjectStore) -> set[int]:
    schemas = [Table(store, name, None).schema() for name in table_names(store)]
    return {int(schema.metadata[SCHEMA_VERSION_KEY]) for schema in schemas if schema is not None}


def test_migrations_lead_from_the_first_schema_to_this_one() -> None:
    """There is one for every version after the first, in order, each with a name of its own."""
    assert [each.version for each in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))
    assert len({each.name for each in MIGRATIONS}) == len(MIGRATIONS)


@pytest.mark.parametrize("version", OLD)
def test_every_row_of_an_old_bucket_is_there_afterwards(
    object_store: ObjectStore, version: int
) -> None:
    """What was known stays; what nobody knew then is empty, in rows that this cratedig reads."""
    make_bucket(object_store, version)

    migrate(object_store)

    catalog = Catalog(object_store)
    rows = {row.sha256: row for row in catalog.images(thumbnails=True)}
    assert rows.keys() == {sha(number) for number in range(5)}
    for number in range(5):
        row, before = rows[sha(number)], image_record(version, number, places=number)
        about = before["provenance"][0].get("about", "{}") if number else None
        assert [place.url for place in row.provenance] == [
            place["url"] for place in before["provenance"]
        ]
        assert {place.about for place in row.provenance} == ({about} if number else set())
        assert row.views == b""
        kept = set(before) - {"provenance"}
        assert {name: getattr(row, name) for name in kept} == {name: before[name] for name in kept}
    assert [row.fetched_at for row in rows[sha(3)].provenance] == [START] * 3
    assert [row.sha256 for row in catalog.links()] == [sha(1)]
    assert [row.who for row in catalog.decisions()] == ["ada"]
    assert [row.score for row in catalog.prelabels()] == [0.25]
    assert catalog.embeddings("tiny")[1][:, 3].tolist() == [
        float(number) for number in sorted(range(5), key=sha)
    ]


@pytest.mark.parametrize("version", OLD)
def test_old_bucket_is_written_to_as_a_new_one(object_store: ObjectStore, version: int) -> None:
    """Keys are still keys: a picture that is added again is merged with what was known of it."""
    make_bucket(object_store, version)
    migrate(object_store)
    catalog = Catalog(object_store)

    new = catalog.add_images([image(3, url="https://example.org/new.jpg"), image(9)])

    assert new == 1
    assert catalog.image_count() == 6
    row = catalog.image(sha(3))
    assert row is not None
    assert len(row.provenance) == 4
    stored = Table(object_store, "images", None).schema()
    assert stored is not None
    assert stored.equals(IMAGES, check_metadata=True)


def test_second_time_nothing_is_done(object_store: ObjectStore) -> None:
    """What was migrated is named once, and no table is committed to again."""
    make_bucket(object_store, 1)
    first = migrate(object_store)
    versions = Catalog(object_store).versions()

    assert migrate(object_store) == []
    object_store.delete(MARK_KEY)
    assert migrate(object_store) == []

    assert {each.table for each in first} == set(table_names(object_store))
    assert Catalog(object_store).versions() == versions
    assert list(pending(object_store)) == []


def test_marked_bucket_is_not_looked_through(object_store: ObjectStore) -> None:
    """The mark alone says that nothing is to do: a table that came since is not looked at."""
    make_bucket(object_store, 1)
    migrate(object_store)
    make_table(object_store, "tombstones", old_schemas.DECISIONS, 2, [])

    assert migrate(object_store) == []


def test_empty_bucket_stays_empty(object_store: ObjectStore) -> None:
    """Opening a new project writes no mark: there is no table that it could speak of."""
    assert migrate(object_store) == []
    assert list(object_store.list("tables/")) == []


def test_table_without_rows_is_migrated(object_store: ObjectStore) -> None:
    """An old table in which there is nothing yet takes rows of today."""
    make_table(object_store, "images", old_schemas.IMAGES[1], 1, [])

    migrate(object_store)

    assert Catalog(object_store).add_images([image(1)]) == 1


def test_pending_changes_nothing(object_store: ObjectStore) -> None:
    """What would be done is said, table by table, and nothing is done."""
    make_bucket(object_store, 2)

    found = {each.table: str(each) for each in pending(object_store)}

    assert found["images"] == "table images: schema 2 -> 3 (hashes of a picture's parts)"
    assert _versions(object_store) == {2}


def test_newer_table_stops_it_before_anything_is_changed(object_store: ObjectStore) -> None:
    """One table of a newer cratedig's: the others stay as they are, too."""
    make_bucket(object_store, 1)
    make_table(object_store, "zebras", old_schemas.DECISIONS, SCHEMA_VERSION + 1, [])

    with pytest.raises(SchemaTooNew, match="upgrade cratedig"):
        migrate(object_store)

    images = Table(object_store, "images", None).schema()
    assert images is not None
    assert images.metadata[SCHEMA_VERSION_KEY] == b"1"


def test_mark_of_a_newer_cratedig_is_refused(object_store: ObjectStore) -> None:
    """A bucket that a newer cratedig has migrated is not touched."""
    object_store.put(MARK_KEY, b'{"version": 99}')

    with pytest.raises(SchemaTooNew, match="version 99"):
        migrate(object_store)


def test_unreadable_mark_is_named(object_store: ObjectStore) -> None:
    """A mark that somebody spoilt says how to get rid of it."""
    object_store.put(MARK_KEY, b"[]")

    with pytest.raises(Permanent, match=f"{MARK_KEY} .* delete it"):
        migrate(object_store)


def test_table_of_somebody_else_is_refused(object_store: ObjectStore) -> None:
    """A Lance table without a schema version is not cratedig's to change."""
    make_bucket(object_store, 1)
    theirs = pa.table({"a": [1]})
    lance.write_dataset(
        theirs,
        object_store.uri("tables/theirs.lance"),
        storage_options=object_store.lance_options(),
    )

    with pytest.raises(Permanent, match="not a table of cratedig's"):
        migrate(object_store)


class _InTheMiddle:
    """A watch that does something once, when rows of the images are being written anew."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._title = ""
        self._acted = False

    @contextmanager
    def __call__(self, title: str) -> Iterator[Progress]:
        """Watch one table."""
        self._title = title
        yield self._told

    def _told(self, done: int, total: int | None, said: object = "") -> None:
        if self._title == "migrate images" and not self._acted:
            self._acted = True
            self._act()


def test_rows_that_come_meanwhile_are_migrated_too(object_store: ObjectStore) -> None:
    """A writer of the old version commits while rows are written anew: that begins again."""
    make_bucket(object_store, 1)
    late = pa.Table.from_pylist([image_record(1, 7)], schema=old_schemas.IMAGES[1])

    def insert_as_the_old_version_did() -> None:
        uri = object_store.uri("tables/images.lance")
        lance.dataset(uri, storage_options=object_store.lance_options()).insert(late)

    migrate(object_store, watch=_InTheMiddle(insert_as_the_old_version_did))

    assert Catalog(object_store).image(sha(7)) is not None
    assert Catalog(object_store).image_count() == 6


def _migrate_beside_another(
    settings: Settings, both: Barrier, done: multiprocessing.Queue[list[str]]
) -> None:
    """Migrate in a process of its own; in the middle of the images wait for the other."""
    found = migrate(ObjectStore(settings), watch=_InTheMiddle(lambda: both.wait(60)))
    done.put([each.table for each in found])


def test_two_machines_migrate_at_once(bucket: Settings, object_store: ObjectStore) -> None:
    """Both write the rows anew, one commits, and the other's rows are not added to them."""
    make_bucket(object_store, 1)
    spawn = multiprocessing.get_context("spawn")
    both, done = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=_migrate_beside_another, args=(bucket, both, done)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    tables = done.get(timeout=60) + done.get(timeout=60)
    for process in processes:
        process.join()

    assert tables.count("images") == 1
    assert Catalog(object_store).image_count() == 5
    assert _versions(object_store) == {SCHEMA_VERSION}


def _migrate_until_killed(settings: Settings, reached: Event) -> None:
    """Migrate in a process of its own, and stand still in the middle of the images."""

    def stand_still() -> None:
        reached.set()
        threading.Event().wait()

    migrate(ObjectStore(settings), watch=_InTheMiddle(stand_still))


def test_killed_in_the_middle_of_a_table(bucket: Settings, object_store: ObjectStore) -> None:
    """The table is the old one, whole, until its commit; the next who opens it goes on."""
    make_bucket(object_store, 1)
    spawn = multiprocessing.get_context("spawn")
    reached = spawn.Event()
    process = spawn.Process(target=_migrate_until_killed, args=(bucket, reached))
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join()

    images = Table(object_store, "images", None)
    schema = images.schema()
    assert schema is not None
    assert schema.metadata[SCHEMA_VERSION_KEY] == b"1"
    assert images.count() == 5
    assert object_store.head(MARK_KEY) is None
    migrate(object_store)
    assert Catalog(object_store).image_count() == 5
    assert _versions(object_store) == {SCHEMA_VERSION}


def test_version_before_can_be_gone_back_to(object_store: ObjectStore) -> None:
    """The table of before the migration stays in its history until it is swept."""
    make_bucket(object_store, 1)
    uri, options = object_store.uri("tables/images.lance"), object_store.lance_options()
    before = lance.dataset(uri, storage_options=options).version

    migrate(object_store)

    old = lance.dataset(uri, version=before, storage_options=options)
    assert old.schema.metadata[SCHEMA_VERSION_KEY] == b"1"
    assert old.count_rows() == 5


def _write_project(root: Path, settings: Settings) -> None:
    """Put a project on that bucket into a folder."""
    (root / "project.toml").write_bytes(EXAMPLE_PROJECT.encode())
    keys = (settings.access_key, settings.secret_key)
    access_key, secret_key = (each.get_secret_value() for each in keys if each is not None)
    (root / ".env").write_text(
        f"CRATEDIG_ENDPOINT={settings.endpoint}\n"
        f"CRATEDIG_ACCESS_KEY={access_key}\n"
        f"CRATEDIG_SECRET_KEY={secret_key}\n"
        f"CRATEDIG_BUCKET={settings.bucket}\n"
        f"CRATEDIG_PREFIX={settings.prefix}\n"
    )


def test_opening_a_project_migrates_it_and_says_so(
    bucket: Settings, object_store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to run anything after an upgrade."""
    make_bucket(object_store, 1)
    _write_project(tmp_path, bucket)

    workspace = open_workspace(tmp_path)

    assert workspace.catalog.image_count() == 5
    said = capsys.readouterr().err.splitlines()
    assert "table decisions: schema 1 -> 3" in said
    assert (
        "table images: schema 1 -> 3 (what pages say of a picture, hashes of a picture's parts)"
    ) in said


def test_check_says_what_would_be_done(
    bucket: Settings,
    object_store: ObjectStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`migrate --check` changes nothing and answers 1; afterwards there is nothing to do."""
    make_bucket(object_store, 2)
    _write_project(tmp_path, bucket)

    assert cli_ops.migrate(check=True, project=tmp_path) == 1
    assert "table images: schema 2 -> 3" in capsys.readouterr().out
    assert cli_ops.migrate(project=tmp_path) == 0
    assert "table images: schema 2 -> 3" in capsys.readouterr().out
    assert cli_ops.migrate(check=True, project=tmp_path) == 0
    assert capsys.readouterr().out == f"every table is of schema {SCHEMA_VERSION}\n"
