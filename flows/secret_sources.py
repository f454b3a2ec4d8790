"""Where each secret comes from, by the order in which the settings look; never what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
)

from flows.copy import CopySettings
from flows.notify import NotifySettings
from flows.settings import SecretBlocks, Settings, places
from flows.studio.access import AccessSettings


def secret_sources(root: Path) -> dict[str, str]:
    """Return for each variable of a secret that the project in `root` has where it comes from.

    Raises SettingsInvalid where the settings themselves cannot be read.
    """
    found = {}
    named = SecretBlocks.named(root)
    for kind in (Settings, NotifySettings, CopySettings, AccessSettings):
        prefix = kind.model_config.get("env_prefix", "")
        places_of_kind = [(where, source()) for where, source in _sources(kind, root)]
        for field, about in kind.model_fields.items():
            if not _is_secret(about):
                continue
            where = next((where for where, values in places_of_kind if values.get(field)), None)
            if field in named:
                unused = f"; what {where} says is not used" if where else ""
                where = f"the Prefect Secret block {named[field]!r}{unused}"
            if where:
                found[f"{prefix}{field}".upper()] = where
    return found


def _sources(
    kind: type[BaseSettings], root: Path
) -> Iterator[tuple[str, PydanticBaseSettingsSource]]:
    """Yield where values of `kind` are looked for, and in what order."""
    yield "the environment", EnvSettingsSource(kind)
    if kind is AccessSettings:
        return  # it is given to one process, and lies in no file
    where = places(root)
    for path in reversed(where["_env_file"]):
        yield str(path.relative_to(root)), DotEnvSettingsSource(kind, env_file=path)
    folder = where["_secrets_dir"]
    if folder and Path(folder).is_dir():
        yield f"a file in {folder}", SecretsSettingsSource(kind, secrets_dir=folder)


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))
