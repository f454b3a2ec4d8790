"""Commands on what the dataset holds: find, look for duplicates, try prompts, forget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli_options import HERE, Json, ProjectDir, Report, print_result, say
from flows.progress import progress_bar

prompts = App(name="prompts", help="Try prompts out before they go into project.toml.")


def search(
    words: str | None = None,
    /,
    *,
    picture: Annotated[Path | None, Parameter(help="Find what is like this picture.")] = None,
    limit: Annotated[int, Parameter(help="How many pictures at most.")] = 20,
    report: Report = None,
    project: ProjectDir = HERE,
) -> None:
    """Find the pictures that fit WORDS, or a picture, or both together, nearest first."""
    from flows.contact_sheet import Card, write_contact_sheet
    from flows.encoders import EncoderSource
    from flows.search import query_vector
    from flows.search import search as find
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    source = EncoderSource(workspace)
    hits = find(workspace, source, query_vector(source, words, picture), limit=limit)
    for hit in hits:
        print(f"{hit.score:.3f}  {hit.sha256}  {hit.provenance[0].url}")
    if report is not None:
        cards = [Card(hit.thumbnail, f"{hit.score:.2f} {hit.sha256[:12]}") for hit in hits]
        sought = " and ".join(filter(None, [words, picture.name if picture else None]))
        write_contact_sheet(report, sought, f"{len(hits)} pictures", cards)


@prompts.command(name="try")
def try_(
    *texts: str,
    on: Annotated[str, Parameter(help="The label that they are tried for.")],
    report: Report = None,
    project: ProjectDir = HERE,
) -> None:
    """Say how well TEXTS would rank the pictures for a label, by the decisions so far."""
    from flows.contact_sheet import write_contact_sheet
    from flows.encoders import EncoderSource
    from flows.errors import Permanent
    from flows.prompts import try_prompts
    from flows.workspace import open_workspace

    if not texts:
        raise Permanent('no prompt to try: give one or more, such as "a photo of a turntable"')
    workspace = open_workspace(project.resolve())
    trial = try_prompts(workspace, EncoderSource(workspace), texts, label=on)
    print(trial)
    for hit in trial.hits:
        print(f"{hit.score:+.3f}  {hit.sha256}  {hit.provenance[0].url}")
    if report is not None:
        write_contact_sheet(report, "; ".join(texts), str(trial), trial.cards())


def dedupe(
    folder: Path | None = None,
    /,
    *,
    report: Report = None,
    alike: Annotated[
        bool,
        Parameter(negative="", help="Only list distinct pictures that show nearly the same."),
    ] = False,
    project: ProjectDir = HERE,
    json: Json = False,
) -> int | None:
    """Find the duplicates in a FOLDER, tar or zip; without one, mark those of the dataset anew."""
    from flows.dedupe import alike as find_alike
    from flows.dedupe import dedupe_folder, mark_duplicates
    from flows.workspace import open_workspace

    if alike and (folder is not None or report is not None):
        say("cratedig: --alike is about the dataset, and goes alone")
        return 2
    if alike:
        from flows.encoders import EncoderSource

        workspace = open_workspace(project.resolve())
        groups = find_alike(workspace.catalog, EncoderSource(workspace).id())
        print("\n".join(" ".join(group) for group in groups))
        say(f"{len(groups)} groups show nearly the same; training keeps each on one side")
        return None
    if folder is not None:
        result, _ = dedupe_folder(folder, report=report, watch=progress_bar)
        print_result(result, json)
        return None
    if report is not None:
        say("cratedig: --report goes with a folder")
        return 2
    print_result(mark_duplicates(open_workspace(project.resolve()).catalog), json)
    return None


def forget(
    *,
    sha256: Annotated[list[str] | None, Parameter(help="The id of a picture.")] = None,
    url: Annotated[list[str] | None, Parameter(help="An address that it came from.")] = None,
    host: Annotated[list[str] | None, Parameter(help="Everything that came from a host.")] = None,
    and_duplicates: Annotated[bool, Parameter(negative="", help="Their duplicates, too.")] = False,
    archive: Annotated[
        list[str] | None,
        Parameter(
            help="A folder of `cratedig label --out`: from there, too. Answers in buckets are known."
        ),
    ] = None,
    yes: Annotated[
        bool, Parameter(negative="", help="Do it; else only say what would go.")
    ] = False,
    project: ProjectDir = HERE,
    json: Json = False,
) -> int:
    """Remove pictures everywhere, for good, and keep them away; without --yes, say what would go."""
    from flows.forget import forget as forget_pictures
    from flows.forget import plan_forget
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    sha256s, urls, hosts = tuple(sha256 or ()), tuple(url or ()), tuple(host or ())
    plan = plan_forget(
        workspace, sha256s=sha256s, urls=urls, hosts=hosts, and_duplicates=and_duplicates
    )
    say(str(plan))
    if not yes:
        say("nothing was changed; add --yes to forget")
        return 1
    result = forget_pictures(
        workspace,
        sha256s=sha256s,
        urls=urls,
        hosts=hosts,
        and_duplicates=and_duplicates,
        archives=archive or (),
        watch=progress_bar,
    )
    print_result(result, json)
    return 0
