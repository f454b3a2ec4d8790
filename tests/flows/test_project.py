"""project.toml: what loads, what it turns into, and how what is wrong is named."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from crawler.settings import CrawlPolicy
from crawler.sources import Source
from flows.errors import ProjectInvalid
from flows.example_project import EXAMPLE_PROJECT
from flows.project import Project, TrainSettings
from model.encoder import EncoderConfig
from model.train import TrainConfig

LABEL = '[[labels]]\nname = "vinyl"\n'
ENCODER = '[encoder]\nmodel = "tiny"\npretrained = "mine"\n'
SOURCE = '[[sources]]\nname = "shop"\nstart = ["https://example.org/"]\n'


def _parse(*parts: str) -> Project:
    return Project.parse('name = "records"\n' + "".join(parts), Path("/project"))


def _complaint(*parts: str) -> str:
    with pytest.raises(ProjectInvalid) as caught:
        _parse(*parts)
    return str(caught.value)


def test_example_loads(tmp_path: Path) -> None:
    """What `cratedig init` writes is valid as it stands."""
    (tmp_path / "project.toml").write_text(EXAMPLE_PROJECT)

    project = Project.load(tmp_path)

    assert project.taxonomy().names == ("turntable", "vinyl")
    assert project.source("example-shop").max_pages == 200
    assert project.sources[0].schedule == "0 3 * * *"


def test_example_limits_are_the_defaults(tmp_path: Path) -> None:
    """The example says that its limits are the defaults, and they are."""
    (tmp_path / "project.toml").write_text(EXAMPLE_PROJECT)

    policy = Project.load(tmp_path).policy()

    assert policy == CrawlPolicy(contact="you@example.org")


def test_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ProjectInvalid, match="`cratedig init` writes one"):
        Project.load(tmp_path)


def test_broken_toml_names_the_line() -> None:
    assert "line 2" in _complaint('labels = "\n')


def test_prompt_defaults_to_the_name() -> None:
    """A label without prompts is asked for by its name."""
    assert _parse(LABEL, ENCODER).labels[0].prompts == ["a photo of a vinyl"]


def test_taxonomy_keeps_prompts_and_order() -> None:
    taxonomy = _parse(
        LABEL, '[[labels]]\nname = "arm"\nprompts = ["a", "b"]\nagainst = ["c"]\n', ENCODER
    ).taxonomy()

    assert taxonomy.names == ("vinyl", "arm")
    assert taxonomy.labels[1].prompts == ("a", "b")
    assert taxonomy.labels[1].against == ("c",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            LABEL + ENCODER + '[[sources]]\nname = "shop"\nstart = "https://example.org/"\n',
            "sources[0].start: expected a list of addresses, got a string",
        ),
        (
            LABEL + ENCODER + '[[sources]]\nname = "shop"\nstart = ["https://a.org", 3]\n',
            "sources[0].start[1]: expected an address, got a whole number",
        ),
        (
            LABEL + ENCODER + '[[sources]]\nname = "shop"\nstart = ["ftp://a.org"]\n',
            "sources[0].start[0]: expected an address that starts with http:// or https://, got 'ftp://a.org'",
        ),
        (
            LABEL + ENCODER + '[[sources]]\nname = "shop"\nstart = []\n',
            "sources[0].start: expected a list of addresses, got []",
        ),
        (
            LABEL + ENCODER + SOURCE + "max_page = 3\n",
            "sources[0].max_page: unknown key; did you mean `max_pages`?",
        ),
        (
            LABEL + ENCODER + SOURCE + 'browser = "sometimes"\n',
            'sources[0].browser: expected "never", "auto" or "always", got "sometimes"',
        ),
        (
            LABEL + ENCODER + SOURCE + 'deny = ["("]\n',
            "sources[0].deny[0]: '(' is not a regular expression: missing ), unterminated subpattern at position 0",
        ),
        (
            LABEL + ENCODER + SOURCE + 'schedule = "every night"\n',
            "sources[0].schedule: expected five fields, such as '0 3 * * *' (every day at 3:00), got 'every night'",
        ),
        (
            LABEL + ENCODER + '[train]\nschedule = "0 25 * * *"\n',
            "train.schedule: '0 25 * * *' is not a cron schedule: Bad hour",
        ),
        (
            LABEL + ENCODER + SOURCE + SOURCE,
            "sources: the name 'shop' is given twice",
        ),
        (LABEL + LABEL + ENCODER, "labels: the name 'vinyl' is given twice"),
        (
            LABEL + "prompts = []\n" + ENCODER,
            "labels[0].prompts: expected a list of one sentence or more, got []",
        ),
        (
            LABEL + 'prompts = [" "]\n' + ENCODER,
            'labels[0].prompts[0]: expected a sentence, got " "',
        ),
        (ENCODER, "labels: missing; expected a [[labels]] table for each of one label or more"),
        (LABEL, "encoder: missing; expected an [encoder] table"),
        (
            LABEL + '[encoder]\nmodel = "tiny"\n',
            "encoder: expected one of `pretrained` and `checkpoint`, got neither",
        ),
        (
            LABEL + ENCODER + 'checkpoint = "here"\n',
            "encoder: expected one of `pretrained` and `checkpoint`, got both",
        ),
        (
            LABEL + '[encoder]\npretrained = "mine"\n',
            "encoder: `pretrained` names weights of a model: set `model` as well",
        ),
        (
            LABEL + ENCODER + "[limits]\ndelay_s = -1\n",
            "limits.delay_s: expected seconds, 0 or more, got -1",
        ),
        (
            LABEL + ENCODER + "[limits]\nmin_side = true\n",
            "limits.min_side: expected pixels, 1 or more, got a boolean",
        ),
        (
            LABEL + ENCODER + "[colour]\n",
            "colour: unknown key; known here: name, contact, labels, sources, encoder, limits, prelabel, review, train, fine_tune, predict, studio, drift, archive",
        ),
    ],
)
def test_error_names_the_key_and_what_was_expected(text: str, said: str) -> None:
    assert _complaint(text) == f"project.toml: {said}"


def test_every_error_is_told() -> None:
    """Two things that are wrong are two lines, so that both can be mended at once."""
    assert len(_complaint(LABEL + "[encoder]\n" + "[colour]\n").splitlines()) == 2


def test_source_defaults_are_the_crawlers() -> None:
    """What a source leaves out is what the crawler itself would take."""
    ours = _parse(LABEL, ENCODER, SOURCE).source("shop")

    assert ours == Source(name="shop", start=("https://example.org/",))


def test_every_setting_of_a_source_arrives() -> None:
    """A source with nothing at its default arrives in the crawler as it was written."""
    source = _parse(
        LABEL,
        ENCODER,
        SOURCE,
        'kind = "urls"\nbrowser = "auto"\nallow = ["a"]\ndeny = ["b"]\nmax_depth = 1\n'
        "max_pages = 2\nallow_private = true\n"
        'table = "t.csv"\nurl_column = "c"\nstop_after_known = 3\nsitemaps = false\n'
        "max_minutes = 4.5\n",
    ).source("shop")

    for field in dataclasses.fields(source):
        assert getattr(source, field.name) != field.default, field.name


def test_unknown_source_says_which_there_are() -> None:
    with pytest.raises(ProjectInvalid, match=r"no source 'shed'; its sources: shop"):
        _parse(LABEL, ENCODER, SOURCE).source("shed")


def test_limits_arrive_in_the_policy() -> None:
    policy = _parse(LABEL, ENCODER, "[limits]\ndelay_s = 2\nmin_side = 32\n").policy()

    assert (policy.delay_s, policy.min_side) == (2, 32)


def test_checkpoint_is_found_from_the_project() -> None:
    """A relative checkpoint lies below the project, wherever the command is run."""
    config = _parse(LABEL, '[encoder]\ncheckpoint = "weights/mine"\n').encoder_config()

    assert config == EncoderConfig(checkpoint=Path("/project/weights/mine"))


def test_train_settings_arrive() -> None:
    config = _parse(LABEL, ENCODER, "[train]\nfolds = 7\nrepeats = 2\nseed = 9\n").train_config()

    assert (config.folds, config.repeats, config.seed) == (7, 2, 9)


def test_train_defaults_are_the_models() -> None:
    assert _parse(LABEL, ENCODER).train_config() == TrainConfig()
    assert TrainSettings().schedule is None


def test_reading_a_project_waits_for_no_room() -> None:
    """Settings, project and objects are imported without torch, Scrapy and Prefect."""
    code = (
        "import sys, flows.settings, flows.project, flows.objects, flows.catalog\n"
        "print({'torch', 'open_clip', 'scrapy', 'prefect', 'twisted'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "set()"
