"""Commands for those who run cratedig for others: upgrades."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.cli_options import HERE, ProjectDir
from flows.progress import progress_bar


def migrate(
    *,
    check: Annotated[
        bool, Parameter(negative="", help="Only say what would be done; 1 when there is something.")
    ] = False,
    project: ProjectDir = HERE,
) -> int:
    """Bring the tables of an earlier version up to date; every command does it by itself, too."""
    from flows import migrations
    from flows.objects import ObjectStore
    from flows.rows import SCHEMA_VERSION
    from flows.settings import Settings

    store = ObjectStore(Settings.load(project.resolve()))
    if check:
        found = list(migrations.pending(store))
    else:
        store.probe()
        found = migrations.migrate(store, look_at_all=True, watch=progress_bar)
    for each in found:
        print(each)
    if not found:
        print(f"every table is of schema {SCHEMA_VERSION}")
    return int(check and bool(found))


COMMANDS = (migrate,)
"""What `flows.cli` registers."""
