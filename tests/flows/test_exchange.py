"""Datasets leave for other tools and come back: the same decisions, by whom and when."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, timedelta
from pathlib import Path
from typing import get_args

import pyarrow.csv
import pyarrow.parquet
import pytest

from crawler.archive import archive_members
from crawler.candidates import Candidate, examine_members
from crawler.settings import CrawlPolicy
from flows import cli_exchange
from flows.errors import NotFound, Permanent
from flows.exchange.formats import Format, Source, apply_file, bring_pictures, export, format_of
from flows.exchange.pictures import Selection
from flows.imports import add_candidates
from flows.objects import ObjectStore
from flows.rows import DecisionRow, PreLabelRow
from flows.settings import Settings
from flows.workspace import Workspace
from model.data import Example, Snapshot
from tests.flows.catalog_rows import START
from tests.flows.line import workspace_at
from tests.flows.test_cli import run, settings_of

NOWHERE = "http://127.0.0.1:1"

Words = set[tuple[str, str, str, str, object, str]]


@pytest.fixture(scope="module")
def examined(photographs: Path) -> list[Candidate]:
    """The same photographs, decoded once for all projects that have them from the start."""

    async def all_of_them() -> list[Candidate]:
        members = archive_members(photographs)
        outcomes = examine_members(members, photographs.name, policy=CrawlPolicy())
        return [each async for each in outcomes if isinstance(each, Candidate)]

    return asyncio.run(all_of_them())


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five real photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for path in sorted((shared / "data" / "turntable_vinyl" / "images").iterdir())[:5]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def empty_project(root: Path, settings: Settings) -> Workspace:
    root.mkdir()
    return workspace_at(root, settings, NOWHERE)


@pytest.fixture
def ours(bucket: Settings, tmp_path: Path, examined: list[Candidate]) -> Workspace:
    """Five photographs: decided by two people who disagree, partly, unsurely, and not at all."""
    workspace = empty_project(tmp_path / "ours", bucket)
    add_candidates(workspace, "photographs", examined)
    first, second, third, _, _ = sorted(workspace.catalog.sha256s())
    said = [
        (first, "vinyl", "yes", "ann", 0),
        (first, "turntable", "no", "ann", 1),
        (first, "vinyl", "no", "bob", 2),
        (second, "vinyl", "yes", "bob", 3),
        (third, "turntable", "unsure", "ann", 4),
    ]
    workspace.catalog.add_decisions(
        DecisionRow(
            sha256=sha256,
            label=label,
            answer=answer,  # type: ignore[arg-type]  # a tuple's member is a str to mypy
            who=who,
            at=START + timedelta(minutes=minute),
            score=0.25 if minute else None,
        )
        for sha256, label, answer, who, minute in said
    )
    workspace.catalog.put_prelabels(
        PreLabelRow(
            sha256=sha256, label="vinyl", score=0.75, taxonomy_id="taxonomy", encoder_id="encoder"
        )
        for sha256 in (first, second)
    )
    return workspace


@pytest.fixture
def theirs(bucket: Settings, tmp_path: Path) -> Workspace:
    """A project on the same store, with nothing in it."""
    settings = bucket.model_copy(update={"prefix": f"{bucket.prefix}-theirs"})
    return empty_project(tmp_path / "theirs", settings)


def words(workspace: Workspace) -> Words:
    return {
        (row.sha256, row.label, row.answer, row.who, row.at, row.note)
        for row in workspace.catalog.decisions()
    }


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def write(workspace: Workspace, path: Path, format_: Format) -> Path:
    """Export with pictures, where the format lets them lie beside."""
    at = "s3://elsewhere/pictures" if format_ == "label-studio" else None
    beside = format_ in ("coco", "fiftyone")
    export(workspace, path, format_=format_, pictures=beside, pictures_at=at)
    return path


@pytest.mark.parametrize("format_", ["coco", "fiftyone", "webdataset"])
def test_pictures_and_decisions_come_back_into_an_empty_project(
    format_: Source, ours: Workspace, theirs: Workspace, tmp_path: Path
) -> None:
    """The same pictures, and everybody's last word on each label with its time."""
    out = write(ours, tmp_path / "out", format_)
    bring_pictures(theirs, str(out), format_)
    result = apply_file(theirs, str(out), format_, who="nobody", brought=True)
    assert set(theirs.catalog.sha256s()) == set(ours.catalog.sha256s())
    assert words(theirs) == words(ours)
    assert (result.new, result.unknown) == (5, ())


@pytest.mark.parametrize("format_", ["label-studio", "decisions"])
def test_decisions_alone_come_back_where_the_pictures_are(
    format_: Source,
    ours: Workspace,
    theirs: Workspace,
    tmp_path: Path,
    examined: list[Candidate],
) -> None:
    out = write(ours, tmp_path / ("out.csv" if format_ == "decisions" else "out"), format_)
    add_candidates(theirs, "photographs", examined)
    apply_file(theirs, str(out), format_, who="nobody")
    assert words(theirs) == words(ours)


@pytest.mark.parametrize("format_", get_args(Source))
def test_what_was_imported_is_not_imported_twice(
    format_: Source, ours: Workspace, tmp_path: Path
) -> None:
    """Nor does a file take back what was decided since it was written."""
    out = write(ours, tmp_path / ("out.csv" if format_ == "decisions" else "out"), format_)
    second = sorted(ours.catalog.sha256s())[1]
    later = START + timedelta(days=1)
    ours.catalog.add_decisions(
        [DecisionRow(sha256=second, label="vinyl", answer="no", who="ann", at=later)]
    )
    before = ours.catalog.decisions()
    assert apply_file(ours, str(out), format_, who="nobody").new == 0
    assert ours.catalog.decisions() == before


@pytest.mark.parametrize("format_", get_args(Source))
def test_a_contradiction_is_recorded_and_shown(
    format_: Source,
    ours: Workspace,
    theirs: Workspace,
    tmp_path: Path,
    examined: list[Candidate],
) -> None:
    """Between the file's two people, once."""
    out = write(ours, tmp_path / ("out.csv" if format_ == "decisions" else "out"), format_)
    add_candidates(theirs, "photographs", examined)
    result = apply_file(theirs, str(out), format_, who="nobody")
    (conflict,) = result.conflicts
    assert (conflict.who, conflict.answer, conflict.stood_by, conflict.stood) == (
        "bob",
        "no",
        "ann",
        "yes",
    )
    assert theirs.catalog.disagreements() == 1


def test_label_studio_s_annotations_become_decisions_by_their_annotator(
    ours: Workspace, tmp_path: Path
) -> None:
    """Completed ones, at their time; skipped ones say nothing."""
    out = write(ours, tmp_path / "out", "label-studio")
    tasks = json.loads((out / "tasks.json").read_text())
    task = next(each for each in tasks if not each["data"]["decisions"])
    result = [{"from_name": "vinyl", "type": "choices", "value": {"choices": ["yes"]}}]
    task["annotations"] = [
        {
            "result": result,
            "completed_by": {"id": 7, "email": "eve@localhost"},
            "created_at": "2026-02-01T10:00:00.5Z",
        },
        {
            "result": result,
            "completed_by": 8,
            "was_cancelled": True,
            "created_at": "2026-02-01T10:00:00Z",
        },
    ]
    # What Label Studio gives is one file, under a name of its own.
    path = tmp_path / "project-1-at-2026.json"
    path.write_text(json.dumps(tasks, indent=2))
    assert apply_file(ours, str(path), "label-studio", who="nobody").new == 1
    row = ours.catalog.latest_decisions()[task["data"]["sha256"], "vinyl"]
    assert (row.answer, row.who, row.at.isoformat()) == (
        "yes",
        "eve@localhost",
        "2026-02-01T10:00:00.500000+00:00",
    )
    assert apply_file(ours, str(path), "label-studio", who="nobody").new == 0


def test_choices_of_a_configuration_of_one_s_own_are_read_and_what_is_left_out_is_a_no_if_so_said(
    ours: Workspace, tmp_path: Path
) -> None:
    sha256 = sorted(ours.catalog.sha256s())[4]
    task = {
        "data": {"image": f"/data/upload/{sha256}.jpg"},
        "annotations": [
            {
                "result": [{"from_name": "what", "value": {"choices": ["vinyl"]}}],
                "completed_by": 1,
                "updated_at": "2026-02-01T10:00:00Z",
            }
        ],
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps([task]))
    apply_file(ours, str(path), "label-studio", who="nobody", complete=True)
    latest = ours.catalog.latest_decisions()
    assert latest[sha256, "vinyl"].answer == "yes"
    assert latest[sha256, "turntable"].answer == "no"
    assert latest[sha256, "vinyl"].who == "label-studio-1"


def test_label_studio_is_shown_the_scores_and_asked_label_by_label(
    ours: Workspace, tmp_path: Path
) -> None:
    out = write(ours, tmp_path / "out", "label-studio")
    first = min(ours.catalog.sha256s())
    task = next(
        each
        for each in json.loads((out / "tasks.json").read_text())
        if each["data"]["sha256"] == first
    )
    by_model = {each["model_version"]: each for each in task["predictions"]}
    assert task["data"]["image"] == f"s3://elsewhere/pictures/{first}.jpg"
    assert by_model.keys() == {"decisions", "pre-labels"}
    assert by_model["pre-labels"]["score"] == pytest.approx(0.75)
    assert (
        '<Choices name="vinyl" toName="_picture" choice="single"'
        in (out / "config.xml").read_text()
    )


def test_pictures_are_put_where_label_studio_reads_them(
    ours: Workspace, bucket: Settings, tmp_path: Path
) -> None:
    """`--pictures --pictures-at s3://...`: into that bucket."""
    at = f"s3://{bucket.bucket}/{bucket.prefix}-pictures"
    export(ours, tmp_path / "out", format_="label-studio", pictures=True, pictures_at=at)
    there = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}-pictures"}))
    names = {info.key for info in there.list()}
    assert names == {f"{sha256}.jpg" for sha256 in ours.catalog.sha256s()}
    assert not (tmp_path / "out" / "data").exists()


def test_a_coco_annotation_is_a_yes_and_a_no_is_said_as_in_lvis(
    ours: Workspace, tmp_path: Path
) -> None:
    out = write(ours, tmp_path / "out", "coco")
    coco = json.loads((out / "labels.json").read_text())
    first, second = sorted(ours.catalog.sha256s())[:2]
    image_of = {image["sha256"]: image for image in coco["images"]}
    category_of = {each["name"]: each["id"] for each in coco["categories"]}
    (annotation,) = coco["annotations"]
    assert annotation["image_id"] == image_of[second]["id"]
    assert annotation["category_id"] == category_of["vinyl"]
    assert annotation["bbox"][2:] == [image_of[second]["width"], image_of[second]["height"]]
    assert sorted(image_of[first]["neg_category_ids"]) == sorted(category_of.values())


def test_somebody_else_s_coco_file_is_taken_by_its_file_names(
    theirs: Workspace, photographs: Path, tmp_path: Path
) -> None:
    """Without ids of ours: pictures in `data/`, annotations before images, boxes within them."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    names = [path.name for path in sorted(photographs.iterdir())]
    for name in names:
        (folder / "data" / name).write_bytes((photographs / name).read_bytes())
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    coco = {
        "annotations": [{"id": each, "image_id": 11, "category_id": 3, **box} for each in (1, 2)],
        "categories": [{"id": 3, "name": "vinyl", "supercategory": "music"}],
        "images": [{"id": 10 + at, "file_name": name} for at, name in enumerate(names)],
    }
    (folder / "labels.json").write_text(json.dumps(coco))
    bring_pictures(theirs, str(folder), "coco")
    result = apply_file(theirs, str(folder), "coco", who="me", complete=True, brought=True)
    assert (result.new, result.unknown) == (5, ())
    yes = [row for row in theirs.catalog.decisions() if row.answer == "yes"]
    assert [(row.label, row.who) for row in yes] == [("vinyl", "me")]
    (row,) = (row for row in theirs.catalog.links() if row.sha256 == yes[0].sha256)
    assert row.url == f"archive:data/{names[1]}"


def test_a_label_that_was_changed_in_fiftyone_is_a_new_decision(
    ours: Workspace, tmp_path: Path
) -> None:
    """By whoever imports it: FiftyOne does not say who, and what was not touched stays as it was."""
    out = write(ours, tmp_path / "out", "fiftyone")
    samples = json.loads((out / "samples.json").read_text())["samples"]
    second = sorted(ours.catalog.sha256s())[1]
    sample = next(each for each in samples if each["sha256"] == second)
    sample["absent"], sample["ground_truth"] = sample["ground_truth"], None
    (out / "samples.json").write_text(json.dumps({"samples": samples}))
    result = apply_file(ours, str(out), "fiftyone", who="me")
    row = ours.catalog.latest_decisions()[second, "vinyl"]
    assert (result.new, row.answer, row.who) == (1, "no", "me")
    assert [conflict.stood_by for conflict in result.conflicts] == ["bob"]


def test_fiftyone_s_classification_folder_is_taken(
    theirs: Workspace, photographs: Path, tmp_path: Path
) -> None:
    """Names without endings; labels by their place among the classes, one or several, or none."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    names = [path.name for path in sorted(photographs.iterdir())]
    for name in names:
        (folder / "data" / name).write_bytes((photographs / name).read_bytes())
    stems = [Path(name).stem for name in names]
    labels = {stems[0]: 1, stems[1]: [0, {"label": 1, "confidence": 0.5}], stems[2]: None}
    (folder / "labels.json").write_text(
        json.dumps({"classes": ["turntable", "vinyl"], "labels": labels})
    )
    bring_pictures(theirs, str(folder), "fiftyone")
    result = apply_file(theirs, str(folder), "fiftyone", who="me", brought=True)
    assert (result.new, result.unknown) == (3, ())


def test_only_the_decided_or_the_undecided_are_chosen(ours: Workspace, tmp_path: Path) -> None:
    decided = export(ours, tmp_path / "a.csv", selection=Selection(only="decided"))
    undecided = export(ours, tmp_path / "b.csv", selection=Selection(only="undecided"))
    assert (decided.pictures, undecided.pictures) == (3, 2)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_has_a_row_a_picture_with_the_last_word_on_each_label(
    ending: str, ours: Workspace, tmp_path: Path
) -> None:
    """Who said it and when beside it; nothing where nothing was said."""
    path = tmp_path / f"table.{ending}"
    export(ours, path)
    read = pyarrow.csv.read_csv if ending == "csv" else pyarrow.parquet.read_table
    rows = {row["sha256"]: row for row in read(path).to_pylist()}
    first, _, _, _, last = sorted(rows)
    assert (rows[first]["vinyl_decision"], rows[first]["vinyl_who"]) == ("no", "bob")
    assert rows[first]["vinyl_at"].replace(tzinfo=UTC) == START + timedelta(minutes=2)
    assert rows[first]["vinyl_prelabel"] == 0.75
    assert not rows[last]["vinyl_decision"]


def test_a_snapshot_is_exported_as_it_was_whatever_was_decided_since(
    ours: Workspace, tmp_path: Path
) -> None:
    """Its pictures and answers alone; who gave them where that is known."""
    first, second = sorted(ours.catalog.sha256s())[:2]
    snapshot = Snapshot(
        labels=("turntable", "vinyl"),
        examples=(
            Example(sha256=first, group=first, answers={"vinyl": True}),
            Example(sha256=second, group=second, answers={"turntable": True}),
        ),
        encoder_id="encoder",
        table_versions={},
        seed=0,
    )
    ours.store.put(f"snapshots/{snapshot.id}.json", snapshot.to_json().encode())
    path = tmp_path / "out.csv"
    export(ours, path, format_="decisions", selection=Selection(snapshot=snapshot.id))
    rows = {tuple(line.split(",")[:4]) for line in path.read_text().splitlines()[1:]}
    assert rows == {(first, "vinyl", "yes", "ann"), (second, "turntable", "yes", "snapshot")}


def test_a_snapshot_that_is_not_there_is_named(ours: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no snapshot nothing; there are: none"):
        export(ours, tmp_path / "out.csv", selection=Selection(snapshot="nothing"))
    assert not list(tmp_path.glob("*out*"))


def test_a_picture_whose_bytes_are_gone_is_left_out_and_named(
    ours: Workspace, tmp_path: Path
) -> None:
    """It stops nothing."""
    (shard,) = (info.key for info in ours.store.list("shards/"))
    ours.store.delete(shard)
    result = export(ours, tmp_path / "out", format_="coco", pictures=True)
    assert (result.pictures, len(result.damaged)) == (0, 5)


def test_an_export_takes_no_place_that_is_taken(ours: Workspace, tmp_path: Path) -> None:
    """A folder with something in it stays as it was, and nothing is left beside it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(Permanent, match="out exists already"):
        write(ours, tmp_path / "out", "coco")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    assert not list(tmp_path.glob(".out*"))


BROKEN = [
    ("label-studio", "tasks.json", '{"data":', '{"dato":', r"tasks.json \[0\]: it has no data"),
    ("label-studio", "tasks.json", '"yes"', '"perhaps"', r"tasks.json \[\d\].*'perhaps'"),
    ("label-studio", "tasks.json", ',\n{"data"', '\n{"data"', r"tasks.json \[0\]: not JSON"),
    ("coco", "labels.json", '"image_id":', '"image":', r"annotations\[0\]: image_id None"),
    (
        "coco",
        "labels.json",
        '"image_id":',
        '"image_id":9',
        r"annotations\[0\]: image_id 9\d is not",
    ),
    (
        "coco",
        "labels.json",
        '"name": "vinyl"',
        '"name": "cd"',
        r"label 'cd' is not in project.toml",
    ),
    ("fiftyone", "samples.json", '"at":"2026', '"at":"x', r"samples\[\d\]: 'x.* no time"),
    ("fiftyone", "samples.json", '"who":', '"whom":', r"samples\[\d\]: a decision has no who"),
]


@pytest.mark.parametrize(("format_", "file", "old", "new", "said"), BROKEN)
def test_a_bad_file_is_told_by_its_entry_and_nothing_of_it_is_applied(
    format_: Source, file: str, old: str, new: str, said: str, ours: Workspace, tmp_path: Path
) -> None:
    out = write(ours, tmp_path / "out", format_)
    edited(out / file, old, new)
    before = ours.catalog.decisions()
    with pytest.raises(Permanent, match=said):
        apply_file(ours, str(out), format_, who="nobody")
    assert ours.catalog.decisions() == before


def test_a_picture_that_is_not_here_is_named_and_the_others_are_applied(
    ours: Workspace, theirs: Workspace, tmp_path: Path, examined: list[Candidate]
) -> None:
    out = write(ours, tmp_path / "out.csv", "decisions")
    third = sorted(ours.catalog.sha256s())[2]
    add_candidates(theirs, "photographs", examined)
    edited(out, third, "0" * 64)
    result = apply_file(theirs, str(out), "decisions", who="nobody")
    assert (result.new, result.unknown, result.unknown_count) == (4, ("0" * 64,), 1)


def test_the_commands_take_a_dataset_out_and_in(
    ours: Workspace, theirs: Workspace, tmp_path: Path
) -> None:
    """Each in a process of its own; contradictions are shown where results are not."""
    out = str(tmp_path / "out")
    there, here = (
        {"folder": each.root, "environment": settings_of(each.settings)} for each in (ours, theirs)
    )
    exported = run("export", out, "--format", "coco", "--pictures", **there)  # type: ignore[arg-type]  # a dict of two kinds
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith("exported 5 pictures, 3 decided, to ")
    imported = run("import", out, "--format", "coco", **here)  # type: ignore[arg-type]  # as above
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.splitlines()[-1] == "reviewed 5 new 5 conflicts 1"
    assert "bob says no, ann said yes" in imported.stderr
    assert words(theirs) == words(ours)


def test_the_commands_know_the_formats_that_there_are() -> None:
    """They spell them out, so that `--help` need not import them."""
    assert get_args(cli_exchange.ExportFormat) == get_args(Format)
    assert get_args(cli_exchange.ImportFormat) == get_args(Source)


def test_a_file_whose_format_is_not_said_is_asked_about() -> None:
    with pytest.raises(Permanent, match=r"--format webdataset\|label-studio"):
        format_of("tasks.json", None)
