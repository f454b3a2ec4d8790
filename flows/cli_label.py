"""The command `label`: the dataset's pre-labels, a dry look at a folder, or an archive where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.cli_options import HERE, Json, ProjectDir, Report, RunId, print_result, say
from flows.progress import progress_bar


def label(
    where: str | None = None,
    /,
    *,
    out: Annotated[
        str | None, Parameter(help="Where the answers go: a folder, or s3://BUCKET/PREFIX.")
    ] = None,
    model: Annotated[
        str | None,
        Parameter(
            help="What answers: a version, production, or prompts (zero-shot). Else what is in "
            "production, and prompts while nothing is."
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's own word
        Literal["parquet", "jsonl", "csv"], Parameter(help="Of the answers.")
    ] = "parquet",
    keep_embeddings: Annotated[
        bool,
        Parameter(
            negative="", help="Keep the vectors too: the next question reads no pictures at all."
        ),
    ] = False,
    url_column: Annotated[
        str, Parameter(help="The column of a table that holds the addresses.")
    ] = "",
    allow_private: Annotated[
        bool, Parameter(negative="", help="Let a table lead to addresses that are not public.")
    ] = False,
    dry: Annotated[
        Path | None, Parameter(help="Only print what a folder or archive would get; store nothing.")
    ] = None,
    report: Report = None,
    project: ProjectDir = HERE,
    run_id: RunId = None,
    json: Json = False,
) -> int | None:
    """Label WHERE, pictures staying where they are; without it, pre-label the dataset with CLIP.

    WHERE is a folder, a tar (WebDataset shards, too), a pattern of such as "shard-{000..099}.tar",
    a Parquet file of bytes or addresses, a table of addresses, or s3://BUCKET/PREFIX at the
    project's store; what comes of it goes to --out. Run again after a kill it carries on; run again
    later, it tries what did not come for the moment (no answer, a broken connection, a server's
    error), and nothing else; run on several machines at once, they share the work.
    """
    from flows.workspace import open_workspace

    if report is not None and dry is None:
        say("cratedig: --report goes with --dry")
        return 2
    if (where is None) != (out is None):
        say("cratedig: an archive to label goes with --out, where the answers go")
        return 2
    workspace = open_workspace(project.resolve())
    if where is not None and out is not None:
        from flows.archive.job import Wanted
        from flows.archive.label import label_archive, result_table

        wanted = Wanted(
            location=where,
            out=out,
            model=model,
            format=format,
            keep_embeddings=keep_embeddings,
            url_column=url_column,
            allow_private=allow_private,
            shard_pictures=workspace.project.archive.shard_pictures,
        )
        labelled = label_archive(
            workspace,
            wanted,
            shards_at_once=workspace.project.archive.shards_at_once,
            watch=progress_bar,
        )
        if not json:
            print(result_table(labelled))
        print_result(labelled, json)
        return None
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
