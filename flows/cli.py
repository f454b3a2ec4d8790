"""The commands. Results go to stdout, progress to stderr; exit codes are 0, 1 (failed), 2 (usage).

Each command imports what it needs when it runs: `cratedig --help` must not wait for torch.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import TypeAdapter

from crawler.rejections import CrawlerError
from flows import (
    cli_dataset,
    cli_exchange,
    cli_house,
    cli_label,
    cli_models,
    cli_ops,
    cli_team,
    logs,
    observe,
)
from flows.cli_options import HERE, Json, ProjectDir, RunId, print_result, say
from flows.errors import CratedigError
from flows.progress import progress_bar
from infra.state import StackError
from model.errors import ModelError

app = App(
    name="cratedig",
    help="From web pages and image archives to a trained, honestly measured image classifier.",
    version=lambda: importlib.metadata.version("cratedig"),
    version_flags=["--version"],
)
for command in (
    cli_label.label,
    cli_dataset.search,
    cli_dataset.dedupe,
    cli_dataset.forget,
    *cli_house.COMMANDS,
    cli_team.copy,
    *cli_ops.COMMANDS,
    cli_team.deploy,
    cli_team.doctor,
):
    app.command(command)
app.command(cli_exchange.import_, name="import")
app.command(cli_exchange.review)
cli_models.export.default(cli_exchange.export)
for group in (cli_dataset.prompts, cli_models.models, cli_models.export):
    app.command(group)


@app.command
def init(
    folder: Path = HERE,
    *,
    from_bucket: Annotated[
        bool, Parameter(negative="", help="Take the project.toml that a copy of a bucket keeps.")
    ] = False,
) -> None:
    """Write a commented example project.toml into FOLDER."""
    from flows.example_project import EXAMPLE_PROJECT
    from flows.project import write_new

    if from_bucket:
        from flows.copy import restore_project
        from flows.settings import Settings

        path = write_new(folder, restore_project(Settings.load(folder.resolve())))
        print(f"wrote {path}; everything else is in the bucket")
        return
    path = write_new(folder, EXAMPLE_PROJECT.encode())
    print(f"wrote {path}; edit its labels and sources, then run `cratedig up`")


@app.command
def up(*, project: ProjectDir = HERE) -> None:
    """Start the local stack: object store, Prefect server, worker and studio, on loopback."""
    from flows.project import Project
    from infra.local import LocalStack

    Project.load(project)
    stack = LocalStack(project.resolve())
    for name, address in stack.up(on_progress=say).items():
        print(f"{name:<10}{address}")


@app.command
def down(*, project: ProjectDir = HERE) -> None:
    """Stop the local stack; what it stores stays."""
    from infra.local import LocalStack

    LocalStack(project.resolve()).down()
    print("stopped")


@app.command
def status(*, project: ProjectDir = HERE, json: Json = False) -> int:
    """Say how each part of the local stack is; 1 when one has crashed."""
    from infra.local import LocalStack, PartStatus

    parts = LocalStack(project.resolve()).status()
    if json:
        print(TypeAdapter(list[PartStatus]).dump_json(parts, indent=2).decode())
    else:
        for part in parts:
            print(f"{part.name:<10}{part.state:<10}{part.address or '':<32}{part.log}")
    return int(any(part.state == "crashed" for part in parts))


@app.command
def crawl(
    *sources: str,
    urls: Annotated[
        str | None,
        Parameter(
            help="A table of picture addresses (CSV, TSV, Parquet, JSON lines, text) instead."
        ),
    ] = None,
    url_column: Annotated[
        str, Parameter(help="The column of the table that holds the addresses.")
    ] = "",
    name: Annotated[
        str | None, Parameter(help="The name of the table as a source; else made from its own.")
    ] = None,
    allow_private: Annotated[
        bool, Parameter(negative="", help="Let the table lead to addresses that are not public.")
    ] = False,
    retry_all: Annotated[
        bool, Parameter(negative="", help="Try links again that were rejected for good.")
    ] = False,
    project: ProjectDir = HERE,
    run_id: RunId = None,
    json: Json = False,
) -> int | None:
    """Collect the named SOURCES of project.toml, or all of them, or the pictures of a table.

    A crawl that was interrupted is carried on where it stopped.
    """
    if urls is None and (url_column or name or allow_private):
        say("cratedig: --url-column, --name and --allow-private go with --urls")
        return 2
    if urls is not None and sources:
        say("cratedig: --urls goes without the names of sources")
        return 2
    from flows.collect import collect
    from flows.crawl_shards import worker_leases
    from flows.listing import table_source
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    wanted = (
        sources or [each.name for each in workspace.project.sources]
        if urls is None
        else [table_source(urls, name=name, url_column=url_column, allow_private=allow_private)]
    )
    for source in wanted:
        with worker_leases(workspace.store) as leases:
            result, repeated = collect(
                workspace,
                source,
                run_id=run_id,
                watch=progress_bar,
                retry_all=retry_all,
                leases=leases,
            )
        print_result(result, json, repeated)
        say(f"{result.report}: `cratedig report {result.run_id}` prints it")
    return None


@app.command
def report(run_id: str | None = None, /, *, project: ProjectDir = HERE) -> None:
    """Print the report of the crawl or import RUN_ID, or of the last one."""
    from flows.crawl_report import read_report
    from flows.workspace import open_workspace

    print(read_report(open_workspace(project.resolve()).store, run_id))


@app.command
def train(
    *,
    check: Annotated[
        bool, Parameter(negative="", help="Only say what could be trained on, and what is missing.")
    ] = False,
    fine_tune: Annotated[
        Literal["off", "last_blocks", "lora"] | None,
        Parameter(help="Let the encoder learn, too; left out, as [train] of project.toml says."),
    ] = None,
    project: ProjectDir = HERE,
    json: Json = False,
) -> int:
    """Train the classifier on the decisions so far; promote it if it is better."""
    from flows.train import report_text
    from flows.train import train as run
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    if check:
        from flows.readiness import check as examine
        from flows.readiness import readiness_text

        readiness = examine(workspace)
        if json:
            print_result(readiness, as_json=True)
        else:
            print(readiness_text(readiness))
        return int(not readiness.ready)
    mode, rule = fine_tune or workspace.project.train.fine_tune, workspace.project.promotion_rule()
    if mode != "off":
        from flows.fine_tune import fine_tune_and_train

        config = workspace.project.fine_tune.config(mode, workspace.project.train.seed)
        tuned = fine_tune_and_train(workspace, config, rule=rule, watch=progress_bar, say=say)
        if not json:
            print(report_text(tuned.model.card))
        print_result(tuned, json)
        return 0
    result = run(workspace, rule=rule, watch=progress_bar)
    if not json:
        print(report_text(result.card))
    print_result(result, json)
    return 0


@app.command
def predict(*, project: ProjectDir = HERE, json: Json = False) -> None:
    """Label with the model in production what it has not labelled yet; renew the review queues."""
    from flows.night import after_night
    from flows.predict import predict as run
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    result = run(workspace, watch=progress_bar)
    print_result(result, json)
    say(str(after_night(workspace, result)))


@app.command
def demo(
    *,
    photos: Annotated[
        Path | None, Parameter(help="A folder of images/ and labels.csv, instead of drawings.")
    ] = None,
    clip: Annotated[
        Path | None, Parameter(help="A CLIP checkpoint folder, instead of the demo's own.")
    ] = None,
    stop: Annotated[
        bool, Parameter(negative="", help="Stop the demo's local stack instead.")
    ] = False,
) -> None:
    """Run the whole line on a small site on this machine, and leave everything to look at."""
    from flows.demo import demo_root, run_demo
    from infra.local import LocalStack

    if stop:
        LocalStack(demo_root(HERE.resolve(), photos, clip)).down()
        print("stopped")
        return
    run_demo(HERE.resolve(), photos=photos, clip=clip)


def _project_of(arguments: list[str]) -> Path:
    """Return the project's folder that the command will work on: logs begin before it is read."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--project":
            return Path(value if equals else "".join(arguments[at + 1 : at + 2])).resolve()
    return HERE.resolve()


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr."""
    try:
        observe.begin(_project_of(sys.argv[1:]))
        code = app(exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except (CratedigError, CrawlerError, ModelError, StackError) as error:
        logs.tell_failed(f"cratedig: {error}", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logs.tell_failed("cratedig: interrupted; run it again to carry on")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
