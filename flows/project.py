"""project.toml: what a project looks for, where, with which encoder, and how often."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from flows.errors import ProjectInvalid
from flows.project_errors import explain

if TYPE_CHECKING:
    # Named in annotations only: a command that reads the project should not wait for the rooms.
    from crawler.settings import CrawlPolicy
    from crawler.sources import Source
    from model.encoder import EncoderConfig
    from model.labels import Taxonomy
    from model.train import TrainConfig

FILE_NAME = "project.toml"

_NAME = r"^[a-z0-9][a-z0-9-]*$"


def _check_cron(expression: str) -> str:
    # Prefect's schedules have five fields; cronsim would also take a sixth, for seconds.
    if len(expression.split()) != 5:
        raise ValueError(
            f"expected five fields, such as '0 3 * * *' (every day at 3:00), got {expression!r}"
        )
    try:
        comes = next(CronSim(expression, datetime.now(UTC)), None)
    except CronSimError as error:
        raise ValueError(f"{expression!r} is not a cron schedule: {error}") from None
    if comes is None:
        raise ValueError(f"{expression!r} is a time that never comes")
    return expression


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


def _check_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"expected an address that starts with http:// or https://, got {address!r}"
        )
    return address


def _check_unique(named: Sequence[LabelConfig | SourceConfig]) -> None:
    names = [each.name for each in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the name {name!r} is given twice")


Address = Annotated[str, AfterValidator(_check_address), Field(description="an address")]
Cron = Annotated[str, AfterValidator(_check_cron)]
Pattern = Annotated[
    str, AfterValidator(_check_regex), Field(description="a regular expression, as a string")
]
Prompt = Annotated[str, Field(pattern=r"\S", description="a sentence")]
Schedule = Annotated[Cron | None, Field(description="a cron schedule of five fields, as a string")]


class _Section(BaseModel):
    """A table of project.toml. A field's description says what is expected there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LabelConfig(_Section):
    """One label, and what CLIP is asked about it."""

    name: str = Field(pattern=r"^\S(.*\S)?$", description="the label's name, as a string")
    prompts: list[Prompt] = Field(
        default=[], min_length=1, description="a list of one sentence or more"
    )
    against: list[Prompt] = Field(default=[], description="a list of sentences")
    synonyms: list[Prompt] = Field(default=[], description="a list of names")

    @model_validator(mode="before")
    @classmethod
    def _ask_by_name(cls, table: object) -> object:
        if (
            isinstance(table, dict)
            and "prompts" not in table
            and isinstance(table.get("name"), str)
        ):
            return {**table, "prompts": [f"a photo of a {table['name']}"]}
        return table


class SourceConfig(_Section):
    """One place to find pictures in, and when to look there again."""

    name: str = Field(
        pattern=_NAME, description="a string of lower-case letters, digits and hyphens"
    )
    start: list[Address] = Field(default=[], min_length=1, description="a list of addresses")
    kind: Literal["site", "urls"] = Field(default="site", description='"site" or "urls"')
    browser: Literal["never", "auto", "always"] = Field(
        default="never", description='"never", "auto" or "always"'
    )
    allow: list[Pattern] = Field(default=[], description="a list of regular expressions")
    deny: list[Pattern] = Field(default=[], description="a list of regular expressions")
    max_depth: int = Field(default=8, ge=0, description="a whole number, 0 or more")
    max_pages: int = Field(default=1000, ge=1, description="a whole number, 1 or more")
    allow_private: bool = Field(default=False, description="true or false")
    table: str = Field(default="", description="the path of a file, or s3://bucket/key")
    url_column: str = Field(default="", description="the name of a column of `table`")
    stop_after_known: int | None = Field(
        default=None, ge=1, description="a whole number, 1 or more"
    )
    sitemaps: bool = Field(default=True, description="true or false")
    max_minutes: float | None = Field(default=None, gt=0, description="minutes, more than 0")
    schedule: Schedule = None

    @model_validator(mode="after")
    def _somewhere_to_look(self) -> Self:
        if self.table and self.kind != "urls":
            raise ValueError('`table` is for `kind = "urls"`')
        if not self.start and not self.table:
            raise ValueError("expected `start`, a list of one address or more, or a `table`")
        return self


class EncoderSettings(_Section):
    """Which CLIP: a model and the name of its weights, or a checkpoint of one's own."""

    model: str = Field(default="", description="the name of an open_clip model, as a string")
    pretrained: str | None = Field(
        default=None, min_length=1, description="the name of the model's weights, as a string"
    )
    checkpoint: Path | None = Field(
        default=None, strict=False, description="the path of a file or folder, as a string"
    )

    backend: Literal["auto", "torch", "onnx", "onnx-int8", "torch-bf16"] = Field(
        default="torch", description='"auto", "torch", "onnx", "onnx-int8" or "torch-bf16"'
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.pretrained is None) == (self.checkpoint is None):
            given = "neither" if self.pretrained is None else "both"
            raise ValueError(f"expected one of `pretrained` and `checkpoint`, got {given}")
        if self.pretrained is not None and not self.model:
            raise ValueError("`pretrained` names weights of a model: set `model` as well")
        return self


class LimitsConfig(_Section):
    """How politely and how much is fetched; what is left out is as `CrawlPolicy` has it."""

    concurrency_per_host: int | None = Field(
        default=None, ge=1, description="a whole number, 1 or more"
    )
    delay_s: float | None = Field(default=None, ge=0, description="seconds, 0 or more")
    timeout_s: float | None = Field(default=None, gt=0, description="seconds, more than 0")
    max_bytes: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    max_pixels: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    min_side: int | None = Field(default=None, ge=1, description="pixels, 1 or more")


class PrelabelConfig(_Section):
    """When new images are given their scores by CLIP."""

    schedule: Schedule = None


class TrainSettings(_Section):
    """When and how the classifier is trained."""

    schedule: Schedule = None
    aim: Literal["f1"] = Field(default="f1", description='"f1"')
    folds: int = Field(default=5, ge=2, description="a whole number, 2 or more")
    repeats: int = Field(default=3, ge=1, description="a whole number, 1 or more")
    seed: int = Field(default=0, ge=0, description="a whole number, 0 or more")


class PredictConfig(_Section):
    """When what is new is labelled by the classifier in production."""

    schedule: Schedule = None


class Project(_Section):
    """One project, as project.toml describes it; `load` reads it."""

    root: Path = Field(default=Path(), exclude=True, strict=False, description="set by `load`")
    name: str = Field(
        pattern=_NAME, description="a string of lower-case letters, digits and hyphens"
    )
    contact: str = Field(
        default="", pattern=r"^[^\r\n]*$", description="an e-mail or web address, on one line"
    )
    labels: list[LabelConfig] = Field(
        min_length=1, description="a [[labels]] table for each of one label or more"
    )
    sources: list[SourceConfig] = Field(default=[], description="[[sources]] tables")
    encoder: EncoderSettings = Field(description="an [encoder] table")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="a [limits] table")
    prelabel: PrelabelConfig = Field(default=PrelabelConfig(), description="a [prelabel] table")
    train: TrainSettings = Field(default=TrainSettings(), description="a [train] table")
    predict: PredictConfig = Field(default=PredictConfig(), description="a [predict] table")

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, value: list[LabelConfig]) -> list[LabelConfig]:
        _check_unique(value)
        return value

    @field_validator("sources")
    @classmethod
    def _sources_differ(cls, value: list[SourceConfig]) -> list[SourceConfig]:
        _check_unique(value)
        return value

    @classmethod
    def load(cls, root: Path) -> Self:
        """Return the project in the folder `root`.

        Raises ProjectInvalid with a line for each thing that is wrong: which key, what was
        expected there, and what was found.
        """
        path = root / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ProjectInvalid(
                f"there is no {FILE_NAME} in {root}: `cratedig init` writes one"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ProjectInvalid(f"{path} cannot be read: {error}") from None
        return cls.parse(text, root)

    @classmethod
    def parse(cls, text: str, root: Path) -> Self:
        """Return the project that `text` describes; relative paths in it are below `root`."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ProjectInvalid(f"{FILE_NAME}: not TOML: {error}") from None
        if "root" in table:
            raise ProjectInvalid(
                f"{FILE_NAME}: root: unknown key; the project is where its file is"
            )
        try:
            return cls.model_validate({**table, "root": root})
        except ValidationError as error:
            lines = [f"{FILE_NAME}: {said}" for said in explain(error, cls)]
            raise ProjectInvalid("\n".join(lines)) from None

    def taxonomy(self) -> Taxonomy:
        """Return the labels and their prompts, in the file's order."""
        from model.labels import LabelPrompt, Taxonomy

        return Taxonomy(
            labels=tuple(
                LabelPrompt(
                    label=label.name,
                    prompts=tuple(label.prompts),
                    against=tuple(label.against),
                    synonyms=tuple(label.synonyms),
                )
                for label in self.labels
            )
        )

    def source(self, name: str) -> Source:
        """Return the source called `name`; ProjectInvalid says which there are, if none is."""
        from crawler.sources import Source

        for config in self.sources:
            if config.name == name:
                fields = config.model_dump(exclude={"schedule"})
                lists = {key: tuple(fields[key]) for key in ("start", "allow", "deny")}
                return Source(**{**fields, **lists})
        known = ", ".join(each.name for each in self.sources) or "none"
        raise ProjectInvalid(f"{FILE_NAME} has no source {name!r}; its sources: {known}")

    def policy(self) -> CrawlPolicy:
        """Return how politely and how much to fetch."""
        from crawler.settings import CrawlPolicy

        return CrawlPolicy(contact=self.contact, **self.limits.model_dump(exclude_none=True))

    def encoder_config(self) -> EncoderConfig:
        """Return which encoder to load; its checkpoint's path is resolved against `root`."""
        from model.encoder import EncoderConfig

        checkpoint = self.encoder.checkpoint
        return EncoderConfig(
            model=self.encoder.model,
            pretrained=self.encoder.pretrained,
            checkpoint=None if checkpoint is None else self.root / checkpoint.expanduser(),
            backend=self.encoder.backend,
        )

    def train_config(self) -> TrainConfig:
        """Return how to train."""
        from model.train import TrainConfig

        return TrainConfig(**self.train.model_dump(exclude={"schedule"}))


EXAMPLE_PROJECT = """\
# A cratedig project: what to look for, where, and how often.
# Keys and addresses of the object store do not belong here: they come from CRATEDIG_ variables,
# or from the local stack that `cratedig up` starts.

name = "records"
# Sites see this in the User-Agent, so that they can write to you. Crawling asks for it.
contact = "you@example.org"

# ---- Labels: each is a yes/no question of its own; a picture may have several, or none. ----

[[labels]]
name = "turntable"
# What CLIP is asked. Left out, it is "a photo of a turntable".
prompts = ["a photo of a turntable", "a record player with its tonearm"]
# Other names of it, each put into several sentences; may be left out.
synonyms = ["gramophone"]
# What a picture without the label looks like; may be left out.
against = ["a photo of a room", "a photo of a loudspeaker"]

[[labels]]
name = "vinyl"
prompts = ["a photo of a vinyl record", "a twelve inch record on a platter"]

# ---- Sources: where pictures are found. ----

[[sources]]
name = "example-shop"
start = ["https://example.org/records/"]
# Pages are followed within the hosts of `start`; regular expressions narrow that down.
allow = ["/records/"]
deny = ["[?&]sort="]
max_pages = 200
# "auto" opens a page in a browser when its HTML holds no picture; "always" and "never".
browser = "never"
# When to look for what is new: minute, hour, day of month, month, day of week (UTC).
schedule = "0 3 * * *"

# [[sources]]
# name = "hand-picked"
# kind = "urls"                 # `start` lists pictures themselves
# start = ["https://example.org/pictures/1.jpg"]

# [[sources]]
# name = "from-a-table"
# kind = "urls"
# table = "pictures.parquet"    # or .csv, .tsv, .jsonl, .txt, gzipped too; or s3://bucket/key
# url_column = "image_url"      # only when the column's name does not say it

# ---- Encoder: which CLIP describes the pictures. ----

[encoder]
model = "ViT-B-32"
pretrained = "laion2b_s34b_b79k"   # downloaded by open_clip when it is first used
backend = "auto"                   # measured once on your own pictures; "torch" is the reference
# checkpoint = "weights/mine"      # instead: a folder with open_clip_config.json and safetensors

# ---- Limits: how politely and how much is fetched. These are the defaults. ----

[limits]
concurrency_per_host = 4
delay_s = 0.25
timeout_s = 30
max_bytes = 30_000_000
max_pixels = 100_000_000
min_side = 64                      # smaller pictures are rejected

# ---- When the rest is done. Left out: only when you ask for it. ----

[prelabel]
schedule = "30 3 * * *"

[train]
folds = 5
repeats = 3
seed = 0
# schedule = "0 5 * * 1"

[predict]
schedule = "0 4 * * *"
"""
"""What `cratedig init` writes: commented, and valid as it stands."""
