"""The labels of a project, and what CLIP is asked about each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

TEMPLATES = ("a photo of a {}", "{}", "a {}", "a close-up photo of a {}")
"""What a synonym is put into: a few of those that CLIP's authors average over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPrompt:
    """One label and its yes/no question, in words.

    `prompts` describe pictures that have the label, `against` pictures that do not. Without
    `against`, the question is put against a background that knows no label (`model.prelabel`).
    `synonyms` are other names of the label; each is put into every one of `templates`, where {} is.
    Raises ValueError when the label is blank, has no prompt, or has a blank one.
    """

    label: str
    prompts: tuple[str, ...]
    against: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    @property
    def texts(self) -> tuple[str, ...]:
        """All that describes a picture with the label: the prompts, then the synonyms' sentences."""
        filled = [each.replace("{}", name) for name in self.synonyms for each in self.templates]
        return tuple(dict.fromkeys((*self.prompts, *filled)))

    def __post_init__(self) -> None:
        if not self.label.strip():
            raise ValueError("a label has an empty name: give it one")
        if not self.prompts and not self.synonyms:
            raise ValueError(
                f"label {self.label!r} has no prompt: give at least one, such as 'a photo of ...'"
            )
        if not all("{}" in template for template in self.templates):
            raise ValueError(
                f"label {self.label!r} has a template without {{}}: say where its name goes"
            )
        if not all(text.strip() for text in (*self.prompts, *self.against, *self.synonyms)):
            raise ValueError(f"label {self.label!r} has an empty prompt: write it out or remove it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxonomy:
    """The labels of a project, each independent of the others; their order is that of columns.

    Raises ValueError when there is no label or two have the same name.
    """

    labels: tuple[LabelPrompt, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("a taxonomy needs at least one label")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"labels must have different names; given twice: {', '.join(twice)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels, in column order."""
        return tuple(label.label for label in self.labels)

    @property
    def id(self) -> str:
        """12 hex digits that change with any name, any prompt, and any order."""
        everything = [[label.label, label.texts, label.against] for label in self.labels]
        canonical = json.dumps(everything, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
