"""Take what was forgotten out of everything that the bucket holds, one kind of object at a time.

Each function finds out by itself what is left to do, so that one that was killed is simply called
again. None of them needs the forgotten addresses in plain text.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from flows.conditions import chunks, sql_in, sql_text
from flows.objects import ObjectStore
from flows.predictions import Manifest
from flows.rows import IMAGES, LINKS
from flows.shards import Member, Place, write_shard
from flows.tables import Table, table_names
from flows.tombstones import Forgotten

_MANIFEST = TypeAdapter(Manifest)
_TEXTS = {".json", ".md", ".txt", ".csv", ".html"}


def purge_shards(store: ObjectStore, forgotten: Forgotten, on_shard: Callable[[int], None]) -> int:
    """Write every shard that holds something forgotten anew without it; return how many those were.

    New bytes first, then the rows that point at them, then the old shard goes. All shards are read:
    one that no row points at may hold the bytes, too. `on_shard` gets the number that was looked at.
    """
    moved: dict[str, dict[str, Place]] = {}
    for number, info in enumerate(list(store.list("shards/")), 1):
        members = list(read_shard(store.get(info.key)))
        kept = [
            _redacted(each, forgotten) for each in members if not _is_forgotten(each, forgotten)
        ]
        if kept != members:
            prefix = info.key.rsplit("-", 1)[0]
            moved[info.key] = write_shard(store, prefix, kept) if kept else {}
            _repoint(store, info.key, moved[info.key])
            store.delete(info.key)
        on_shard(number)
    for key, places in moved.items():
        # A collector that was between its shard and its rows has come to its rows since.
        _repoint(store, key, places)
    return len(moved)


def read_shard(data: bytes) -> Iterator[Member]:
    """Yield the images of a tar in WebDataset layout, as `write_shard` was given them."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {info.name: _body(tar, info) for info in tar}
    for name, body in files.items():
        path = PurePosixPath(name)
        if path.suffix != ".json":
            yield Member(
                sha256=path.stem,
                format=path.suffix.removeprefix("."),
                data=body,
                metadata=json.loads(files[f"{path.stem}.json"]),
            )


def purge_rows(store: ObjectStore, forgotten: Forgotten) -> dict[str, int]:
    """Delete every row about a forgotten picture or address, in every table; count them by table."""
    deleted = {}
    for name in table_names(store):
        table = Table(store, name, None)
        columns = [
            each for each in ("sha256", "other", "url", "page_url") if each in table.columns()
        ]
        if columns:
            deleted[name] = table.delete(columns, lambda row: _row_is_forgotten(row, forgotten))
    _redact_rows(Table(store, "images", IMAGES), ["sha256"], ["consent"], forgotten)
    _redact_rows(Table(store, "links", LINKS), ["source", "url"], ["detail"], forgotten)
    return deleted


def purge_predictions(store: ObjectStore, forgotten: Forgotten) -> int:
    """Take forgotten pictures out of published predictions; return how many parts had some."""
    changed = 0
    for model in store.folders("predictions/"):
        pictures: dict[str, int] = {}
        for info in store.list(f"predictions/{model}/"):
            if info.key.endswith(".parquet"):
                table = pq.read_table(io.BytesIO(store.get(info.key)))
                ids = [
                    each for each in pc.unique(table["sha256"]).to_pylist() if forgotten.has(each)
                ]
                gone = pc.is_in(table["sha256"], value_set=pa.array(ids, pa.string()))
                kept = table.filter(pc.invert(gone))
                pictures[info.key] = pc.count_distinct(kept["sha256"]).as_py()
                if kept.num_rows < table.num_rows:
                    store.put(info.key, _to_parquet(kept))
                    changed += 1
        for info in store.list(f"predictions/{model}/manifests/"):
            manifest = _MANIFEST.validate_json(store.get(info.key))
            counted = sum(pictures.get(part, 0) for part in manifest.parts)
            if manifest.pictures != counted:
                corrected = dataclasses.replace(manifest, pictures=counted)
                store.put(info.key, _MANIFEST.dump_json(corrected, indent=2))
    return changed


def purge_runs(store: ObjectStore, forgotten: Forgotten) -> int:
    """Take forgotten addresses out of what runs have recorded; return how many objects had some."""
    changed = 0
    for info in store.list("runs/"):
        suffix = PurePosixPath(info.key).suffix
        if suffix not in {".parquet", *_TEXTS}:
            continue
        before = store.get(info.key)
        if suffix == ".parquet":
            after = _purged_parquet(before, forgotten)
        else:
            after = forgotten.redact(before.decode()).encode()
        if after != before:
            store.put(info.key, after)
            changed += 1
    return changed


def purge_advice(store: ObjectStore, forgotten: Forgotten) -> int:
    """Take forgotten pictures out of drift reports, spot checks, queues and screens; count those."""
    changed = 0
    for folder in ("drift/", "spot-checks/", "queues/", "screens/"):
        for info in store.list(folder):
            before = json.loads(store.get(info.key))
            after = _without_ids(before, forgotten)
            if after != before:
                store.put(info.key, json.dumps(after, indent=1).encode())
                changed += 1
    return changed


def _without_ids(value: Any, forgotten: Forgotten) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value whose lists lack forgotten ids, and what is told of them."""
    if isinstance(value, list):
        return [
            _without_ids(each, forgotten)
            for each in value
            if not forgotten.has(each.get("sha256") if isinstance(each, dict) else _text(each))
        ]
    if isinstance(value, dict):
        return {name: _without_ids(each, forgotten) for name, each in value.items()}
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _purged_parquet(data: bytes, forgotten: Forgotten) -> bytes:
    """Return the Parquet file without forgotten rows and addresses; the same bytes if it has none."""
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    kept = [
        {name: _redact_value(value, forgotten) for name, value in row.items()}
        for row in rows
        if not _row_is_forgotten(row, forgotten)
    ]
    return data if kept == rows else _to_parquet(pa.Table.from_pylist(kept, schema=table.schema))


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _is_forgotten(member: Member, forgotten: Forgotten) -> bool:
    return forgotten.covers(
        str(member.metadata.get("url", "")),
        str(member.metadata.get("page_url", "")),
        sha256=member.sha256,
    )


def _redacted(member: Member, forgotten: Forgotten) -> Member:
    return dataclasses.replace(member, metadata=_redact_value(dict(member.metadata), forgotten))


def _row_is_forgotten(row: dict[str, Any], forgotten: Forgotten) -> bool:
    return forgotten.has(row.get("other")) or forgotten.covers(
        row.get("url") or "", row.get("page_url") or "", sha256=row.get("sha256")
    )


def _redact_value(value: Any, forgotten: Forgotten) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value, or a row's, with `FORGOTTEN` for every forgotten address in its texts."""
    if isinstance(value, str):
        return forgotten.redact(value)
    if isinstance(value, dict):
        return {name: _redact_value(each, forgotten) for name, each in value.items()}
    if isinstance(value, list):
        return [_redact_value(each, forgotten) for each in value]
    return value


def _redact_rows(table: Table, keys: list[str], texts: list[str], forgotten: Forgotten) -> None:
    """Redact texts of rows that stay: of the columns `texts`, and all that `provenance` holds."""
    texts = [*texts, *({"provenance"} & set(table.columns()))]
    if not table.columns():
        return
    # By the last key column alone: what comes along with it has nothing to redact and stays.
    key = keys[-1]
    wrong = {
        row[key]: None
        for row in table.records([key, *texts])
        if any(_redact_value(row[name], forgotten) != row[name] for name in texts)
    }

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        schema = IMAGES if "provenance" in texts else LINKS
        rows = [
            {**row, **{name: _redact_value(row[name], forgotten) for name in texts}}
            for row in there
        ]
        return pa.Table.from_pylist(rows, schema=schema), None

    for chunk in chunks(wrong):
        table.rewrite(keys, sql_in(key, chunk), change)


def _repoint(store: ObjectStore, old: str, places: dict[str, Place]) -> None:
    """Let the rows that point into `old` point at where the same images lie now."""

    def change(there: list[dict[str, Any]]) -> tuple[pa.Table, None]:
        rows = [
            {**row, **dataclasses.asdict(places[row["sha256"]])}
            for row in there
            if row["sha256"] in places
        ]
        return pa.Table.from_pylist(rows, schema=IMAGES), None

    table = Table(store, "images", IMAGES)
    table.rewrite(["sha256"], f"shard = {sql_text(old)}", change)


def _body(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    if file is None:
        raise ValueError(f"{info.name} in a shard is no file")
    return file.read()
