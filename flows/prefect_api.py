"""The Prefect server over its REST interface: the one place where the product asks it for anything.

    server                 `PrefectServer.of(settings)`, `version`, `secret`
    its pages              `pages_url`, `deployment_url`, `FlowRun.address`
    deployments            `deployment`, `collectors`, `pause`
    runs                   `start`, `runs`, `latest_runs`, `progress`

Prefect's own client takes seconds to import and a hundred megabytes, which a page or a command need
not pay; only what registers deployments (`flows.deploy`) and what runs as a flow has it.
https://docs.prefect.io/v3/api-ref/rest-api
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import AliasPath, BaseModel, Field, SecretStr, TypeAdapter, ValidationError

from flows.errors import Transient

if TYPE_CHECKING:  # the settings ask this module for secrets
    from flows.settings import Settings

TIMEOUT_S = 5.0
PAGE_TIMEOUT_S = 2.0
"""For a page that shows what Prefect says beside much else, and waits for it."""

COLLECT = "collect"
"""The flow whose deployments are named for the sources (`flows.deployments`)."""

_SOON_S = 5.0  # clocks differ a little

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_STATES: Mapping[str, State] = {
    "SCHEDULED": "waiting",
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELLING": "running",
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
}


class PrefectAway(Transient):
    """The Prefect server does not answer, or not as one does; what to do is said."""


class Deployment(BaseModel):
    """A flow that can be run, with its schedule."""

    id: str
    name: str
    tags: list[str]
    paused: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """One run: its state in our words, and in Prefect's with its message."""

    id: str
    name: str
    state: State
    state_name: str
    """As Prefect's pages call it: `Late`, `Crashed`, ..."""
    message: str
    started_at: datetime
    """When it was asked for, while it waits."""
    ended_at: datetime | None
    address: str
    """Its page."""

    @property
    def said(self) -> str:
        """What Prefect says of its state."""
        return ": ".join(filter(None, (self.state_name, self.message)))


class _Run(BaseModel):
    """A run as the server gives it; one that has just been made has no state yet."""

    id: str
    name: str
    created: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    state_type: str | None = None
    state_name: str | None = None
    message: str | None = Field(default=None, validation_alias=AliasPath("state", "message"))


class _Artifact(BaseModel):
    data: float | None = None
    description: str | None = None


class _Document(BaseModel):
    """A block; what a `Secret` holds may be any JSON."""

    value: Any = Field(validation_alias=AliasPath("data", "value"))


_RUN = TypeAdapter(_Run)
_RUNS = TypeAdapter(list[_Run])
_DEPLOYMENT = TypeAdapter(Deployment)
_DEPLOYMENTS = TypeAdapter(list[Deployment])
_ARTIFACTS = TypeAdapter(list[_Artifact])
_DOCUMENT = TypeAdapter(_Document)
_VERSION = TypeAdapter(str)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrefectServer:
    """A Prefect server. Every method that asks it raises PrefectAway."""

    api_url: str
    """Ends in `/api`."""
    pages_url: str
    """Where people look at it."""
    timeout_s: float = TIMEOUT_S

    @classmethod
    def of(cls, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> PrefectServer | None:
        """Return the server that the settings name, or None."""
        if settings.prefect_api_url is None or settings.prefect_pages is None:
            return None
        return cls(
            api_url=settings.prefect_api_url,
            pages_url=settings.prefect_pages,
            timeout_s=timeout_s,
        )

    # --- the server

    def version(self) -> str:
        """Return the version of Prefect that it runs."""
        version: str = self._ask("/admin/version", _VERSION)
        return version

    def secret(self, block: str) -> SecretStr | None:
        """Return what the `Secret` block of that name holds; None when there is none with any text."""
        path = f"/block_types/slug/secret/block_documents/name/{quote(block, safe='')}"
        try:
            found: _Document = self._ask(f"{path}?include_secrets=true", _DOCUMENT)
        except _NotThere:
            return None
        value = found.value
        return SecretStr(value) if isinstance(value, str) and value else None

    # --- deployments

    def deployments_url(self, project: str) -> str:
        """Return the page of a project's deployments alone: others may share the server."""
        return f"{self.pages_url}/deployments?deployments.tags.name={quote(project, safe='')}"

    def deployment_url(self, deployment: Deployment) -> str:
        """Return the page of a deployment, with its schedules and runs."""
        return f"{self.pages_url}/deployments/deployment/{deployment.id}"

    def deployment(self, full_name: str, *, project: str) -> Deployment | None:
        """Return the project's deployment `FLOW/NAME`; None when there is none, or another's."""
        flow, _, name = full_name.partition("/")
        path = f"/deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"
        try:
            found: Deployment = self._ask(path, _DEPLOYMENT)
        except _NotThere:
            return None
        return found if project in found.tags else None

    def collectors(self, project: str) -> dict[str, Deployment]:
        """Return the deployments that crawl, by the name of their source."""
        asked = {
            "deployments": {"tags": {"all_": ["cratedig", project]}},
            "flows": {"name": {"any_": [COLLECT]}},
            "limit": 200,
        }
        found: list[Deployment] = self._ask("/deployments/filter", _DEPLOYMENTS, asked)
        return {each.name: each for each in found}

    def pause(self, deployment: Deployment, *, paused: bool) -> None:
        """Let the deployment's schedule rest, or go on."""
        verb = "pause" if paused else "resume"
        self._send(f"/deployments/{deployment.id}/{verb}_deployment", {})

    # --- runs

    def start(self, deployment: Deployment, parameters: Mapping[str, Any] | None = None) -> FlowRun:
        """Have it run as soon as a worker is free."""
        asked = {"state": {"type": "SCHEDULED"}, "parameters": dict(parameters or {})}
        path = f"/deployments/{deployment.id}/create_flow_run"
        return self._shown(self._ask(path, _RUN, asked))

    def runs(self, deployment: Deployment, *, limit: int = 20) -> list[FlowRun]:
        """Return its last runs, newest first, without those that a schedule has yet to begin."""
        # A schedule's runs are made days ahead; one that is due by now waits like any other.
        due = datetime.now(UTC) + timedelta(seconds=_SOON_S)
        return self._runs(
            {
                "deployments": {"id": {"any_": [deployment.id]}},
                "flow_runs": {"expected_start_time": {"before_": due.isoformat()}},
                "sort": "EXPECTED_START_TIME_DESC",
                "limit": limit,
            }
        )

    def latest_runs(self, project: str, *, limit: int = 8) -> list[FlowRun]:
        """Return the runs of the project that began last, the latest first."""
        return self._runs(
            {
                "flow_runs": {
                    "tags": {"all_": ["cratedig", project]},
                    "state": {"type": {"not_any_": ["SCHEDULED", "PENDING"]}},
                },
                "sort": "START_TIME_DESC",
                "limit": limit,
            }
        )

    def progress(self, run: FlowRun, key: str) -> tuple[float, str]:
        """Return the percentage and the words of a run's progress artifact; (0, "") without one."""
        asked = {
            "artifacts": {"flow_run_id": {"any_": [run.id]}, "key": {"any_": [key]}},
            "sort": "CREATED_DESC",
            "limit": 1,
        }
        found: list[_Artifact] = self._ask("/artifacts/filter", _ARTIFACTS, asked)
        return (found[0].data or 0.0, found[0].description or "") if found else (0.0, "")

    def _runs(self, asked: Mapping[str, Any]) -> list[FlowRun]:
        found: Sequence[_Run] = self._ask("/flow_runs/filter", _RUNS, asked)
        return [self._shown(each) for each in found]

    def _shown(self, found: _Run) -> FlowRun:
        return FlowRun(
            id=found.id,
            name=found.name,
            state=_STATES.get(found.state_type or "SCHEDULED", "failed"),
            state_name=found.state_name or "",
            message=found.message or "",
            started_at=found.start_time or found.created,
            ended_at=found.end_time,
            address=f"{self.pages_url}/runs/flow-run/{found.id}",
        )

    # --- asking

    def _ask(self, path: str, kind: TypeAdapter[Any], body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - what `kind` says
        try:
            return kind.validate_json(self._send(path, body))
        except ValidationError as error:
            # Never what it sent: that may be a secret.
            wrong = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(each) for each in wrong["loc"])
            raise PrefectAway(
                f"{self.api_url} does not answer as a Prefect server of version 3 does "
                f"({where or 'its answer'}: {wrong['msg']}): set CRATEDIG_PREFECT_API_URL to the "
                "address of its API, which ends in /api"
            ) from None

    def _send(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        """GET, or POST a body of JSON."""
        request = urllib.request.Request(  # noqa: S310 - the settings admit http and https only
            self.api_url.rstrip("/") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", **authorization()},
        )
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(path.partition("?")[0], error) from None
        except (OSError, http.client.HTTPException) as error:
            # urllib wraps what the system said.
            reason = getattr(error, "reason", error)
            said = getattr(reason, "strerror", None) or reason
            raise PrefectAway(
                f"the Prefect server at {self.api_url} does not answer: {said}; start it, or set "
                "CRATEDIG_PREFECT_API_URL to where it is"
            ) from None

    def _refused(self, path: str, error: urllib.error.HTTPError) -> PrefectAway:
        server = f"the Prefect server at {self.api_url}"
        if error.code in (401, 403):
            given = next((each for each in _CREDENTIALS if os.environ.get(each)), None)
            said = (
                f"{server} does not accept {given}: set it to what the server expects"
                if given
                else f"{server} wants to know who asks: set PREFECT_API_AUTH_STRING to its "
                "user:password"
            )
            return PrefectAway(said)
        if 300 <= error.code < 400:
            elsewhere = error.headers.get("location", "elsewhere")
            return PrefectAway(
                f"{server} sends on to {elsewhere}: set CRATEDIG_PREFECT_API_URL to the address of "
                "the API itself"
            )
        said = f"{server} answered {error.code} to {path}: its log says why"
        return _NotThere(said) if error.code == 404 else PrefectAway(said)


class _NotThere(PrefectAway):
    """It answered 404."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Followed, a redirect would take the password along, and lose the body."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as it is overridden
        """Follow none."""


# A proxy of the environment is for the web, not for a server of one's own.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

_CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


def authorization() -> dict[str, str]:
    """Return what Prefect's own client would send: it reads the same variables."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    return {}
