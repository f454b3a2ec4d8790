"""Settings: where the project's store and services are, and the keys to them; read once.

They come from `CRATEDIG_` variables of the environment, then from `.env` beside `project.toml`,
then from `.cratedig/local.env`, which the local stack writes, then from files of secrets. A secret
for which a Prefect `Secret` block is named comes from there, whatever else is set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import NoStore, SettingsInvalid
from flows.prefect_api import PrefectAway, PrefectServer

LOCAL_ENV = Path(".cratedig") / "local.env"
"""What the local stack writes, relative to the project's folder."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


FROM_ENVIRONMENT = SettingsConfigDict(
    env_prefix="CRATEDIG_",
    env_ignore_empty=True,
    env_file_encoding="utf-8",
    # A folder's .env may hold other programs' variables.
    extra="ignore",
    frozen=True,
    hide_input_in_errors=True,
)
"""How every group of settings is read: CRATEDIG_ variables, without their values in errors."""


class Places(TypedDict):
    """Where values come from beside the environment, as pydantic-settings takes it."""

    _env_file: tuple[Path, ...]
    _secrets_dir: str | None


def places(root: Path) -> Places:
    """Return where the project in `root` has its settings.

    CRATEDIG_SECRETS_DIR names a folder of files such as `cratedig_secret_key`, as Docker and
    Kubernetes mount secrets.
    """
    return {
        "_env_file": (root / LOCAL_ENV, root / ".env"),
        "_secrets_dir": os.environ.get("CRATEDIG_SECRETS_DIR"),
    }


class Settings(BaseSettings):
    """Where things are. Keys are `SecretStr`: they appear in no repr, log or error."""

    model_config = FROM_ENVIRONMENT

    endpoint: str | None = None
    """The address of the S3-compatible store."""
    region: str = "us-east-1"
    """The store's region; stores that are not AWS mostly take any."""
    access_key: SecretStr | None = None
    """The key to the store."""
    secret_key: SecretStr | None = None
    """The secret that belongs to it."""
    bucket: str = "cratedig"
    """The bucket in which the project lies."""
    prefix: Annotated[str, Field(description="keys begin with it; without slashes around it")] = ""
    """Keys begin with it, so that several projects share a bucket; without slashes around it."""
    prefect_api_url: str | None = None
    """The Prefect server's API, ending in `/api`."""
    prefect_ui_url: str | None = None
    """Where people find Prefect's pages, where that is not the API's own address."""
    studio_url: str | None = None
    """Where people find the studio: for links in e-mails and artifacts."""

    @field_validator("endpoint", "prefect_api_url", "prefect_ui_url", "studio_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that starts with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "keys do not belong in an address; set CRATEDIG_ACCESS_KEY and _SECRET_KEY"
            )
        return value.rstrip("/")

    @field_validator("bucket")
    @classmethod
    def _is_bucket(cls, value: str) -> str:
        if not _BUCKET.fullmatch(value):
            raise ValueError(
                "expected a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens"
            )
        return value

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        return value.strip("/")

    @property
    def prefect_pages(self) -> str | None:
        """Where people find the Prefect server's pages; its own address unless another is set."""
        if self.prefect_ui_url is not None or self.prefect_api_url is None:
            return self.prefect_ui_url
        return self.prefect_api_url.removesuffix("/api")

    @classmethod
    def are_given(cls, root: Path) -> bool:
        """Say whether the project in `root` has an object store set up, rightly or wrongly."""
        try:
            cls.load(root)
        except NoStore:
            return False
        except (SettingsInvalid, PrefectAway):
            return True
        return True

    @classmethod
    def load(cls, root: Path) -> Self:
        """Return the settings of the project in `root`.

        Raises NoStore when the endpoint or a key is missing, SettingsInvalid when a value is not
        usable, PrefectAway when a key lies in a Prefect block and the server does not give it.
        """
        try:
            settings = cls(**places(root), **from_blocks(cls, root))
        except ValidationError as error:
            # Never the value: it may be a secret.
            said = "; ".join(
                f"CRATEDIG_{'_'.join(str(part) for part in each['loc']).upper()}: "
                + each["msg"].removeprefix("Value error, ")
                for each in error.errors(include_input=False)
            )
            raise SettingsInvalid(said) from None
        missing = [
            f"CRATEDIG_{name.upper()}"
            for name in ("endpoint", "access_key", "secret_key")
            if getattr(settings, name) is None
        ]
        if missing:
            raise NoStore(
                f"no object store is set up for {root}: run `cratedig up` for a local one, "
                f"or set {', '.join(missing)}"
            )
        return settings


class SecretBlocks(BaseSettings):
    """The names of Prefect `Secret` blocks, each for the secret that its own name ends in."""

    model_config = FROM_ENVIRONMENT

    access_key_block: str | None = None
    """The Prefect `Secret` block that holds the key to the store."""
    secret_key_block: str | None = None
    """The block that holds the secret that belongs to it."""
    smtp_password_block: str | None = None
    """The block that holds the password for the mail server."""
    webhook_url_block: str | None = None
    """The block that holds the address of the chat's hook."""
    copy_access_key_block: str | None = None
    """The block that holds the key to the store that `cratedig copy` writes to."""
    copy_secret_key_block: str | None = None
    """The block that holds the secret that belongs to that."""

    @classmethod
    def named(cls, root: Path) -> dict[str, str]:
        """Return the names that the project in `root` gives, by the field of the secret."""
        found: dict[str, str] = cls(**places(root)).model_dump(exclude_none=True)
        return {field.removesuffix("_block"): block for field, block in found.items()}


_fetched: set[str] = set()


def fetched_secrets() -> frozenset[str]:
    """Return the secrets that this process has had from Prefect blocks: they are not to be logged."""
    return frozenset(_fetched)


def from_blocks(kind: type[BaseSettings], root: Path) -> dict[str, Any]:
    """Return those secrets of `kind` that lie in Prefect blocks, as its initialiser takes them.

    Raises SettingsInvalid when a block or the server is missing, PrefectAway when the server does not
    answer.
    """
    named = SecretBlocks.named(root)
    wanted = {field: block for field, block in named.items() if field in kind.model_fields}
    if not wanted:
        return {}
    server = PrefectServer.of(Settings(**places(root)))
    secrets = {}
    for field, block in wanted.items():
        variable = f"CRATEDIG_{field.upper()}"
        if server is None:
            raise SettingsInvalid(
                f"{variable}_BLOCK names a Prefect block, and there is no Prefect server: set "
                "CRATEDIG_PREFECT_API_URL"
            )
        secret = server.secret(block)
        if secret is None:
            raise SettingsInvalid(
                f"{variable}_BLOCK: the Prefect server at {server.api_url} has no Secret block "
                f"{block!r} with a text in it: make it in its pages, under Blocks, or set "
                f"{variable} instead"
            )
        _fetched.add(secret.get_secret_value())
        secrets[field] = secret
    return secrets


def project_root() -> Path:
    """Return the project's folder for a process that nobody told: CRATEDIG_PROJECT, or here."""
    return Path(os.environ.get("CRATEDIG_PROJECT", ".")).resolve()
