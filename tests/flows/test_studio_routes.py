"""What holds for every route of the studio, so that a new one cannot be forgotten."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import SecretStr

from flows.studio.access import Access
from flows.studio.app import create_app
from flows.studio.security import MAX_PICTURES_BYTES
from tests.flows.judged import Judged
from tests.flows.studio_data import serving

TOKEN = "a-token-of-some-length"
OURS = {"x-cratedig-studio": "1"}
OPEN = {"/login", "/api/session"}
"""What one needs in order to sign in."""

HOSTILE = (
    "../../project.toml",
    "..\\..\\project.toml",
    "/etc/passwd",
    "s3://another-bucket/key",
    "file:///etc/passwd",
    "images.lance/../.cratedig/local.env",
    "' OR 1=1 --",
    "%00",
    "\r\nset-cookie: a=b",
    "<script>alert(1)</script>",
    "9" * 400,
    "-1",
    "NaN",
    "\uff46\u202e\U0001f4a5",
)

MIGHT_ANSWER = {"text/html", "application/json", "image/jpeg", "text/plain"}
"""No picture but JPEGs made here: an SVG, or what a site sent, could bring scripts along."""

ROUTES = [
    each
    for each in iter_route_contexts(create_app(Path("nowhere")).routes)
    if getattr(each, "methods", None)
]
READING = [each for each in ROUTES if "GET" in (each.methods or ())]
CHANGING = [each for each in ROUTES if not {"GET", "HEAD"} & set(each.methods or ())]


def by_path(route: RouteContext) -> str:
    """Name a case by its route."""
    return str(route.path)


def address_of(route: RouteContext, value: str) -> str:
    """Return the route's path with `value` for each of its parameters."""
    return re.sub(r"\{[^}]+\}", quote(value, safe=""), str(route.path))


def query_names(route: RouteContext) -> set[str]:
    """Return what may be asked for after the route's question mark."""

    def names(dependant: Dependant) -> set[str]:
        nested = (names(each) for each in dependant.dependencies)
        return {each.alias for each in dependant.query_params}.union(*nested)

    original = route.original_route
    return names(original.dependant) if isinstance(original, APIRoute) else set()


@pytest.fixture(scope="module")
def studio(judged: Judged) -> Iterator[httpx.Client]:
    """A studio with pictures, decisions and a model."""
    with (
        serving(judged.root) as address,
        httpx.Client(base_url=address, trust_env=False, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A studio of a folder without a project: what is refused is refused before it is read."""
    with (
        serving(tmp_path_factory.mktemp("no-project")) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A studio with a token."""
    access = Access(token=SecretStr(TOKEN), hosts=frozenset())
    with (
        serving(tmp_path_factory.mktemp("no-project"), access) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        yield client


def test_the_walk_knows_the_routes() -> None:
    """Were the list empty, everything below would hold."""
    assert {"/", "/images/{sha256}", "/api/images/{sha256}/neighbours"} <= {
        each.path for each in READING
    }
    assert {"/api/decisions", "/api/sources/{name}/run"} <= {each.path for each in CHANGING}


@pytest.mark.parametrize("route", ROUTES, ids=by_path)
def test_every_answer_forbids_what_is_inline_or_from_elsewhere(
    bare: httpx.Client, route: RouteContext
) -> None:
    """Also where it refuses: to a GET of what only takes a POST, or of an id that is none."""
    answer = bare.get(address_of(route, "no-such-thing"))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("route", CHANGING, ids=by_path)
def test_no_change_is_made_for_a_form_of_another_site(
    bare: httpx.Client, route: RouteContext
) -> None:
    for method in route.methods or ():
        assert bare.request(method, address_of(route, "a"), json={}).status_code == 403


@pytest.mark.parametrize("route", CHANGING, ids=by_path)
def test_no_body_may_be_of_any_size(bare: httpx.Client, route: RouteContext) -> None:
    address = urlsplit(str(bare.base_url))
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    connection.putrequest("POST", address_of(route, "a"))
    for name, value in {**OURS, "content-length": str(MAX_PICTURES_BYTES + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("route", ROUTES, ids=by_path)
def test_with_a_token_nobody_else_gets_further_than_the_door(
    locked: httpx.Client, route: RouteContext
) -> None:
    if route.path in OPEN:
        return
    for method in route.methods or ():
        answer = locked.request(method, address_of(route, "a"), headers=OURS)
        assert answer.status_code == 401


@pytest.mark.parametrize("route", READING, ids=by_path)
def test_hostile_values_get_no_further_than_their_parameter(
    studio: httpx.Client, judged: Judged, route: RouteContext
) -> None:
    """Neither a 5xx, nor a header or a script of theirs, nor a word of the project's files."""
    secret = judged.workspace.settings.secret_key
    assert secret is not None
    in_path = "{" in str(route.path)
    for value in HOSTILE:
        wanted: list[tuple[str, dict[str, str]]] = []
        if in_path:
            wanted.append((address_of(route, value), {}))
        wanted += [(address_of(route, "0" * 64), {name: value}) for name in query_names(route)]
        for path, query in wanted:
            answer = studio.get(path, params=query)
            assert answer.status_code < 500, (path, query, answer.text[:300])
            assert answer.headers["content-type"].partition(";")[0] in MIGHT_ANSWER
            assert "set-cookie" not in answer.headers
            assert secret.get_secret_value() not in answer.text
            assert "root:x:0" not in answer.text
            if answer.headers["content-type"].startswith("text/html"):
                assert "<script>alert" not in answer.text


@pytest.mark.parametrize("route", CHANGING, ids=by_path)
def test_hostile_values_change_nothing(
    studio: httpx.Client, judged: Judged, route: RouteContext
) -> None:
    """Of a path's parameter: what is there is not called that, and there is no 5xx."""
    if "{" not in str(route.path):
        return
    before = judged.workspace.catalog.versions()
    for value in HOSTILE:
        answer = studio.post(address_of(route, value), json={}, headers=OURS)
        assert 400 <= answer.status_code < 500, (value, answer.text[:300])
    assert judged.workspace.catalog.versions() == before


@pytest.mark.parametrize("size", ["thumbnail", "display", "original"])
def test_a_picture_is_never_the_bytes_that_a_site_sent(
    studio: httpx.Client, judged: Judged, size: str
) -> None:
    sha256 = min(judged.pictures)
    answer = studio.get(f"/pictures/{sha256}/{size}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert answer.content != judged.workspace.catalog.read_image_bytes(sha256)


def test_an_svg_is_no_picture_to_search_by(studio: httpx.Client) -> None:
    drawn = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    answer = studio.post("/api/search/picture", content=drawn, headers=OURS)
    assert answer.status_code == 422


def test_tokens_cannot_be_tried_without_end(locked: httpx.Client) -> None:
    tried = [
        locked.post("/api/session", json={"token": f"guess-{number}"}, headers=OURS)
        for number in range(30)
    ]
    assert tried[0].status_code == 403
    assert tried[-1].status_code == 429
    assert int(tried[-1].headers["retry-after"]) > 0
