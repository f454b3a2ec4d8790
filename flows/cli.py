"""The commands. Results go to stdout, progress to stderr; exit codes are 0, 1 (failed), 2 (usage).

Each command imports what it needs when it runs: `cratedig --help` must not wait for torch.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from pydantic import TypeAdapter

from crawler.rejections import CrawlerError
from flows import cli_dataset, cli_models
from flows.cli_options import HERE, Json, ProjectDir, Report, RunId, print_result, say
from flows.errors import CratedigError, Permanent
from flows.progress import progress_bar
from infra.state import StackError
from model.errors import ModelError

app = App(
    name="cratedig",
    help="From web pages and image archives to a trained, honestly measured image classifier.",
    version=lambda: importlib.metadata.version("cratedig"),
    version_flags=["--version"],
)
for command in (cli_dataset.search, cli_dataset.dedupe, cli_dataset.forget, cli_dataset.sweep):
    app.command(command)
for group in (cli_dataset.prompts, cli_models.models, cli_models.export):
    app.command(group)


@app.command
def init(folder: Path = HERE) -> None:
    """Write a commented example project.toml into FOLDER."""
    from flows.project import EXAMPLE_PROJECT

    path = folder / "project.toml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE_PROJECT)
    except FileExistsError as error:
        raise Permanent(f"{path} exists already; it was left as it is") from error
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
def doctor(*, project: ProjectDir = HERE) -> int:
    """Check what cratedig needs here, and say what to do about what is missing."""
    from infra.doctor import examine

    findings = examine(project.resolve())
    for finding in findings:
        print(f"{'ok ' if finding.ok else 'NO '} {finding.name}: {finding.said}")
        if not finding.ok:
            print(f"      {finding.advice}")
    return int(not all(finding.ok for finding in findings))


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


@app.command(name="import")
def import_(
    *locations: str, project: ProjectDir = HERE, run_id: RunId = None, json: Json = False
) -> None:
    """Take the pictures in LOCATIONS into the dataset.

    Each is a folder, a tar (WebDataset shards, too), a zip, a pattern of such as
    "shard-{000..099}.tar" or "*.tar", or s3://BUCKET/PREFIX at the project's store. An import that
    was interrupted is carried on where it stopped.
    """
    from flows.imports import import_pictures
    from flows.workspace import open_workspace

    if not locations:
        raise Permanent("nothing to import: name a folder, a tar, a zip or s3://bucket/prefix")
    workspace = open_workspace(project.resolve())
    for location in locations:
        result, repeated = import_pictures(workspace, location, run_id=run_id, watch=progress_bar)
        print_result(result, json, repeated)
        say(f"{result.report}: `cratedig report {result.run_id}` prints it")


@app.command
def label(
    *,
    dry: Annotated[
        Path | None, Parameter(help="Only print what a folder or archive would get; store nothing.")
    ] = None,
    report: Report = None,
    project: ProjectDir = HERE,
    run_id: RunId = None,
    json: Json = False,
) -> int | None:
    """Embed what is new with CLIP, and pre-label it with the project's prompts."""
    from flows.workspace import open_workspace

    if report is not None and dry is None:
        say("cratedig: --report goes with --dry")
        return 2
    workspace = open_workspace(project.resolve())
    if dry is not None:
        from flows.contact_sheet import write_contact_sheet
        from flows.encoders import EncoderSource
        from flows.prompts import dry_label, dry_table

        found = list(dry_label(workspace, EncoderSource(workspace), dry))
        print(dry_table(found))
        if report is not None:
            cards = [each.card for each in found if each.scores]
            write_contact_sheet(report, dry.name, f"{len(found)} files", cards)
        return None
    from flows.prelabel import prelabel

    result, repeated = prelabel(workspace, run_id=run_id, watch=progress_bar)
    print_result(result, json, repeated)
    return None


@app.command
def review(
    *,
    apply: Annotated[
        Path | None, Parameter(help="A CSV of decisions with the columns image, label, answer.")
    ] = None,
    who: Annotated[str, Parameter(help="Who decided.")] = "cli",
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Say what waits for review and where, or apply decisions from a CSV file."""
    from flows.review import apply_decisions, read_decisions, waiting
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    if apply is not None:
        if not apply.exists():
            raise Permanent(f"{apply} does not exist")
        print_result(apply_decisions(workspace, read_decisions(apply), who=who), json)
        return
    counts = waiting(workspace)
    for name, count in counts.items():
        print(f"{name:<24}{count} pictures wait for a decision")
    if workspace.settings.studio_url:
        print(f"review them at {workspace.settings.studio_url}")


@app.command
def train(
    *,
    check: Annotated[
        bool, Parameter(negative="", help="Only say what could be trained on, and what is missing.")
    ] = False,
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
    result = run(workspace, rule=workspace.project.promotion_rule(), watch=progress_bar)
    if not json:
        print(report_text(result.card))
    print_result(result, json)
    return 0


@app.command
def predict(*, project: ProjectDir = HERE, json: Json = False) -> None:
    """Label with the model in production what it has not labelled yet."""
    from flows.predict import predict as run
    from flows.workspace import open_workspace

    print_result(run(open_workspace(project.resolve()), watch=progress_bar), json)


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


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr."""
    try:
        code = app(exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except (CratedigError, CrawlerError, ModelError, StackError) as error:
        print(f"cratedig: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("cratedig: interrupted; run it again to carry on", file=sys.stderr)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
