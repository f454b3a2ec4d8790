"""What was forgotten is in no archive's answers either, wherever they lie, and no run brings it back."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from flows.archive.places import Output, output_at
from flows.archive.purge import purge_answers
from flows.archive.result import ArchiveManifest, read_manifest
from flows.archive.rows import Format, count, embedded_from_parquet, read_rows
from flows.cli import app
from flows.errors import Permanent
from flows.forget import forget, forgotten
from flows.objects import ObjectStore
from flows.settings import Settings
from flows.tombstones import Forgotten
from flows.workspace import Workspace
from tests.conftest import RunningStore
from tests.flows.archives import PROJECT, jpeg, label, rows, workspace_at
from tests.flows.gallery import gallery
from tests.flows.store_proxy import run_proxy
from tests.flows.test_cli import settings_of
from tests.flows.test_forget import _KilledAt, traces
from tests.flows.test_imports import write_folder

GONE = 3
SHA256 = hashlib.sha256(jpeg(GONE)).hexdigest()


@pytest.fixture
def workspace(bucket: Settings, tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "project", bucket)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder in which the picture lies twice, and what is none."""
    files = {f"{number:03}.jpg": jpeg(number) for number in range(25)}
    return write_folder(tmp_path / "set", {**files, "again.jpg": jpeg(GONE), "bad.jpg": b"no"})


def published(output: Output) -> list[ArchiveManifest]:
    """Return every publication, each checked against what it names."""
    found = [read_manifest(output, key) for key in output.keys("labels/") if "/manifests/" in key]
    for manifest in found:
        yes: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        labelled = 0
        for part in manifest.parts:
            data = output.get(part.key)
            assert hashlib.sha256(data).hexdigest() == part.sha256
            table = read_rows(data, manifest.format)
            counts = count(table)
            assert table.num_rows == part.pictures
            labelled += counts.labelled
            yes.update(counts.yes)
            errors.update(counts.errors)
        assert manifest.pictures == sum(part.pictures for part in manifest.parts)
        assert (manifest.labelled, Counter(manifest.yes)) == (labelled, yes)
        assert Counter(manifest.errors) == errors
    return found


def lines(output: Output, manifest: ArchiveManifest) -> list[object]:
    """Return the rows of a publication: of texts the lines as they are."""
    found: list[object] = []
    for part in manifest.parts:
        data = output.get(part.key)
        found += (
            read_rows(data, "parquet").to_pylist()
            if manifest.format == "parquet"
            else data.splitlines()
        )
    return found


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_no_part_holds_the_id_and_the_manifests_count_what_is_left(
    kind: Format, workspace: Workspace, pictures: Path
) -> None:
    """Of the last publication and of the one before; the other rows are byte for byte what they were."""
    out = workspace.store.uri("answers")
    label(workspace, pictures, out, format=kind, keep_embeddings=True)
    (pictures / "004.jpg").write_bytes(jpeg(100))
    label(workspace, pictures, out, format=kind, keep_embeddings=True)
    output = output_at(workspace, out)
    before = published(output)
    assert [each.pictures for each in before] == [27, 27]
    stay = [[row for row in lines(output, each) if SHA256 not in str(row)] for each in before]
    assert len(traces(workspace.store, SHA256.encode())) >= 3

    result = forget(workspace, sha256s=[SHA256], in_flight_s=0)

    assert traces(workspace.store, SHA256.encode()) == {}
    assert result.archive_files >= 3
    after = published(output)
    assert [each.pictures for each in after] == [25, 25]
    assert [each.labelled for each in after] == [24, 24]
    assert [lines(output, each) for each in after] == stay

    again = label(workspace, pictures, out, format=kind)
    assert (again.published_now, again.manifest) == (False, after[-1])
    assert forget(workspace, in_flight_s=0).archive_files == 0


@pytest.mark.parametrize("kept", [False, True])
def test_another_question_gives_it_no_row(
    kept: bool,
    workspace: Workspace,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether the pictures are read again, in which it still lies, or their vectors."""
    out = tmp_path / "out"
    label(workspace, pictures, out, keep_embeddings=kept)
    for name, value in settings_of(workspace.settings).items():
        monkeypatch.setenv(name, value)
    words = ["forget", "--yes", "--sha256", SHA256, "--archive", str(out)]
    with pytest.raises(SystemExit) as ended:
        app([*words, "--project", str(workspace.root)])
    assert ended.value.code == 0
    assert "files of archives' answers rewritten" in capsys.readouterr().out
    for path in out.glob("embeddings/*/*.parquet"):
        embedded = embedded_from_parquet(path.read_bytes())
        assert SHA256 not in {each.sha256 for each in embedded.facts}
        assert len(embedded.vectors_ND) == sum(each.error is None for each in embedded.facts)

    other = workspace_at(workspace.root, workspace.settings, PROJECT.replace("a disc", "a dish"))
    second = label(other, pictures, out)
    assert (second.manifest.pictures, second.manifest.labelled) == (25, 24)
    assert SHA256 not in {row["sha256"] for row in rows(other, second, out)}


def test_forgotten_addresses_are_in_no_answers_or_plans_and_are_not_asked_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    """One that had a picture, and one that is to be tried again; what names them is redacted."""
    with gallery() as site:
        urls = [site.picture_url(number) for number in range(12)]
        table = tmp_path / "table.csv"
        table.write_text("url\n" + "\n".join(urls) + "\n")
        site.statuses.update({"/5.png": 500, "/6.png": 500})
        out = workspace.store.uri("answers")
        first = label(workspace, table, out, allow_private=True)
        assert first.manifest.to_retry == 2
        needles = [urls[2].encode() + b"\n", urls[5].encode() + b"\n"]
        assert {key.split("/")[1] for key in traces(workspace.store, *needles)} == {
            "labels",
            "plans",
        }

        forget(workspace, urls=[urls[2], urls[5]], in_flight_s=0)

        assert traces(workspace.store, *needles) == {}
        (manifest,) = published(output_at(workspace, out))
        assert (manifest.pictures, manifest.to_retry) == (10, 1)
        site.statuses.clear()
        site.asked.clear()
        second = label(workspace, table, out, allow_private=True)
        assert {path for path in site.asked if "png" in path} == {"/6.png"}
        assert (second.manifest.labelled, second.manifest.to_retry) == (10, 0)
        fresh = label(workspace, table, workspace.store.uri("fresh"), allow_private=True)
        assert fresh.manifest.pictures == 10
        assert not {"/2.png", "/5.png"} & set(site.asked)


@pytest.mark.slow
def test_killed_at_every_step_the_manifests_name_parts_that_are_there(
    workspace: Workspace, pictures: Path, bucket: Settings
) -> None:
    """The old or the new ones; called again it ends as if it had not been killed."""
    gone, outs = Forgotten.of(sha256s=[SHA256]), ("undisturbed", "answers")
    formats: tuple[Format, ...] = ("parquet", "csv")
    for out in outs:
        for kind in formats:
            place = workspace.store.uri(out)
            label(workspace, pictures, place, format=kind, keep_embeddings=True)
    purge_answers(output_at(workspace, workspace.store.uri(outs[0])), gone)
    settings = bucket.model_copy(update={"prefix": f"{bucket.prefix}/{outs[1]}"})
    output, killed = ObjectStore(settings), 0
    while True:
        try:
            # One step further each time: it is killed at its first writes again and again.
            purge_answers(_KilledAt(settings, step=killed), gone)
        except InterruptedError:
            killed += 1
            assert len(published(output)) == 2
            continue
        break
    assert killed > 5

    def files(out: str) -> dict[str, bytes]:
        store = ObjectStore(bucket.model_copy(update={"prefix": f"{bucket.prefix}/{out}"}))
        return {info.key: store.get(info.key) for info in store.list()}

    assert files(outs[1]) == files(outs[0])


def test_answers_that_the_keys_do_not_open_are_told_of_and_the_others_are_rid_of_it(
    store_server: RunningStore, bucket: Settings, pictures: Path, tmp_path: Path
) -> None:
    with run_proxy(store_server) as proxy:
        through = bucket.model_copy(update={"endpoint": proxy.endpoint})
        workspace = workspace_at(tmp_path / "project", through)
        places = [workspace.store.uri(name) for name in ("shut", "open")]
        for place in places:
            label(workspace, pictures, place)
        proxy.strikes = lambda method, path: "expired" if "shut" in path else None
        result = forget(workspace, sha256s=[SHA256], in_flight_s=0)
    assert result.unreached == (f"{places[0]}/",)
    assert f"do not open: {places[0]}/" in str(result)
    assert {
        key.split("/")[0]
        for key in traces(workspace_at(tmp_path / "p", bucket).store, SHA256.encode())
    } == {"shut"}


def test_a_folder_without_answers_is_refused_before_anything_is_forgotten(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(Permanent, match="no answers of `cratedig label --out` in"):
        forget(workspace, sha256s=[SHA256], archives=[str(tmp_path)])
    assert not forgotten(workspace)
