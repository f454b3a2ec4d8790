"""What the documents say, taken apart for the tests: blocks, code spans, links, headings, tables."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("crawler", "flows", "model", "infra")

GENERATED = "flows/REFERENCE.md"
"""Written from the code, and held to it by tests/flows/test_reference.py."""

ORDER = ("README.md", "flows/HOWTO.md", "infra/runbook.md")
"""The documents that are read, and run, first; the others follow by name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: which document, the line of its fence (from 1), its language, its text."""

    document: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """The first line, by which people know it."""
        return self.text.partition("\n")[0]

    @property
    def place(self) -> str:
        """Where to look."""
        return f"{self.document}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Document:
    """A Markdown file of the repository, by its path from the root."""

    name: str

    @cached_property
    def text(self) -> str:
        """All of it."""
        return (ROOT / self.name).read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The fenced blocks, in order."""
        return tuple(
            Block(
                document=self.name,
                line=self.text.count("\n", 0, found.start()) + 1,
                language=found[1],
                text=found[2],
            )
            for found in re.finditer(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        )

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @cached_property
    def spans(self) -> tuple[str, ...]:
        """What stands between backticks in the prose, its line breaks as spaces."""
        return tuple(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose))

    @property
    def commands(self) -> Iterator[list[str]]:
        """What is typed after `cratedig`, in spans and in blocks, as words."""
        lines = [line for block in self.blocks for line in typed(block)]
        for line in (*self.spans, *lines):
            for found in re.finditer(r"(?:^|[(;&|]|\$\()\s*cratedig ([^;&|)]+)", line):
                yield shlex.split(found[1], comments=True)

    @property
    def links(self) -> list[str]:
        """The targets of the links and pictures that lead to other files or headings."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.prose)
        return [target for target in targets if "://" not in target]

    @property
    def anchors(self) -> set[str]:
        """What `#...` may name: the headings as GitHub spells them in addresses."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in headings
        }

    def column(self, heading: str) -> list[str]:
        """Return the cells of every table's column of that heading."""
        cells: list[str] = []
        place: int | None = None
        for line in self.prose.splitlines():
            row = [cell.strip() for cell in line.strip("|").split("|")] if "|" in line else []
            if heading in row:
                place = row.index(heading)
            elif not row:
                place = None
            elif place is not None and not set(row[0]) <= set("-: "):
                cells.append(row[place])
        return cells


def typed(block: Block) -> list[str]:
    """Return the lines of a block of commands as a shell joins them, without `$ ` before them."""
    if block.language not in ("sh", "console"):
        return []
    joined = block.text.replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines()]


def documents() -> list[Document]:
    """Return every document that people wrote, in the order of reading."""
    names = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.md", *(f"{room}/**/*.md" for room in ROOMS))
        for path in ROOT.glob(pattern)
    }
    rest = sorted(names - {GENERATED, *ORDER})
    return [Document(name) for name in (*ORDER, *rest)]
