"""What runs show in Prefect's pages: tables and texts, each with links to the studio's pages."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows import train as training
from flows.archive.label import ArchiveResult, result_rows
from flows.collect import CollectResult
from flows.counts import Counts
from flows.crawl_report import read_report
from flows.drift import drift_rows
from flows.maintain import SweepResult
from flows.night import AfterNight
from flows.predict import PredictResult
from flows.prelabel import PrelabelResult
from flows.progress import Watch
from flows.run_progress import watch_by_artifact
from flows.studio_links import (
    DRIFTED,
    DUPLICATES,
    IMAGES,
    OF_FLOW,
    OVERVIEW,
    QUEUE,
    REJECTED,
    SUSPECTS,
    TRAIN,
    StudioPage,
    evaluation,
    pictures_of,
    source_page,
    with_links,
)
from flows.train import TrainResult
from flows.verify import VerifyResult
from flows.workspace import Workspace


def watch(workspace: Workspace, stage: str, *, flow: str | None = None) -> Watch:
    """Return what shows the progress of a stage, of the flow of its name unless another is given."""
    return watch_by_artifact(stage, see=_linked(workspace, "", *OF_FLOW[flow or stage]))


def show_collected(workspace: Workspace, source: str, result: CollectResult) -> None:
    """Show what became of a source's links, and the report."""
    outcomes = {"kept": result.kept, "duplicate": result.duplicates, **result.rejected}
    pages = (source_page(source), pictures_of(source), DUPLICATES, REJECTED)
    said = f"What became of the {result.links} links of {source}: {result}"
    create_table_artifact(
        [{"outcome": outcome, "links": count} for outcome, count in outcomes.items()],
        key=f"collect-{source}",
        description=_linked(workspace, said, *pages),
    )
    create_markdown_artifact(
        _linked(workspace, read_report(workspace.store, result.run_id), *pages),
        key=f"collect-{source}-report",
        description=f"{result.report} in the bucket",
    )


def show_prelabelled(workspace: Workspace, result: PrelabelResult) -> None:
    """Show how many pictures each label is suggested for."""
    said = f"Pictures that score 0.5 or more: {result}"
    create_table_artifact(
        [{"label": label, "suggested": count} for label, count in result.suggested.items()],
        key="prelabels",
        description=_linked(workspace, said, *OF_FLOW["prelabel"]),
    )


def show_trained(workspace: Workspace, result: TrainResult) -> None:
    """Show how good the model is, and why it is promoted or not."""
    page = evaluation(result.version)
    said = f"Model {result.version}, on pictures that it was not fitted on."
    create_table_artifact(
        training.report_rows(result.card),
        key="model-report",
        description=_linked(workspace, said, page, SUSPECTS, TRAIN),
    )
    verdict = training.report_markdown(result)
    create_markdown_artifact(_linked(workspace, verdict, page), key="model-verdict")


def show_predicted(workspace: Workspace, result: PredictResult) -> None:
    """Show what a night has answered."""
    said = f"Labelled by {result.version}: {result}"
    create_table_artifact(
        [{"label": label, "pictures": count} for label, count in result.answers.items()],
        key="predictions",
        description=_linked(workspace, said, QUEUE, IMAGES, evaluation(result.version)),
    )


def show_drift(workspace: Workspace, after: AfterNight) -> None:
    """Show what was compared, and what is put up for review."""
    create_table_artifact(
        drift_rows(after.drift),
        key="drift",
        description=_linked(workspace, str(after), DRIFTED, QUEUE),
    )


def show_archive(workspace: Workspace, result: ArchiveResult) -> None:
    """Show what came of an archive's pictures."""
    create_table_artifact(
        result_rows(result),
        key="label-archive",
        description=_linked(workspace, str(result), *OF_FLOW["label-archive"]),
    )


def show_rubbish(found: Sequence[str]) -> None:
    """Show what a sweep is about to delete."""
    create_markdown_artifact("\n".join(found) or "nothing", key="sweep-dry-run")


def show_swept(workspace: Workspace, result: SweepResult) -> None:
    """Show what a sweep has deleted."""
    create_markdown_artifact(_linked(workspace, str(result), *OF_FLOW["sweep"]), key="sweep")


def show_counts(workspace: Workspace, counts: Counts) -> None:
    """Show how much there is of everything."""
    said = f"{counts.day}: {sum(counts.stored_bytes.values()) / 1e9:.2f} GB"
    create_table_artifact(
        [{"what": name, "count": count} for name, count in counts.rows.items()],
        key="counts",
        description=_linked(workspace, said, OVERVIEW),
    )


def show_verified(workspace: Workspace, result: VerifyResult, troubles: Sequence[str]) -> None:
    """Show what is wrong with the stored bytes."""
    said = "\n\n".join([str(result), *troubles])
    create_markdown_artifact(_linked(workspace, said, *OF_FLOW["maintain"]), key="verify")


def _linked(workspace: Workspace, text: str, *pages: StudioPage) -> str:
    return with_links(text, workspace.settings.studio_url, *pages)
