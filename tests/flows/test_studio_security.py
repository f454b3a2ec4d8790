"""What every answer of the studio carries, and which requests it refuses."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from flows.studio.access import Access
from flows.studio.security import COOKIE, MAX_BODY_BYTES
from tests.flows.studio_data import serving

TOKEN = "a-token-of-some-length"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the address that is to be refused
OURS = {"x-cratedig-studio": "1"}
DECISION = {"decisions": [{"id": "a" * 12, "sha256": "0" * 64, "label": "vinyl", "answer": "yes"}]}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A studio of a folder without a project: what is refused is refused before it is read."""
    with (
        serving(tmp_path_factory.mktemp("no-project")) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio with a token."""
    access = Access(token=SecretStr(TOKEN), hosts=frozenset())
    with serving(tmp_path_factory.mktemp("no-project"), access) as address:
        yield address


@pytest.mark.parametrize("path", ["/", "/login", "/static/studio.css", "/api/health", "/nowhere"])
def test_every_answer_carries_the_security_headers(studio: httpx.Client, path: str) -> None:
    headers = studio.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_refusal_carries_the_security_headers_too(studio: httpx.Client) -> None:
    answer = studio.get("/", headers={"host": "evil.example"})
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "169.254.1.1"])
def test_another_hosts_name_is_refused(studio: httpx.Client, host: str) -> None:
    answer = studio.get("/static/studio.css", headers={"host": host})
    assert answer.status_code == 421
    assert "does not go by the name" in answer.json()["detail"]


def test_localhost_with_a_port_is_the_studios_own_name(studio: httpx.Client) -> None:
    answer = studio.get("/static/studio.css", headers={"host": "localhost:1234"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a form of another site: it cannot add a header
        {**OURS, "origin": "http://evil.example"},
        {**OURS, "origin": "null"},
        {**OURS, "origin": "http://127.0.0.1:1"},  # another server on this machine
        {**OURS, "sec-fetch-site": "cross-site"},
        {**OURS, "sec-fetch-site": "same-site"},
    ],
)
def test_a_post_of_another_site_is_refused(studio: httpx.Client, headers: dict[str, str]) -> None:
    answer = studio.post("/api/decisions", json=DECISION, headers=headers)
    assert answer.status_code == 403


def test_a_post_of_the_studios_own_page_is_let_through(studio: httpx.Client) -> None:
    own = {**OURS, "origin": str(studio.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    answer = studio.post("/api/decisions", json=DECISION, headers=own)
    assert answer.status_code == 503  # there is no project: it was read, and not refused


def test_a_body_that_is_too_large_is_refused_unread(studio: httpx.Client) -> None:
    address = urlsplit(str(studio.base_url))
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    connection.putrequest("POST", "/api/decisions")
    for name, value in {**OURS, "content-length": str(MAX_BODY_BYTES + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_of_unknown_length_is_refused(studio: httpx.Client) -> None:
    answer = studio.post("/api/decisions", content=iter([b"{}"]), headers=OURS)
    assert answer.status_code == 411


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/..%2f..%2fproject.toml/thumbnail.jpg",
        "/pictures/abc/thumbnail.jpg",
        f"/pictures/{'A' * 64}/original.jpg",
        f"/pictures/{'a' * 64}%0a/display.jpg",
        "/images/nothing",
    ],
)
def test_an_id_that_is_no_sha256_is_refused(studio: httpx.Client, path: str) -> None:
    assert studio.get(path).status_code in {404, 422}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_there_are_no_pages_that_load_scripts_from_elsewhere(
    studio: httpx.Client, path: str
) -> None:
    assert studio.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/api/health", f"/pictures/{'a' * 64}/thumbnail.jpg", "/images"])
def test_with_a_token_nothing_is_shown_to_those_without_it(locked: str, path: str) -> None:
    assert httpx.get(locked + path, trust_env=False).status_code == 401


def test_with_a_token_a_browser_is_led_to_the_sign_in_page(locked: str) -> None:
    answer = httpx.get(f"{locked}/", headers={"accept": "text/html"}, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_bearer_of_the_token_is_let_in(locked: str) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{locked}/api/health", headers=bearer, trust_env=False).status_code == 503


def test_the_token_buys_a_cookie_that_no_script_can_read(locked: str) -> None:
    with httpx.Client(base_url=locked, trust_env=False) as client:
        answer = client.post("/api/session", json={"token": TOKEN}, headers=OURS)
        assert answer.status_code == 204
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert client.get("/api/health").status_code == 503


def test_a_wrong_token_buys_nothing(locked: str) -> None:
    answer = httpx.post(
        f"{locked}/api/session", json={"token": "wrong"}, headers=OURS, trust_env=False
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_made_up_cookie_is_refused(locked: str) -> None:
    answer = httpx.get(
        f"{locked}/api/health", headers={"cookie": f"{COOKIE}=guessed"}, trust_env=False
    )
    assert answer.status_code == 401


def test_the_program_does_not_listen_beyond_loopback_without_a_token(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name != "CRATEDIG_STUDIO_TOKEN"
    }
    ended = subprocess.run(
        [sys.executable, "-m", "flows.studio", "--project", str(tmp_path), "--host", EVERYWHERE],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "CRATEDIG_STUDIO_TOKEN" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_starting_imports_neither_torch_nor_scrapy() -> None:
    code = (
        "import sys, flows.studio.app, flows.studio.__main__; "
        "print(sorted({'torch', 'open_clip', 'scrapy', 'prefect', 'scipy'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == "[]"
