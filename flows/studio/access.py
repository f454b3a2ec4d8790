"""Who may talk to the studio: loopback alone, or whoever holds the token."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import hmac
import ipaddress

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import Permanent

MIN_TOKEN_CHARACTERS = 16
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class AccessSettings(BaseSettings):
    """The environment's `CRATEDIG_STUDIO_*`."""

    model_config = SettingsConfigDict(env_prefix="CRATEDIG_STUDIO_", extra="ignore")

    token: SecretStr | None = Field(default=None, min_length=MIN_TOKEN_CHARACTERS)
    """Asked of everyone; needed where the studio listens beyond loopback. 16 characters or more."""
    hosts: str = ""
    """Host names, comma-separated, by which people reach the studio; empty: any, with the token."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id that has no name
        return "studio"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a request must bring.

    Without a `token` the request's Host must be a loopback name: a page of another site that made
    its own name point here (DNS rebinding) still sends its own name. With a `token` every request
    brings it, as a bearer or in a cookie that belongs to one host name, so `hosts` may be empty.
    """

    token: SecretStr | None = None
    hosts: frozenset[str] = LOOPBACK_NAMES
    reviewer: str = dataclasses.field(default_factory=_user)

    def knows_host(self, host: str) -> bool:
        """Say whether `host`, a Host header, is a name that this studio goes by."""
        return not self.hosts or _without_port(host) in self.hosts

    def accepts(self, candidate: str) -> bool:
        """Say whether `candidate` is the token, in constant time."""
        if self.token is None:
            return False
        return hmac.compare_digest(self.token.get_secret_value().encode(), candidate.encode())

    def accepts_cookie(self, candidate: str) -> bool:
        """Say whether `candidate` is this studio's session cookie, in constant time."""
        return self.token is not None and hmac.compare_digest(self.cookie(), candidate)

    def cookie(self) -> str:
        """Return the session cookie's value, from which the token cannot be read back."""
        if self.token is None:
            raise ValueError("a studio without a token has no session")
        key = self.token.get_secret_value().encode()
        return hmac.new(key, b"cratedig studio session 1", hashlib.sha256).hexdigest()


def access_for(host: str) -> Access:
    """Return the rules for a studio that listens on `host`, read from the environment.

    Raises Permanent, one sentence, when `host` is not loopback and no token is set.
    """
    try:
        settings = AccessSettings()
    except ValidationError as error:
        raise Permanent(
            f"CRATEDIG_STUDIO_TOKEN is too short: use at least {MIN_TOKEN_CHARACTERS} characters, "
            "for example from `python -c 'import secrets; print(secrets.token_urlsafe())'`"
        ) from error
    named = frozenset(name.strip().lower() for name in settings.hosts.split(",") if name.strip())
    if settings.token is None:
        if not is_loopback(host):
            raise Permanent(
                f"the studio does not listen on {host} without a token, because anyone who reaches "
                "it could change labels: set CRATEDIG_STUDIO_TOKEN, or use --host 127.0.0.1"
            )
        return Access(hosts=LOOPBACK_NAMES | named)
    return Access(token=settings.token, hosts=(LOOPBACK_NAMES | named) if named else frozenset())


def is_loopback(host: str) -> bool:
    """Say whether `host`, a name or an address to listen on, is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
