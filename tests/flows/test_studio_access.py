"""Who may talk to the studio."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from flows.errors import Permanent
from flows.studio.access import Access, access_for, is_loopback

TOKEN = "a-token-of-some-length"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the address that is to be refused


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRATEDIG_STUDIO_TOKEN", raising=False)
    monkeypatch.delenv("CRATEDIG_STUDIO_HOSTS", raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(host: str) -> None:
    assert access_for(host).token is None


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.2", "studio.example", "127.example"])
def test_anywhere_else_is_refused_without_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(Permanent, match="CRATEDIG_STUDIO_TOKEN"):
        access_for(host)


def test_anywhere_else_is_allowed_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRATEDIG_STUDIO_TOKEN", TOKEN)
    access = access_for(EVERYWHERE)
    assert access.accepts(TOKEN)
    assert not access.accepts(TOKEN + "x")


def test_a_token_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRATEDIG_STUDIO_TOKEN", "short")
    with pytest.raises(Permanent, match="too short"):
        access_for("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8765", True),
        ("localhost", True),
        ("[::1]:8765", True),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("", False),
    ],
)
def test_only_loopback_names_are_the_studios_own(host: str, known: bool) -> None:
    assert Access().knows_host(host) is known


def test_names_of_a_reverse_proxy_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRATEDIG_STUDIO_TOKEN", TOKEN)
    monkeypatch.setenv("CRATEDIG_STUDIO_HOSTS", "studio.example, other.example")
    access = access_for("127.0.0.1")
    assert access.knows_host("studio.example")
    assert not access.knows_host("evil.example")


def test_the_token_is_in_no_repr_and_not_in_the_cookie() -> None:
    access = Access(token=SecretStr(TOKEN))
    assert TOKEN not in repr(access)
    assert TOKEN not in access.cookie()
