"""The Sources page: where pictures come from, what the last crawl of each gave, pause and run now."""

from __future__ import annotations

import dataclasses
import threading
from datetime import datetime
from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, HTTPException, Request
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from crawler.rejections import Reason
from flows.catalog import Catalog
from flows.prefect_api import PAGE_TIMEOUT_S, Deployment, PrefectAway, PrefectServer
from flows.studio.pages import render
from flows.tally import HostCounts, Tally
from flows.workspace import Workspace

CONSENT = frozenset(
    {
        Reason.ROBOTS_TXT,
        Reason.X_ROBOTS_TAG,
        Reason.META_ROBOTS,
        Reason.TDMREP,
        Reason.AIPREF,
        Reason.IPTC,
        Reason.C2PA,
    }
)
"""Reasons by which a site, or a file, forbids its use."""

SHOWN_HOSTS = 5

SourceName = Annotated[str, PathParam(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/sources", tags=["studio"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """What the last run over a source gave."""

    run_id: str
    ended: datetime
    tally: Tally

    @property
    def hosts_in_trouble(self) -> list[tuple[str, HostCounts]]:
        """The hosts that gave nothing, those with the most links first."""
        nothing = [(host, each) for host, each in self.tally.hosts.items() if not each.kept]
        return sorted(nothing, key=lambda each: (-each[1].rejected, each[0]))[:SHOWN_HOSTS]


class LastYields:
    """The last yield of every source; counted again only when the tables have changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted_at: object = None
        self._yields: dict[str, Yield] = {}

    def of(self, catalog: Catalog) -> dict[str, Yield]:
        """Return what the last run gave, by the name of the source."""
        versions = catalog.versions()
        now = (versions.get("links"), versions.get("images"))
        with self._lock:
            if self._counted_at != now:
                self._yields = {
                    source: Yield(
                        run_id=run_id, ended=ended, tally=Tally.of(catalog, source, run_id)
                    )
                    for source, (ended, run_id) in _last_runs(catalog).items()
                }
                self._counted_at = now
            return self._yields


class Asked(BaseModel):
    """What became of a request to run or pause."""

    said: str
    run_url: str = ""


class Paused(BaseModel):
    """Whether a source's schedule is to rest."""

    model_config = ConfigDict(extra="forbid")

    paused: bool


@pages.get("/sources")
def sources_page(request: Request) -> Response:
    """Show every source of project.toml, and those that pictures came from besides."""
    workspace: Workspace = request.app.state.reader.workspace()
    yields = request.app.state.yields.of(workspace.catalog)
    deployed, trouble = _deployed(workspace)
    configured = workspace.project.sources
    names = {each.name for each in configured}
    context = {
        "sources": configured,
        "yields": yields,
        "others": sorted(yields.keys() - names),
        "consent": CONSENT,
        "deployed": deployed,
        "prefect": PrefectServer.of(workspace.settings),
        "trouble": trouble,
    }
    return render(request, "sources.html", context)


@api.post("/{name}/run")
def run_source(request: Request, name: SourceName) -> Asked:
    """Crawl a source now, through Prefect."""
    server, deployment = _deployment(request, name)
    run = server.start(deployment)
    return Asked(said=f"{run.name} is asked for.", run_url=run.address)


@api.post("/{name}/pause")
def pause_source(request: Request, name: SourceName, sent: Paused) -> Asked:
    """Let the schedule of a source rest, or go on."""
    server, deployment = _deployment(request, name)
    server.pause(deployment, paused=sent.paused)
    return Asked(said=f"{name} is paused." if sent.paused else f"{name} goes on by its schedule.")


def _deployment(request: Request, name: str) -> tuple[PrefectServer, Deployment]:
    workspace: Workspace = request.app.state.reader.workspace()
    server = PrefectServer.of(workspace.settings)
    if server is None:
        said = f"There is no Prefect server: type `cratedig crawl {name}`."
        raise HTTPException(409, said)
    found = server.collectors(workspace.project.name).get(name)
    if found is None:
        said = f"No worker serves {name}: `cratedig up` does, or type `cratedig crawl {name}`."
        raise HTTPException(409, said)
    return server, found


def _deployed(workspace: Workspace) -> tuple[dict[str, Deployment], str]:
    """Return the deployments by source, and what is the matter when they cannot be had."""
    server = PrefectServer.of(workspace.settings, timeout_s=PAGE_TIMEOUT_S)
    if server is None:
        return {}, ""
    try:
        return server.collectors(workspace.project.name), ""
    except PrefectAway as error:
        return {}, str(error)


def _last_runs(catalog: Catalog) -> dict[str, tuple[datetime, str]]:
    """Return when each source's last link was settled, and in which run."""
    last: dict[str, tuple[datetime, str]] = {}
    for batch in catalog.link_batches(["source", "run_id", "seen_at"]):
        grouped = pa.Table.from_batches([batch]).group_by(["source", "run_id"])
        for row in grouped.aggregate([("seen_at", "max")]).to_pylist():
            seen = (row["seen_at_max"], row["run_id"])
            last[row["source"]] = max(seen, last.get(row["source"], seen))
    return last
