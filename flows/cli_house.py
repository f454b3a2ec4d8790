"""Commands on what goes on by itself: nights, what they found, and keeping house."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import TypeAdapter

from flows.cli_options import HERE, Json, ProjectDir, print_result
from flows.progress import progress_bar

if TYPE_CHECKING:
    from flows.workspace import Workspace


def sweep(
    *,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only list the objects that would be deleted.")
    ] = False,
    out: Annotated[
        str | None,
        Parameter(help="Only what `cratedig label --out` has left there: a folder, or s3://..."),
    ] = None,
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Delete what no row or manifest points at and is older than a day, and pack the tables.

    Answers of archives that lie in buckets are looked after, too; for those in a folder give --out.
    """
    from flows.maintain import rubbish
    from flows.maintain import sweep as sweep_bucket
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    if out is not None:
        _sweep_answers(workspace, out, dry_run=dry_run, json=json)
        return
    if dry_run:
        keys = rubbish(workspace)
        print(TypeAdapter(list[str]).dump_json(keys).decode() if json else "\n".join(keys))
        return
    print_result(sweep_bucket(workspace, watch=progress_bar), json)


def _sweep_answers(workspace: Workspace, out: str, *, dry_run: bool, json: bool) -> None:
    from flows.archive.leftovers import leftovers
    from flows.archive.places import output_at
    from flows.maintain import OLDER_THAN_S, sweep_answers

    output = output_at(workspace, out)
    if dry_run:
        keys = leftovers(output, older_than_s=OLDER_THAN_S)
        print(TypeAdapter(list[str]).dump_json(keys).decode() if json else "\n".join(keys))
        return
    swept = sweep_answers(output)
    print(f'{{"archive_parts": {swept}}}' if json else f"swept archive parts {swept}")


def verify(
    *,
    sample: Annotated[int | None, Parameter(help="Look at about so many pictures, by lot.")] = None,
    project: ProjectDir = HERE,
    json: Json = False,
) -> int:
    """Check that the bytes of every picture are there and are its own; 1 when some are not.

    Prints a line for each trouble: damaged or missing pictures, parts of predictions, models.
    """
    from flows.verify import Trouble
    from flows.verify import verify as run
    from flows.workspace import open_workspace

    def tell(trouble: Trouble) -> None:
        if not json:
            print(trouble, flush=True)

    workspace = open_workspace(project.resolve())
    result = run(workspace, sample=sample, on_trouble=tell, watch=progress_bar)
    print_result(result, json)
    return int(bool(result.troubles))


def drift(*, project: ProjectDir = HERE, json: Json = False) -> int:
    """Compare what came lately with what the model in production was trained on; 1 for drift."""
    from flows.drift import check_drift, drift_rows
    from flows.workspace import open_workspace

    report = check_drift(open_workspace(project.resolve()))
    if json:
        print(report.model_dump_json(indent=2))
    else:
        for row in drift_rows(report):
            print(
                "  ".join(
                    f"{value:<32}" if name == "compared" else f"{value:>8}"
                    for name, value in row.items()
                ).rstrip()
            )
        print(report)
    return int(bool(report.crossed))


def queue(*, project: ProjectDir = HERE) -> None:
    """Put up for review, label by label, what would teach most; nights do it by themselves."""
    from flows.errors import Permanent
    from flows.questions import renew_queues
    from flows.registry import Registry
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    registry = Registry(workspace.store, workspace.project.name)
    version = registry.production()
    if version is None:
        raise Permanent("no model is in production yet: run `cratedig train` first")
    for label, count in renew_queues(workspace, version, registry.card(version).encoder_id).items():
        print(f"{label:<24}{count} pictures are up for review")


def precision(*, project: ProjectDir = HERE, json: Json = False) -> None:
    """Say how often answers in production are right, by the spot checks of `[predict] spot_check`."""
    from flows.spot_checks import Measured, precision_in_production
    from flows.workspace import open_workspace

    found = precision_in_production(open_workspace(project.resolve()))
    if json:
        print(TypeAdapter(list[Measured]).dump_json(found, indent=2).decode())
        return
    for each in found:
        print(
            f"{each.month}  {each.version}  {each.label:<24}precision {each.precision} "
            f"({each.yes + each.no} of {each.drawn} drawn are answered)"
        )


def counts(*, project: ProjectDir = HERE, json: Json = False) -> None:
    """Count everything now, and print what was counted on earlier days, too."""
    from flows.counts import Counts, counts_over_time, record_counts
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    record_counts(workspace)
    found = list(counts_over_time(workspace.store))
    if json:
        print(TypeAdapter(list[Counts]).dump_json(found, indent=2).decode())
        return
    for each in found:
        rows = " ".join(f"{name} {count}" for name, count in each.rows.items())
        print(f"{each.day}  {rows} GB {sum(each.stored_bytes.values()) / 1e9:.2f}")


COMMANDS = (drift, queue, precision, sweep, verify, counts)
"""What `flows.cli` registers, in the order in which it is listed."""
