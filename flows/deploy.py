"""Give the project's flows to a Prefect server for a team: work pools, deployments, an automation.

All of it may be run again at any time: what is there is brought up to date, what the project no
longer has is taken away, and what people set by hand in Prefect's pages (a paused schedule, a pool's
limit) stays.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import httpx

from flows.deployments import Deployed, Pool, made, pool_name, table, tags
from flows.errors import Permanent, Transient
from flows.project import Project

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import AutomationCore

PoolKind = Literal["process", "kubernetes"]

RUNS_AT_ONCE: Mapping[Pool, int] = {"crawl": 8, "compute": 4}
"""Limit of a new pool, over all its workers."""

PROJECT_DIR = "/project"
"""Where containers find the folder of project.toml."""

SECRET = "cratedig"  # noqa: S105 - the name of a Kubernetes secret, not one itself
CONFIG_MAP = "cratedig-project"

_RESOURCES: Mapping[Pool, Mapping[str, str]] = {
    "crawl": {"cpu_request": "1", "memory_request": "2Gi", "memory_limit": "4Gi"},
    "compute": {"cpu_request": "2", "memory_request": "4Gi", "memory_limit": "8Gi"},
}

ZOMBIES = "cratedig: runs that no longer answer have crashed"
SILENT_S = 600
"""Prefect's flow runs tell every 180 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY) that they live."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeployResult:
    """What is there now."""

    pools: tuple[str, ...]
    created: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    """Deployments of sources and flows that the project no longer has."""

    def __str__(self) -> str:
        """Return the line with which the command ends."""
        removed = f" removed {', '.join(self.removed)}" if self.removed else ""
        return (
            f"deployed {len(self.created) + len(self.updated)} "
            f"({len(self.created)} new) to {', '.join(self.pools)}{removed}"
        )


def deploy(
    project: Project,
    api_url: str,
    *,
    kind: PoolKind = "process",
    image: str | None = None,
    project_dir: str = PROJECT_DIR,
    studio_url: str | None = None,
) -> DeployResult:
    """Register the project at the Prefect server of `api_url`.

    `kind` is how the pools' workers start runs: as processes beside them, or as Kubernetes jobs of
    `image`. `project_dir` is the folder of project.toml where the runs are. Descriptions
    link to the studio at `studio_url`.

    Raises Transient when the server does not answer, Permanent when it refuses, or when a pool of
    that name is of another kind.
    """
    if (kind == "kubernetes") != (image is not None):
        raise Permanent("an image goes with Kubernetes, and only there: --kubernetes --image NAME")
    with _client(api_url) as client:
        pools = [_ensure_pool(client, pool, kind, image) for pool in get_args(Pool)]
        rows = table(project)
        before = _deployed(client, project)
        for row in rows:
            if row.full_name not in before:
                _refuse_foreign(client, row)
            _apply(row, project, project_dir, studio_url, before.get(row.full_name))
        wanted = {row.full_name for row in rows}
        gone = sorted(before.keys() - wanted)
        for name in gone:
            client.delete_deployment(before[name].id)
        _ensure_automation(client)
    return DeployResult(
        pools=tuple(pools),
        created=tuple(sorted(wanted - before.keys())),
        updated=tuple(sorted(wanted & before.keys())),
        removed=tuple(gone),
    )


def prefect_yaml(project: Project, *, project_dir: str = PROJECT_DIR) -> str:
    """Return the same deployments as a file for `prefect deploy --all`."""
    import yaml

    entries = [
        {
            "name": row.name,
            "entrypoint": _entrypoint(row),
            "description": row.flow.description,
            "tags": tags(project),
            "parameters": dict(row.parameters),
            "concurrency_limit": 1,
            "schedules": [{"cron": row.schedule, "timezone": "UTC"}] if row.schedule else [],
            "work_pool": {
                "name": pool_name(row.pool),
                "job_variables": _job_variables(project_dir),
            },
        }
        for row in table(project)
    ]
    body = {"name": project.name, "pull": [], "deployments": entries}
    text: str = yaml.safe_dump(body, sort_keys=False, width=100)
    return f"# Written by `cratedig deploy --print`; the table is flows/deployments.py.\n{text}"


@contextmanager
def _client(api_url: str) -> Iterator[SyncPrefectClient]:
    """Talk to that server, whatever the environment says; its refusals become one sentence."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}):
        try:
            with get_client(sync_client=True) as client:
                yield client
        except PrefectHTTPStatusError as error:
            status = error.response.status_code
            hint = ": set PREFECT_API_AUTH_STRING" if status == 401 else ""
            raise Permanent(
                f"the Prefect server at {api_url} answered HTTP {status}{hint}"
            ) from error
        except (httpx.HTTPError, RuntimeError) as error:
            raise Transient(f"the Prefect server at {api_url} does not answer: {error}") from error


def _ensure_pool(client: SyncPrefectClient, pool: Pool, kind: PoolKind, image: str | None) -> str:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    name = pool_name(pool)
    template = _kubernetes_template(client, pool, image) if image else None
    try:
        there = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=kind,
                base_job_template=template or {},
                concurrency_limit=RUNS_AT_ONCE[pool],
                description=f"cratedig's {pool} flows; made by `cratedig deploy`.",
            )
        )
        return name
    if there.type != kind:
        raise Permanent(
            f"the work pool {name} is of type {there.type}, not {kind}: delete it first "
            f"(`prefect work-pool delete {name}`), or deploy to another Prefect server"
        )
    if template is not None and template != there.base_job_template:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return name


def _kubernetes_template(
    client: SyncPrefectClient, pool: Pool, image: str | None
) -> dict[str, Any]:
    """Return Prefect's own template for jobs, with our image, keys, project and resources."""
    views = client.request(
        "GET", "/collections/views/{view}", path_params={"view": "aggregate-worker-metadata"}
    ).json()
    template: dict[str, Any] = views["prefect-kubernetes"]["kubernetes"][
        "default_base_job_configuration"
    ]
    properties = template["variables"]["properties"]
    for variable, value in {**_RESOURCES[pool], "image": image}.items():
        properties[variable]["default"] = value
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["securityContext"] = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
    # A run writes beside project.toml, and a config map cannot be written to.
    pod["volumes"] = [
        {"name": "work", "emptyDir": {}},
        {"name": "project", "configMap": {"name": CONFIG_MAP}},
    ]
    container = pod["containers"][0]
    container["envFrom"] = [{"secretRef": {"name": SECRET}}]
    container["volumeMounts"] = [
        {"name": "work", "mountPath": PROJECT_DIR},
        {
            "name": "project",
            "mountPath": f"{PROJECT_DIR}/project.toml",
            "subPath": "project.toml",
            "readOnly": True,
        },
    ]
    return template


def _deployed(client: SyncPrefectClient, project: Project) -> dict[str, DeploymentResponse]:
    """Return what this project has at the server, by full name."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=tags(project)))
    found: list[DeploymentResponse] = []
    page = 200
    while True:
        more = client.read_deployments(deployment_filter=wanted, limit=page, offset=len(found))
        found += more
        if len(more) < page:
            break
    flows = {each.flow_id: client.read_flow(each.flow_id).name for each in found}
    return {f"{flows[each.flow_id]}/{each.name}": each for each in found}


def _refuse_foreign(client: SyncPrefectClient, row: Deployed) -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        there = client.read_deployment_by_name(row.full_name)
    except ObjectNotFound:
        return
    raise Permanent(
        f"{row.full_name} at this Prefect server belongs to another project (its tags: "
        f"{', '.join(there.tags) or 'none'}): use another server, or delete it there first"
    )


def _apply(
    row: Deployed,
    project: Project,
    project_dir: str,
    studio_url: str | None,
    there: DeploymentResponse | None,
) -> None:
    from prefect.deployments.runner import DeploymentApplyError

    try:
        made(
            row,
            project,
            studio_url=studio_url,
            job_variables=_job_variables(project_dir),
            # Else Prefect would start again what somebody has paused.
            paused=there.paused if there else None,
        ).apply()
    except DeploymentApplyError as error:
        raise Permanent(f"Prefect did not take the deployment {row.full_name}: {error}") from error


def _entrypoint(row: Deployed) -> str:
    return f"{row.flow.fn.__module__}.{row.flow.fn.__name__}"


def _job_variables(project_dir: str) -> dict[str, Any]:
    return {"env": {"CRATEDIG_PROJECT": project_dir}}


def _ensure_automation(client: SyncPrefectClient) -> None:
    """Have runs marked crashed that have been silent for `SILENT_S`: their machine is gone."""
    wanted = _zombie_automation()
    there = client.read_automations_by_name(ZOMBIES)
    if not there:
        client.create_automation(wanted)
    elif _facts(wanted) != _facts(there[0]):
        client.update_automation(there[0].id, wanted)


def _zombie_automation() -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    beat = "prefect.flow-run.heartbeat"
    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name=ZOMBIES,
        description=f"A run that has told nothing for {SILENT_S} s is marked as crashed.",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{each}" for each in ends)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"The run has told nothing for {SILENT_S} s: its machine is taken for gone.",
            )
        ],
    )


def _facts(automation: AutomationCore) -> Mapping[str, Any]:
    """Return what must agree; ids that the server adds are left out."""
    body = automation.model_dump(mode="json", include={"trigger", "actions", "description"})
    text = re.sub(r'"id": "[^"]*"', '"id": null', json.dumps(body, sort_keys=True))
    facts: Mapping[str, Any] = json.loads(text)
    return facts
