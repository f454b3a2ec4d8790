"""Commands on what was trained: look at models, compare them, choose one, take one away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.cli_options import HERE, Json, ProjectDir, print_result, say

if TYPE_CHECKING:
    from flows.models import ExportKind

ModelFile = Annotated[Path | None, Parameter(help="Where to write it.")]

models = App(name="models", help="The versions of the classifier, and which is in production.")
export = App(name="export", help="Write the dataset, or a model, to a file.")


@models.command(name="list")
def list_(*, project: ProjectDir = HERE, json: Json = False) -> None:
    """List every version, the one in production first."""
    from flows.models import list_models
    from flows.workspace import open_workspace

    for line in list_models(open_workspace(project.resolve())):
        print_result(line, json)


@models.command
def show(
    version: str | None = None,
    /,
    *,
    page: Annotated[Path | None, Parameter(help="Write the model's page there.")] = None,
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Show how good VERSION is, or the one in production."""
    from flows.models import show_model
    from flows.train import report_text
    from flows.workspace import open_workspace

    card = show_model(open_workspace(project.resolve()), version, page=page)
    if json:
        print(card.to_json())
    else:
        print(report_text(card))


@models.command
def compare(
    challenger: str,
    champion: str | None = None,
    /,
    *,
    project: ProjectDir = HERE,
    json: Json = False,
) -> None:
    """Compare CHALLENGER with CHAMPION, or with the version in production, on the same pictures."""
    from flows.models import compare_versions
    from flows.workspace import open_workspace

    print_result(compare_versions(open_workspace(project.resolve()), challenger, champion), json)


@models.command
def promote(version: str, /, *, project: ProjectDir = HERE) -> None:
    """Put VERSION into production, whatever the rule says."""
    from flows.models import promote_model
    from flows.workspace import open_workspace

    before = promote_model(open_workspace(project.resolve()), version)
    print(f"{version} is in production" + (f" instead of {before}" if before else ""))


@models.command
def rollback(*, project: ProjectDir = HERE) -> None:
    """Put the version back that was in production before."""
    from flows.models import roll_back
    from flows.workspace import open_workspace

    print(f"{roll_back(open_workspace(project.resolve()))} is in production again")


@export.command
def model(
    version: str | None = None,
    /,
    *,
    onnx: ModelFile = None,
    torchscript: ModelFile = None,
    program: ModelFile = None,
    project: ProjectDir = HERE,
) -> int:
    """Write VERSION, or the model in production, as one file: a picture in, answers out.

    As ONNX, as TorchScript, or as a program of torch.export; one or more of them.
    """
    from flows.models import export_model
    from flows.workspace import open_workspace

    wanted: dict[ExportKind, Path | None]
    wanted = {"onnx": onnx, "torchscript": torchscript, "program": program}
    if not any(wanted.values()):
        say("cratedig: give --onnx, --torchscript or --program, and where to write it")
        return 2
    workspace = open_workspace(project.resolve())
    for kind, path in wanted.items():
        if path is not None:
            print(f"{export_model(workspace, path, version, kind=kind)} is in {path}")
    return 0
