"""Settings: where the project's store and services are, and the keys to them; read once.

They come from `CRATEDIG_` variables of the environment, then from `.env` beside `project.toml`,
then from `.cratedig/local.env`, which the local stack writes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import NoStore, SettingsInvalid

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


class Settings(BaseSettings):
    """Where things are. Keys are `SecretStr`: they appear in no repr, log or error."""

    model_config = FROM_ENVIRONMENT

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    bucket: str = "cratedig"
    prefix: Annotated[str, Field(description="keys begin with it; without slashes around it")] = ""
    prefect_api_url: str | None = None
    studio_url: str | None = None

    @field_validator("endpoint", "prefect_api_url", "studio_url")
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

    @classmethod
    def load(cls, root: Path) -> Self:
        """Return the settings of the project in `root`.

        Raises NoStore when the endpoint or a key is missing, SettingsInvalid when a value is not
        usable.
        """
        try:
            settings = cls(_env_file=(root / LOCAL_ENV, root / ".env"))
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


def project_root() -> Path:
    """Return the project's folder for a process that nobody told: CRATEDIG_PROJECT, or here."""
    return Path(os.environ.get("CRATEDIG_PROJECT", ".")).resolve()
