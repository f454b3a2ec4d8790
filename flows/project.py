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

from flows.errors import Permanent, ProjectInvalid
from flows.fine_tune_settings import FineTune, FineTuneSettings
from flows.project_errors import explain

if TYPE_CHECKING:
    # Named in annotations only: a command that reads the project should not wait for the rooms.
    from crawler.settings import CrawlPolicy
    from crawler.sources import Source
    from flows.train import PromotionRule
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


def _check_aim(text: str) -> str:
    from model.thresholds import Aim

    Aim.parse(text)
    return text


Address = Annotated[str, AfterValidator(_check_address), Field(description="an address")]
Aim = Annotated[
    str,
    AfterValidator(_check_aim),
    Field(description='"f1", "precision >= 0.95", "recall >= 0.9" or "costs 5:1"'),
]
Cron = Annotated[str, AfterValidator(_check_cron)]
Pattern = Annotated[
    str, AfterValidator(_check_regex), Field(description="a regular expression, as a string")
]
# `\s` of these patterns leaves out what Python counts as space besides, and `model.labels` refuses.
Prompt = Annotated[str, Field(pattern=r"[^\s\x1c-\x1f]", description="a sentence")]
Schedule = Annotated[Cron | None, Field(description="a cron schedule of five fields, as a string")]


def write_new(folder: Path, text: bytes) -> Path:
    """Write project.toml into `folder`, made if need be; Permanent if it has one."""
    path = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(text)
    except FileExistsError as error:
        raise Permanent(f"{path} exists already; it was left as it is") from error
    return path


class _Section(BaseModel):
    """A table of project.toml. A field's description says what is expected there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LabelConfig(_Section):
    """One label, and what CLIP is asked about it."""

    name: str = Field(
        pattern=r"^[^\s\x1c-\x1f](.*[^\s\x1c-\x1f])?$", description="the label's name, as a string"
    )
    """What is decided, yes or no, of every picture."""
    description: str = Field(default="", description="when the answer is yes, as a string")
    """When the answer is yes: shown to those who decide."""
    prompts: list[Prompt] = Field(
        default=[], min_length=1, description="a list of one sentence or more"
    )
    """What CLIP is asked; left out, it is asked for a photo of the name."""
    against: list[Prompt] = Field(default=[], description="a list of sentences")
    """What a picture without the label looks like."""
    synonyms: list[Prompt] = Field(default=[], description="a list of names")
    """Other names of it, each put into several sentences."""

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
    """Names the source in commands, reports and deployments."""
    start: list[Address] = Field(default=[], min_length=1, description="a list of addresses")
    """The pages to start from, or with `urls` the pictures themselves."""
    kind: Literal["site", "urls"] = Field(default="site", description='"site" or "urls"')
    """Follow pages, or take a list of pictures."""
    browser: Literal["never", "auto", "always"] = Field(
        default="never", description='"never", "auto" or "always"'
    )
    """Whether to open pages in Chromium: always, never, or where the HTML shows too little."""
    allow: list[Pattern] = Field(default=[], description="a list of regular expressions")
    """Follow only pages whose address matches one of these."""
    deny: list[Pattern] = Field(default=[], description="a list of regular expressions")
    """Follow no page whose address matches one of these."""
    max_depth: int = Field(default=8, ge=0, description="a whole number, 0 or more")
    """How many links away from the start to go."""
    max_pages: int = Field(default=1000, ge=1, description="a whole number, 1 or more")
    """How many pages to read in one run."""
    allow_private: bool = Field(default=False, description="true or false")
    """Whether the source may lead to addresses that are not public."""
    table: str = Field(default="", description="the path of a file, or s3://bucket/key")
    """A table of picture addresses, in place of `start`."""
    url_column: str = Field(default="", description="the name of a column of `table`")
    """The table's column of addresses, where its name does not say so."""
    stop_after_known: int | None = Field(
        default=None, ge=1, description="a whole number, 1 or more"
    )
    """End a run once so many pictures in a row were already there."""
    sitemaps: bool = Field(default=True, description="true or false")
    """Whether to read the sitemaps that the site names."""
    max_minutes: float | None = Field(default=None, gt=0, description="minutes, more than 0")
    """End a run after so long; the next one carries on."""
    schedule: Schedule = None
    """When to look for what is new, in UTC."""

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
    """The name of an open_clip architecture."""
    pretrained: str | None = Field(
        default=None, min_length=1, description="the name of the model's weights, as a string"
    )
    """The name of its weights, which open_clip downloads."""
    checkpoint: Path | None = Field(
        default=None, strict=False, description="the path of a file or folder, as a string"
    )
    """Weights of your own, instead: a folder with open_clip_config.json and safetensors."""

    backend: Literal["auto", "torch", "onnx", "onnx-int8", "torch-bf16"] = Field(
        default="torch", description='"auto", "torch", "onnx", "onnx-int8" or "torch-bf16"'
    )
    """How it is run; `auto` measures once on your pictures and keeps the fastest that agrees."""

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
    """Requests to one host at a time."""
    delay_s: float | None = Field(default=None, ge=0, description="seconds, 0 or more")
    """Seconds between two requests to one host."""
    timeout_s: float | None = Field(default=None, gt=0, description="seconds, more than 0")
    """After how long a request is given up."""
    max_bytes: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    """Larger files are rejected."""
    max_pixels: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    """Larger pictures are rejected before they are decoded."""
    min_side: int | None = Field(default=None, ge=1, description="pixels, 1 or more")
    """Pictures with a shorter side are rejected, in pixels."""


class PrelabelConfig(_Section):
    """When new images are given their scores by CLIP."""

    schedule: Schedule = None
    """When to embed and pre-label what is new, in UTC."""


class TrainSettings(_Section):
    """When and how the classifier is trained."""

    schedule: Schedule = None
    """When to train, in UTC."""
    train_after_decisions: int | None = Field(
        default=None, ge=1, description="a whole number, 1 or more"
    )
    """Train once so much was decided since the last model; looked at every half hour."""
    aim: Aim = "f1"
    """What thresholds are chosen for."""
    promote_lowest: float = Field(default=-0.01, ge=-1, le=1, description="a number from -1 to 1")
    """A new model's advantage in macro F1 must lie above this at the lower end of its interval."""
    promote_mean: float = Field(default=0.0, ge=-1, le=1, description="a number from -1 to 1")
    """And above this in the mean."""
    folds: int = Field(default=5, ge=2, description="a whole number, 2 or more")
    """Parts of the cross-validation."""
    repeats: int = Field(default=3, ge=1, description="a whole number, 1 or more")
    """How often it is repeated."""
    seed: int = Field(default=0, ge=0, description="a whole number, 0 or more")
    """Of everything random."""
    fine_tune: FineTune = "off"
    """Whether `cratedig train` and `schedule` let the encoder learn, too, and which part of it."""


class PredictConfig(_Section):
    """When what is new is labelled by the classifier in production, and what is asked afterwards."""

    schedule: Schedule = None
    """When to label what is new, in UTC."""
    new_model: Literal["new", "all"] = Field(default="all", description='"new" or "all"')
    """What a model that comes into production labels: only pictures that no model has labelled."""
    queue: int = Field(default=200, ge=0, description="a whole number, 0 or more")
    """Pictures a label that are put up for review after each night."""
    spot_check: int = Field(default=0, ge=0, description="a whole number, 0 or more")
    """Of them, pictures a label that are drawn by lot from those answered yes."""


class DriftConfig(_Section):
    """How what comes in is compared with what the model in production was trained on."""

    level: float = Field(default=0.05, gt=0, lt=1, description="a number between 0 and 1")
    """The chance of a false alarm a night, all comparisons together."""
    pictures: int = Field(default=500, ge=20, le=2000, description="a whole number, 20 to 2000")
    """So many on a side."""
    seed: int = Field(default=0, ge=0, description="a whole number, 0 or more")
    """What chance is drawn from: the same seed gives the same report."""


class StudioConfig(_Section):
    """What the studio's Predict page and `POST /api/predict` take."""

    pictures_at_once: int = Field(default=16, ge=1, le=100, description="a whole number, 1 to 100")
    """In one request."""
    pictures_a_minute: int = Field(default=120, ge=1, description="a whole number, 1 or more")
    """From one address; more are told to wait."""
    allow_private: bool = Field(default=False, description="true or false")
    """Whether addresses that people paste may be those of loopback and private networks."""


class ReviewConfig(_Section):
    """How answers are checked while people give them."""

    again: float = Field(default=0.03, ge=0, le=0.5, description="a number from 0 to 0.5")
    """The share of a queue's page that is decided already and comes round again, blind."""


class ArchiveConfig(_Section):
    """How archives are labelled where they lie."""

    runner: Literal["threads", "ray"] = Field(default="threads", description='"threads" or "ray"')
    """What runs the shards of the flow `label-archive`. Ray's cluster is that of RAY_ADDRESS."""
    shards_at_once: int = Field(default=2, ge=1, description="a whole number, 1 or more")
    """On one machine; on a cluster, as many as its cores or GPUs allow."""
    shard_pictures: int = Field(default=1000, ge=1, description="a whole number, 1 or more")
    """About so many make a shard; with another number, shards are cut and labelled anew."""
    cpus_per_shard: float = Field(default=1, ge=0, description="a number, 0 or more")
    """Of a Ray cluster."""
    gpus_per_shard: float = Field(default=0, ge=0, description="a number, 0 or more")
    """Of a Ray cluster; 0.5 has two shards share a GPU."""


class Project(_Section):
    """One project, as project.toml describes it; `load` reads it."""

    root: Path = Field(default=Path(), exclude=True, strict=False, description="set by `load`")
    name: str = Field(
        pattern=_NAME, description="a string of lower-case letters, digits and hyphens"
    )
    """Names the project in models, tags and e-mails."""
    contact: str = Field(
        default="", pattern=r"^[^\r\n]*$", description="an e-mail or web address, on one line"
    )
    """Sites see it in the User-Agent, so that they can write to you; crawling asks for it."""
    labels: list[LabelConfig] = Field(
        min_length=1, description="a [[labels]] table for each of one label or more"
    )
    sources: list[SourceConfig] = Field(default=[], description="[[sources]] tables")
    encoder: EncoderSettings = Field(description="an [encoder] table")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="a [limits] table")
    prelabel: PrelabelConfig = Field(default=PrelabelConfig(), description="a [prelabel] table")
    review: ReviewConfig = Field(default=ReviewConfig(), description="a [review] table")
    train: TrainSettings = Field(default=TrainSettings(), description="a [train] table")
    fine_tune: FineTuneSettings = Field(
        default=FineTuneSettings(), description="a [fine_tune] table"
    )
    predict: PredictConfig = Field(default=PredictConfig(), description="a [predict] table")
    studio: StudioConfig = Field(default=StudioConfig(), description="a [studio] table")
    drift: DriftConfig = Field(default=DriftConfig(), description="a [drift] table")
    archive: ArchiveConfig = Field(default=ArchiveConfig(), description="an [archive] table")

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

        return TrainConfig(**self.train.model_dump(include={"aim", "folds", "repeats", "seed"}))

    def promotion_rule(self) -> PromotionRule:
        """Return when a new model replaces the one in production."""
        from flows.train import PromotionRule

        return PromotionRule(lowest=self.train.promote_lowest, mean=self.train.promote_mean)
