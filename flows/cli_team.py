"""The commands for an installation: `cratedig doctor`, `deploy`, `copy`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.cli_options import HERE, Json, ProjectDir, print_result, say
from flows.errors import Permanent


def copy(
    *,
    to: Annotated[str, Parameter(help="Where to: s3://BUCKET/PREFIX.")],
    endpoint: Annotated[
        str | None, Parameter(help="The other store's address; the project's own if left out.")
    ] = None,
    verify: Annotated[
        bool, Parameter(negative="", help="Afterwards read all of the copy back.")
    ] = False,
    project: ProjectDir = HERE,
    json: Json = False,
) -> int:
    """Copy the whole bucket, or what has changed since the last time: a backup, or a move.

    The other store's keys are CRATEDIG_COPY_ACCESS_KEY and CRATEDIG_COPY_SECRET_KEY; the project's
    own are used where they are not set. `cratedig init --from-bucket` starts from a copy.
    """
    from flows.copy import copy as run
    from flows.copy import damaged, destination
    from flows.progress import progress_bar
    from flows.workspace import open_workspace

    workspace = open_workspace(project.resolve())
    store = destination(workspace, to, endpoint)
    print_result(run(workspace, store, watch=progress_bar), json)
    troubles = damaged(store, watch=progress_bar) if verify else []
    for trouble in troubles:
        say(f"cratedig: {trouble}")
    return int(bool(troubles))


def doctor(
    *,
    send_test: Annotated[
        bool, Parameter(negative="", help="Send a test message to whom a training would tell.")
    ] = False,
    policy: Annotated[
        bool, Parameter(negative="", help="Only print the least that the store's keys must allow.")
    ] = False,
    project: ProjectDir = HERE,
) -> int:
    """Check what cratedig needs here and of its services, and say what to do about it.

    Services are asked when the settings name them; objects written for that are deleted again.
    """
    from flows.checkup import examine_services, minimal_policy
    from flows.settings import Settings
    from infra.doctor import examine

    root = project.resolve()
    if policy:
        print(minimal_policy(Settings.load(root)))
        return 0
    findings = examine(root)
    if Settings.are_given(root) or send_test:
        findings += examine_services(root, send_test=send_test)
    for finding in findings:
        print(f"{'ok ' if finding.ok else 'NO '} {finding.name}: {finding.said}")
        if not finding.ok:
            print(f"      {finding.advice}")
    return int(not all(finding.ok for finding in findings))


def deploy(
    *,
    kubernetes: Annotated[
        bool, Parameter(negative="", help="Runs are Kubernetes jobs, not processes of a worker.")
    ] = False,
    image: Annotated[
        str | None, Parameter(help="With --kubernetes: the image that the jobs run.")
    ] = None,
    project_dir: Annotated[
        str | None,
        Parameter(
            help="The folder of project.toml where the workers are, if not the same as here."
        ),
    ] = None,
    print_yaml: Annotated[
        bool,
        Parameter(
            name="--print", negative="", help="Only print it as a prefect.yaml; change nothing."
        ),
    ] = False,
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Give the project's flows, schedules and limits to a Prefect server's work pools.

    May be run again whenever project.toml has changed. The server is CRATEDIG_PREFECT_API_URL.
    """
    from flows.deploy import PROJECT_DIR, prefect_yaml
    from flows.deploy import deploy as run
    from flows.project import Project
    from flows.settings import Settings

    read = Project.load(project.resolve())
    if print_yaml:
        print(prefect_yaml(read, project_dir=project_dir or PROJECT_DIR), end="")
        return
    settings = Settings.load(project.resolve())
    if settings.prefect_api_url is None:
        raise Permanent(
            "no Prefect server is set up: run `cratedig up`, or set CRATEDIG_PREFECT_API_URL"
        )
    where = project_dir or (PROJECT_DIR if kubernetes else str(project.resolve()))
    result = run(
        read,
        settings.prefect_api_url,
        kind="kubernetes" if kubernetes else "process",
        image=image,
        project_dir=where,
        studio_url=settings.studio_url,
    )
    print_result(result, json)
