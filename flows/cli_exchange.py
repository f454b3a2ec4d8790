"""Commands that take decisions and whole datasets in and out: `import`, `review` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.cli_options import HERE, Json, ProjectDir, RunId, print_result, say
from flows.errors import Permanent
from flows.progress import progress_bar

if TYPE_CHECKING:
    from flows.review import ReviewResult

# Spelled out: `flows.exchange.formats`, which a test holds them to, takes a second to import.
ExportFormat = Literal["table", "decisions", "label-studio", "coco", "fiftyone", "webdataset"]
ImportFormat = Literal["decisions", "label-studio", "coco", "fiftyone", "webdataset"]

Complete = Annotated[
    bool,
    Parameter(negative="", help="What the file does not give a picture is a no, not undecided."),
]
Who = Annotated[str, Parameter(help="Who decided, where the file does not say.")]


def import_(
    *locations: str,
    format: Annotated[  # noqa: A002 - the option's name
        ImportFormat | None,
        Parameter(help="Whose labels lie with the pictures: they become decisions."),
    ] = None,
    complete: Complete = False,
    who: Who = "cli",
    project: ProjectDir = HERE,
    run_id: RunId = None,
    json: Json = False,
) -> None:
    """Take the pictures in LOCATIONS into the dataset.

    Each is a folder, a tar (WebDataset shards, too), a zip, a pattern of such as
    "shard-{000..099}.tar" or "*.tar", or s3://BUCKET/PREFIX at the project's store. An import that
    was interrupted is carried on. With --format, each is what `cratedig export` or the tool itself
    has written, labels and pictures.
    """
    from flows.workspace import open_workspace

    if not locations:
        raise Permanent("nothing to import: name a folder, a tar, a zip or s3://bucket/prefix")
    workspace = open_workspace(project.resolve())
    for location in locations:
        if format is None:
            from flows.imports import import_pictures

            result, repeated = import_pictures(
                workspace, location, run_id=run_id, watch=progress_bar
            )
        else:
            from flows.exchange.formats import bring_pictures

            result, repeated = bring_pictures(
                workspace, location, format, run_id=run_id, watch=progress_bar
            )
        print_result(result, json, repeated)
        say(f"{result.report}: `cratedig report {result.run_id}` prints it")
        if format is not None:
            from flows.exchange.formats import apply_file

            reviewed = apply_file(
                workspace, location, format, who=who, complete=complete, brought=True
            )
            _print_reviewed(reviewed, json)


def review(
    *,
    apply: Annotated[
        str | None,
        Parameter(
            help="A CSV of decisions (image, label, answer; who, at), or what --format says."
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        ImportFormat | None, Parameter(help="The tool that the decisions come from.")
    ] = None,
    complete: Complete = False,
    who: Who = "cli",
    project: ProjectDir = HERE,
    json: Json = False,
) -> int | None:
    """Say what waits for review and where, or apply decisions that were made elsewhere."""
    from flows.review import waiting
    from flows.workspace import open_workspace

    if apply is None and (format is not None or complete):
        say("cratedig: --format and --complete go with --apply")
        return 2
    workspace = open_workspace(project.resolve())
    if apply is not None:
        from flows.exchange.formats import apply_file, format_of

        found = format_of(apply, format)
        _print_reviewed(apply_file(workspace, apply, found, who=who, complete=complete), json)
        return None
    for name, count in waiting(workspace).items():
        print(f"{name:<24}{count} pictures wait for a decision")
    if workspace.settings.studio_url:
        print(f"review them at {workspace.settings.studio_url}")
    return None


def export(
    path: Path,
    /,
    *,
    format: Annotated[ExportFormat, Parameter(help="For which tool.")] = "table",  # noqa: A002 - the option's name
    only: Annotated[
        Literal["all", "decided", "undecided"], Parameter(help="Which pictures.")
    ] = "all",
    snapshot: Annotated[
        str | None, Parameter(help="Exactly the pictures and answers of this training snapshot.")
    ] = None,
    pictures: Annotated[
        bool, Parameter(negative="", help="The pictures themselves, too: in PATH/data.")
    ] = False,
    pictures_at: Annotated[
        str | None,
        Parameter(
            help="Where the other tool finds the pictures; s3://BUCKET/PREFIX is filled by --pictures."
        ),
    ] = None,
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Write the dataset with its labels and scores to PATH: a file (.csv, .parquet), or a folder."""
    from flows.exchange.formats import export as run
    from flows.exchange.pictures import Selection
    from flows.workspace import open_workspace

    selection = Selection(only=only, snapshot=snapshot)
    result = run(
        open_workspace(project.resolve()),
        path,
        format_=format,
        selection=selection,
        pictures=pictures,
        pictures_at=pictures_at,
        watch=progress_bar,
    )
    for damaged in result.damaged:
        say(damaged)
    print_result(result, json)


def _print_reviewed(result: ReviewResult, as_json: bool) -> None:
    for conflict in result.conflicts:
        say(str(conflict))
    for image in result.unknown:
        say(f"unknown image: {image}")
    print_result(result, as_json)
