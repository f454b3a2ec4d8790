"""The documents show only what exists, and what they tell people to type works."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from cyclopts import App

from flows.cli import app
from flows.project import Project
from tests.documents import GENERATED, ROOMS, ROOT, Block, Document, documents, typed
from tests.reader import Outcome, type_all

DOCUMENTS = documents()
BLOCKS = [block for document in DOCUMENTS for block in document.blocks]
RUN = [block for block in BLOCKS if block.language == "sh"]
LANGUAGES = {"sh", "console", "toml", "text"}

NOT_RUN = {
    "README.md": [
        "make demo    # sets everything up, then runs the whole line on a small site here"
    ],
    "flows/HOWTO.md": [
        "cratedig train --fine-tune last_blocks",
        "cp infra/compose.env.example .env     # and fill in the secrets",
        "cp project.toml infra/kubernetes/",
    ],
    "CONTRIBUTING.md": ["make setup   # .venv from requirements.lock, a browser"],
}
"""The first lines of the blocks that are only shown, because what they need is not here."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)


def test_what_is_not_run_is_listed() -> None:
    """A block of another language is shown and not run: each is known here, and none by accident."""
    shown: dict[str, list[str]] = {}
    for block in BLOCKS:
        assert block.language in LANGUAGES, block.place
        if block.language == "console":
            shown.setdefault(block.document, []).append(block.first)
    assert shown == NOT_RUN


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[Block, Outcome]:
    """How each block ended when all were typed in the order of the documents."""
    return type_all(RUN, tmp_path_factory.mktemp("reader"))


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=lambda each: each.place)
def test_what_is_to_be_typed_works(block: Block, outcomes: dict[Block, Outcome]) -> None:
    """Every `sh` block, in the reader's folder, after all that stand before it."""
    assert block in outcomes, "a block before it failed"
    assert outcomes[block].code == 0, f"{block.text}\n{outcomes[block].said}"


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.language == "toml"], ids=lambda each: each.place
)
def test_settings_that_are_shown_are_taken(block: Block, tmp_path: Path) -> None:
    """Every `toml` block, with a name and a label where it shows none."""
    found = tomllib.loads(block.text)
    before = "" if "name" in found else 'name = "records"\n'
    after = "" if "labels" in found else '\n[[labels]]\nname = "vinyl"\n'
    encoder = "" if "encoder" in found else '\n[encoder]\ncheckpoint = "clip"\n'
    Project.parse(before + block.text + after + encoder, tmp_path)


def _options(command: App) -> set[str]:
    """Return the options of a command itself."""
    if command.default_command is None:
        return set()
    arguments = command.assemble_argument_collection()
    return {each for argument in arguments for each in argument.names if each[:2] == "--"}


def _found(words: list[str]) -> tuple[str, set[str]]:
    """Return the command that the words name, and its options."""
    command, names = app, []
    for word in words:
        if word.startswith("-") or word not in command:
            break
        command = command[word]
        names.append(word)
    return " ".join(names), _options(command) | {"--help", "--version"}


@each_document
def test_commands_and_options_exist(document: Document) -> None:
    """Whatever stands after `cratedig` in code."""
    for words in document.commands:
        name, options = _found(words)
        assert name or words[0].startswith("-"), words
        shown = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert shown <= options, words


def test_every_command_is_explained() -> None:
    """In a document that people wrote, not in the reference alone."""
    explained = {
        _found(words)[0].partition(" ")[0] for each in DOCUMENTS for words in each.commands
    }
    assert {name for name in app if not name.startswith("-")} <= explained


@each_document
def test_links_lead_somewhere(document: Document) -> None:
    """To a file that is there and, with `#`, to one of its headings."""
    for target in document.links:
        file, _, anchor = target.partition("#")
        path = (ROOT / document.name).parent / file if file else ROOT / document.name
        assert path.exists(), target
        if anchor:
            found = Document(path.resolve().relative_to(ROOT).as_posix())
            assert anchor in found.anchors, target


@each_document
def test_files_that_are_named_exist(document: Document) -> None:
    """Whatever looks like a path below a room or the tests."""
    words = {word for span in document.spans for word in span.split()}
    words |= {word for block in document.blocks for line in typed(block) for word in line.split()}
    named = {
        word.partition(":")[0]
        for word in words
        if re.fullmatch(rf"({'|'.join((*ROOMS, 'tests'))})/[\w./-]+(:[\w ]+)?", word)
    }
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@each_document
def test_make_targets_that_are_named_exist(document: Document) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line for block in document.blocks for line in typed(block)]
    for target in re.findall(
        r"^make ([a-z-]+)", "\n".join([*document.spans, *lines]), re.MULTILINE
    ):
        pattern = "bench-%" if target.startswith("bench-") else re.escape(target)
        assert re.search(rf"^{pattern}:", makefile, re.MULTILINE), target


@each_document
def test_variables_that_are_named_are_in_the_reference(document: Document) -> None:
    """And so are documented where people look for them."""
    reference = (ROOT / GENERATED).read_text(encoding="utf-8")
    named = {name for span in document.spans for name in re.findall(r"\bCRATEDIG_[A-Z_]+\b", span)}
    known = set(re.findall(r"`(CRATEDIG_[A-Z_]+)`", reference)) | _read_by_files_of_infra()
    assert named - known == set()


def _read_by_files_of_infra() -> set[str]:
    """Return the variables of compose files and tests, which no settings class has."""
    files = [ROOT / "infra" / "compose.yaml", ROOT / "Makefile", ROOT / "tests" / "conftest.py"]
    return {
        name for file in files for name in re.findall(r"CRATEDIG_[A-Z_]+", file.read_text("utf-8"))
    }


def _sentences() -> str:
    """Return all strings of the code and the texts of its pages, `...` for what is put in."""
    found = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix == ".py":
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found += [_text(node) for node in ast.walk(tree)]
            elif path.suffix in (".html", ".js"):
                found.append(" ".join(path.read_text(encoding="utf-8").split()))
    return "\n".join(found)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part) if isinstance(part, ast.Constant) else "..." for part in node.values
        )
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_messages_in_the_runbook_are_the_codes_own() -> None:
    """Code in the column "message", and what stands in quotation marks."""
    runbook = Document("infra/runbook.md")
    quoted = [span for cell in runbook.column("message") for span in re.findall(r"`([^`]+)`", cell)]
    quoted += [" ".join(found.split()) for found in re.findall(r'"([^"]+)"', runbook.prose)]
    sentences = _sentences()
    assert len(quoted) > 5
    assert [each for each in quoted if each not in sentences] == []


def test_pictures_are_small() -> None:
    """Each picture that a document shows has less than 300 kB."""
    shown = {
        (ROOT / document.name).parent / target
        for document in DOCUMENTS
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.prose)
    }
    assert shown
    assert [path.name for path in shown if path.stat().st_size >= 300_000] == []
