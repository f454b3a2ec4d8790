"""Labels changed in project.toml, and their answers' way to another name."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from flows.decision_notes import renamed_from
from flows.errors import ProjectInvalid
from flows.example_project import EXAMPLE_PROJECT
from flows.labels import merge_labels, rename_label
from flows.project import LabelConfig, Project
from flows.project_edits import add_label, change_label, remove_label
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.studio_data import Drawn, decide, fill, make_project, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the commented example."""
    (tmp_path / "project.toml").write_text(EXAMPLE_PROJECT)
    return tmp_path


def names(root: Path) -> tuple[str, ...]:
    return Project.load(root).taxonomy().names


def comments(root: Path) -> list[str]:
    text = (root / "project.toml").read_text()
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_a_label_is_added_behind_the_others_and_every_comment_stays(root: Path) -> None:
    before = comments(root)
    add_label(root, LabelConfig(name='"sleeve"', prompts=["a photo of a sleeve"]))
    assert names(root) == ("turntable", "vinyl", '"sleeve"')
    assert comments(root) == before


def test_prompts_are_changed_in_their_place_and_every_comment_stays(root: Path) -> None:
    before = comments(root)
    change_label(root, "turntable", {"prompts": ["a\\b", 'a "quoted" word'], "against": []})
    label = Project.load(root).labels[0]
    assert (label.prompts, label.against) == (["a\\b", 'a "quoted" word'], [])
    assert comments(root) == before


def test_a_value_over_several_lines_and_a_comment_behind_one_are_understood(root: Path) -> None:
    path = root / "project.toml"
    text = path.read_text().replace(
        'name = "vinyl"\n',
        'name = "vinyl" # "round" things\nagainst = [\n  "a",  # one\n  "b",\n]\n',
    )
    path.write_text(text)
    change_label(root, "vinyl", {"name": "records", "against": ["c"]})
    assert names(root) == ("turntable", "records")
    assert 'name = "records" # "round" things' in path.read_text()
    assert Project.load(root).labels[1].against == ["c"]


def test_a_label_is_removed_and_nothing_else_is(root: Path) -> None:
    before = Project.load(root)
    remove_label(root, "vinyl")
    assert Project.load(root) == before.model_copy(update={"labels": before.labels[:1]})


def test_the_last_label_cannot_be_removed_and_the_file_stays_as_it_was(root: Path) -> None:
    remove_label(root, "vinyl")
    text = (root / "project.toml").read_text()
    with pytest.raises(ProjectInvalid):
        remove_label(root, "turntable")
    assert (root / "project.toml").read_text() == text


def test_labels_written_in_another_way_are_left_alone(root: Path) -> None:
    text = 'name = "x"\nlabels = [{name = "a"}]\n[encoder]\nmodel = "m"\npretrained = "p"\n'
    (root / "project.toml").write_text(text)
    with pytest.raises(ProjectInvalid, match="by hand"):
        add_label(root, LabelConfig(name="b"))
    assert (root / "project.toml").read_text() == text


@pytest.fixture
def filled(store_server: RunningStore, tmp_path: Path) -> tuple[Workspace, list[Drawn]]:
    """A project with the labels turntable and vinyl, twelve drawings and no decision."""
    workspace = make_project(tmp_path, store_server)
    return workspace, fill(workspace)


def answers(workspace: Workspace, label: str, drawings: list[Drawn]) -> dict[int, str]:
    ids = [each.sha256 for each in drawings]
    latest = workspace.catalog.latest_decisions()
    return {ids.index(sha256): row.answer for (sha256, of), row in latest.items() if of == label}


def test_the_answers_to_a_renamed_label_follow_it_once_and_say_where_they_came_from(
    filled: tuple[Workspace, list[Drawn]],
) -> None:
    workspace, drawings = filled
    decide(workspace, drawings[0], "vinyl", "yes")
    decide(workspace, drawings[1], "vinyl", "no", minutes=1)
    assert rename_label(workspace.root, workspace.catalog, "vinyl", "records").moved == 2
    assert names(workspace.root) == ("turntable", "records")
    assert answers(workspace, "records", drawings) == {0: "yes", 1: "no"}
    rows = [row for row in workspace.catalog.decisions() if row.label == "records"]
    assert {(row.who, row.note) for row in rows} == {("somebody", renamed_from("vinyl"))}
    assert answers(workspace, "vinyl", drawings) == {0: "yes", 1: "no"}  # the history stays


def test_what_was_asked_of_clip_does_not_change_with_the_name(
    filled: tuple[Workspace, list[Drawn]],
) -> None:
    workspace, _ = filled
    rename_label(workspace.root, workspace.catalog, "vinyl", "records")
    assert Project.load(workspace.root).labels[1].prompts == ["a photo of a vinyl"]


def test_where_two_merged_labels_differ_the_answer_of_the_one_that_stays_stands(
    filled: tuple[Workspace, list[Drawn]],
) -> None:
    workspace, drawings = filled
    decide(workspace, drawings[0], "turntable", "no")
    decide(workspace, drawings[0], "vinyl", "yes", minutes=1)
    decide(workspace, drawings[1], "vinyl", "yes", minutes=2)
    done = merge_labels(workspace.root, workspace.catalog, "vinyl", "turntable")
    assert (done.moved, done.differed) == (1, 1)
    assert answers(workspace, "turntable", drawings) == {0: "no", 1: "yes"}
    assert names(workspace.root) == ("turntable",)


def test_a_label_is_added_and_renamed_in_the_studio_and_can_be_decided_at_once(
    filled: tuple[Workspace, list[Drawn]],
) -> None:
    workspace, drawings = filled
    headers = {"x-cratedig-studio": "1"}
    with (
        serving(workspace.root) as address,
        httpx.Client(base_url=address, headers=headers, timeout=30) as client,
    ):
        said = client.post("/api/labels/add", json={"name": "sleeve", "prompts": ["a sleeve"]})
        assert said.json() == {"said": "Added sleeve."}
        client.post("/api/labels/rename", json={"name": "sleeve", "to": "cover"}).raise_for_status()
        assert client.post("/api/labels/add", json={"name": "cover"}).status_code == 422
        decision = {
            "id": "decision-1",
            "sha256": drawings[0].sha256,
            "label": "cover",
            "answer": "yes",
        }
        receipt = client.post("/api/decisions", json={"decisions": [decision]}).json()
        assert receipt["saved"] == ["decision-1"]
        assert "cover" in client.get("/label/labels").text
    assert answers(workspace, "cover", drawings) == {0: "yes"}
